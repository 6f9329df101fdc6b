"""The same results in less time: kernels and a few library paths written anew.  Read this room last."""
