"""What the stages of training are, in which order they run, and which users teach them."""
