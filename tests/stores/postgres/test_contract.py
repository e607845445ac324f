"""The check of a store's contract, on Postgres at every isolation level and through wrappers."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import product

import psycopg
import pytest

from helpers.postgres import ISOLATION_LEVELS, isolated
from tower_memory import MessageItem, Role, RunItem, ScopedStore, ToolCallItem, ToolOutputItem
from tower_memory.bridges import ThreadedStore
from tower_memory.postgres import PostgresSessionStore
from tower_memory.testing import check_session_store

GROUPS = [
    *("SessionStore", "SessionCatalog", "SessionSearch", "SessionErasure"),
    *("TurnJournal", "SessionSummaries"),
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN_ITEMS = [
    MessageItem("1", Role.USER, "What is 2 + 2?", NOW),
    ToolCallItem("2", "add", {"a": 2, "b": 2}, NOW),
    ToolOutputItem("3", "2", 4, None, NOW),
]


def runs():
    """Return the runtimes and isolation levels of the contract: two by default, the rest long."""
    default = [("asyncio", "serializable"), ("trio", "read committed")]
    every = product(["asyncio", "trio"], ISOLATION_LEVELS)
    return [pytest.param(*run, marks=() if run in default else pytest.mark.long) for run in every]


@pytest.mark.parametrize(("anyio_backend", "level"), runs())
async def test_the_store_keeps_the_contract_at_every_isolation_level(tables_url, level):
    url = isolated(tables_url, level)
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW transaction_isolation").fetchone() == (level,)

    async with PostgresSessionStore(url) as store:
        report = await check_session_store(lambda: nullcontext(store))
    assert report.groups == GROUPS


@pytest.mark.long
@pytest.mark.parametrize("search_index", [False, True])
@pytest.mark.parametrize("level", ISOLATION_LEVELS)
async def test_a_store_that_each_rule_opens_keeps_the_contract(tables_url, level, search_index):
    url = isolated(tables_url, level)
    report = await check_session_store(lambda: PostgresSessionStore(url, search_index=search_index))
    assert report.groups == GROUPS


@pytest.mark.long
async def test_a_store_with_a_search_index_keeps_the_contract_with_run_items(tables_url):
    parameters = {"item_type": RunItem, "search_index": True}
    async with PostgresSessionStore(tables_url, **parameters) as store:
        report = await check_session_store(lambda: nullcontext(store), items=RUN_ITEMS)
    assert report.groups == GROUPS


@pytest.mark.long
async def test_a_store_without_a_cache_keeps_the_contract(tables_url):
    async with PostgresSessionStore(tables_url, hot_bytes=0) as store:
        report = await check_session_store(lambda: nullcontext(store))
    assert report.groups == GROUPS


@pytest.mark.long
async def test_a_scoped_store_keeps_the_contract(tables_url):
    async with PostgresSessionStore(tables_url) as store:
        scoped = ScopedStore(ScopedStore(store, "a"), "b/1:c")
        report = await check_session_store(lambda: nullcontext(scoped))
    assert report.groups == GROUPS


@pytest.mark.long
async def test_a_threaded_store_keeps_the_contract(tables_url):
    report = await check_session_store(lambda: ThreadedStore(PostgresSessionStore(tables_url)))
    assert report.groups == GROUPS
