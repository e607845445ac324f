"""The probes: one program for each library, to be run in an environment of its own."""
