"""Which turns the store appends with one statement, and what it remembers of their sessions."""

from __future__ import annotations

import tracemalloc
from uuid import UUID

import pytest
from anyio import create_task_group

from helpers.postgres_internals import Head, RecentHeads
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


async def test_the_metadata_of_sessions_is_not_kept_in_memory(tables_url):
    """A writer keeps the heads of 10,000 sessions; metadata may be large."""
    async with PostgresSessionStore(tables_url, hot_bytes=0) as store:
        for number in range(20):
            await store.annotate(f"session {number}", {"note": "x" * 10**6}, create=True)
        tracemalloc.start()
        try:
            for number in range(20):
                await store.append(Turn(f"session {number}", ["a"]))
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 5 * 10**6


def test_a_writer_remembers_the_heads_that_it_wrote_last():
    recent, heads = RecentHeads(), [Head(UUID(int=n), b"", *range(11)) for n in range(10_001)]
    for head in heads:
        recent.add(head)

    assert recent.find(heads[0].session) is None
    assert recent.find(heads[1].session).head == heads[1]
    assert recent.find(heads[-1].session).head == heads[-1]
