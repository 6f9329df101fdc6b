"""Metrics, intervals, slices and the report."""
