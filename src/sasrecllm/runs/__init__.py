"""A run folder: its files, its lock and seal, its parts, and the system that they make up."""
