"""Prompt templates, and batches of token ids whose slot positions are known by construction."""
