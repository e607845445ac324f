"""Which turns the store appends with one statement."""

from __future__ import annotations

import pytest
from anyio import create_task_group

from tower_memory import Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio


async def test_large_turns_are_appended_one_by_one(postgres_tables, tables_url):
    """The time of one large message to the server grows with the square of its size."""
    count, item = 6, "x" * 2**20
    async with PostgresSessionStore(tables_url) as store, create_task_group() as group:
        for number in range(count):
            group.start_soon(store.append, Turn(f"session {number}", [item]))

    found = postgres_tables.query("SELECT count(DISTINCT xmin::text), count(*) FROM memory_turn")
    assert found == [(count, count)]
