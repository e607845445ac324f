"""Helpers that several tests share. Pytest finds them through its setting pythonpath."""
