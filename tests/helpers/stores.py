"""Checks that a SQLite store works after a failure."""

from __future__ import annotations

from helpers.messages import assistant, user
from helpers.sqlite_internals import writer_is_in_transaction
from tower_memory import Turn

ITEMS = [user("a"), assistant("b")]


async def assert_store_works(store):
    """Fail unless *store* appends, loads, and has no transaction open."""
    revision = await store.append(Turn("other", ITEMS))
    assert (await store.load("other")).revision == revision
    assert not await writer_is_in_transaction(store)
