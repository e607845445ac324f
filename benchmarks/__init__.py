"""The cost of a turn, as ratios measured within one run: ``python -m benchmarks``."""
