"""Scorers without a network: trivial ones, the user regression, and the channels of lists."""
