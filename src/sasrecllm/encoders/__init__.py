"""Collaborative encoders: a history to a vector, and a table of item vectors."""
