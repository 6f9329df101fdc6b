"""The language model with LoRA, the mapping layer and the injection of soft tokens."""
