"""For each rule of the store check, stores that break that rule and no other."""

from helpers.broken_stores import (
    annotate,
    catalog,
    concurrent,
    erasure,
    fork,
    items,
    journal,
    loads,
    metadata,
    search,
    summaries,
    turns,
)
from helpers.broken_stores.items import PopsTheOldest
from helpers.broken_stores.registry import BROKEN

__all__ = [
    "BROKEN",
    "PopsTheOldest",
    "annotate",
    "catalog",
    "concurrent",
    "erasure",
    "fork",
    "items",
    "journal",
    "loads",
    "metadata",
    "search",
    "summaries",
    "turns",
]
