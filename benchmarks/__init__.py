"""What a turn costs, as ratios measured in one run: ``python -m benchmarks``."""
