"""The implementations that are compared, except for the other libraries: those are peers."""

from benchmarks.sides.base import Side
from benchmarks.sides.memory_layer import (
    TowerMemory,
    TowerMemoryAppending,
    request_for,
    scripted_reply,
)
from benchmarks.sides.raw_sqlite import (
    RawSqlite,
    RawSqliteBatching,
    RawSqliteBatchingFromAsyncio,
    RawSqliteFromAsyncio,
)

__all__ = [
    "BASELINES",
    "OURS",
    "RawSqlite",
    "RawSqliteBatching",
    "RawSqliteBatchingFromAsyncio",
    "RawSqliteFromAsyncio",
    "Side",
    "TowerMemory",
    "TowerMemoryAppending",
    "is_peer",
    "request_for",
    "scripted_reply",
]

OURS = TowerMemory.name
BASELINES = (
    RawSqlite.name,
    RawSqliteFromAsyncio.name,
    RawSqliteBatching.name,
    RawSqliteBatchingFromAsyncio.name,
)


def is_peer(name: str) -> bool:
    """Return True if *name* is the name of a side that is another library."""
    return name != OURS and name not in BASELINES
