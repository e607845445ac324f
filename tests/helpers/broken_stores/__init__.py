"""For each rule of the store check, stores that break that rule and no other."""

from helpers.broken_stores import concurrent, erasure, items, journal, loads, metadata, turns
from helpers.broken_stores.items import PopsTheOldest
from helpers.broken_stores.registry import BROKEN

__all__ = [
    "BROKEN",
    "PopsTheOldest",
    "concurrent",
    "erasure",
    "items",
    "journal",
    "loads",
    "metadata",
    "turns",
]
