"""What one GPU does with a language model of a real size; see ``__main__``."""
