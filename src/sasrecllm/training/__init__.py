"""The one training loop, its tasks, and the strategies as data."""
