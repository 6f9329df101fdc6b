"""The one training loop, and its tasks."""
