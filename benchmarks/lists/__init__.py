"""The study of lists: what `recommend` serves, beside every channel alone and other people's models."""
