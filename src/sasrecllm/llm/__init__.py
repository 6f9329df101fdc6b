"""The language model: backbone, LoRA adapter, mapper, soft-token injection and scorer."""
