"""Stores of any address, and checks that a store works after a failure."""

from __future__ import annotations

import pytest

from helpers.messages import assistant, user
from helpers.sqlite import FileContents
from helpers.sqlite_internals import writer_is_in_transaction
from tower_memory import SqliteSessionStore, Turn

ITEMS = [user("a"), assistant("b")]


every_shared_store = pytest.mark.parametrize("addresses", ["sqlite", "postgres"], indirect=True)
"""Mark of a test of stores that several processes may open; see the fixture `address`."""


def open_store(address, **parameters):
    """Return a store on the file or in the Postgres database that *address* names."""
    if str(address).startswith("postgresql:"):
        from tower_memory.postgres import PostgresSessionStore

        return PostgresSessionStore(str(address), **parameters)
    return SqliteSessionStore(address, **parameters)


def open_contents(address):
    """Return the rows of the store of *address*; see `FileContents`."""
    if str(address).startswith("postgresql:"):
        from helpers.postgres import DatabaseContents

        return DatabaseContents(address)
    return FileContents(address)


async def assert_store_works(store):
    """Fail unless *store* appends, loads, and has no transaction open."""
    revision = await store.append(Turn("other", ITEMS))
    assert (await store.load("other")).revision == revision
    assert not await writer_is_in_transaction(store)
