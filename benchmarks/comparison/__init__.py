"""A comparison with six other libraries: see README.md."""
