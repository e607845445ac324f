"""Helpers for windows over a history."""

from __future__ import annotations


def ten(_item):
    """Count ten tokens for every item."""
    return 10
