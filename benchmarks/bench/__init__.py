"""``python -m benchmarks.bench``: what the package's ordinary paths cost, as ratios in one run."""
