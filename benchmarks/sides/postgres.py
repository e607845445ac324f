"""The interface of a side that keeps its sessions in a Postgres database, and the sides' names.

Their modules need psycopg; this module needs nothing.
"""

from __future__ import annotations

from benchmarks.sides.base import Side
from benchmarks.sides.memory_layer import TowerMemory

ON_ASYNCIO = TowerMemory.name
ON_TRIO = f"{TowerMemory.name}, trio"
WITH_SEARCH = f"{TowerMemory.name}, search_index=True"

POOL_SIZE = 10
RAW = "raw psycopg, one connection"
RAW_POOL = f"raw psycopg async, pool of {POOL_SIZE}"


class PostgresSide(Side):
    """A side with a database of its own, at the URL *conninfo*."""

    def __init__(self, conninfo: str, *, limit: int | None = None) -> None:
        self.conninfo = conninfo
        self.limit = limit
