"""Spans and metrics; the guide is the docstring of `tower_memory.tracing`."""
