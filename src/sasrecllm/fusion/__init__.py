"""One score out of several: P(like) from logits, and the order of a list from channels."""
