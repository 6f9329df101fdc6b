"""Trivial scorers that every table starts with."""
