"""Rows that cannot be decoded, and appends that have nothing to write."""

from __future__ import annotations

import pytest

from tower_memory import CorruptSessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tables_url):
    async with PostgresSessionStore(tables_url) as store:
        yield store


async def test_an_item_that_cannot_be_decoded_stays_after_pop(store, postgres_tables):
    await store.append(Turn("s", ["a"]))
    postgres_tables.query("UPDATE memory_turn SET items = %s", b'["')

    with pytest.raises(CorruptSessionError, match="session 's'"):
        await store.pop("s")

    assert postgres_tables.query("SELECT items FROM memory_turn") == [(b'["',)]


async def test_a_summary_that_cannot_be_decoded_is_an_error(store, postgres_tables):
    revision = await store.append(Turn("s", ["a"], turn_id="t"))
    await store.save_summary("s", "text", turn_id="t", since=revision)
    postgres_tables.query("UPDATE memory_summary SET summary = %s", b"\xff")

    with pytest.raises(CorruptSessionError, match="session 's'"):
        await store.load_summary("s")


async def test_a_turn_without_items_creates_no_session(store):
    assert await store.append(Turn("s", [])) == 0
    assert await store.describe("s") is None
