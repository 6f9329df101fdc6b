"""Prompts: text templates with named slots, and their assembly into token ids with slot positions."""
