"""Rows that are gone although a store has written them: a backup is restored, a tombstone ends."""

from __future__ import annotations

import pytest
from anyio import create_task_group, fail_after

from helpers.postgres import check_heads
from helpers.postgres_faults import LONG
from tower_memory import SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio

SESSIONS = [f"session {number}" for number in range(20)]


@pytest.fixture
async def store(tables_url):
    async with PostgresSessionStore(tables_url) as store:
        yield store


async def append_to_all(store, items):
    """Append a turn to each session at the same time."""
    async with create_task_group() as group:
        for session_id in SESSIONS:
            group.start_soon(store.append, Turn(session_id, items))


async def test_sessions_that_a_restored_backup_lacks_begin_anew(store, postgres_tables):
    await append_to_all(store, ["lost", "lost"])
    postgres_tables.query("DELETE FROM memory_turn")
    postgres_tables.query("DELETE FROM memory_head")

    await append_to_all(store, ["new"])

    check_heads(postgres_tables)
    for session_id in SESSIONS:
        assert list(await store.load(session_id)) == ["new"]


async def test_an_erased_session_begins_anew_after_the_end_of_its_tombstone(store, postgres_tables):
    await store.append(Turn("s", ["erased", "erased"]))
    await store.erase(session_id="s")
    postgres_tables.query("DELETE FROM memory_head")

    await store.append(Turn("s", ["new"]))

    check_heads(postgres_tables)
    assert list(await store.load("s", limit=5)) == ["new"]


async def test_turns_that_a_restored_backup_lacks_are_not_counted(store, postgres_tables):
    await store.append(Turn("s", ["kept"]))
    (head,) = postgres_tables.query("SELECT * FROM memory_head")
    await store.append(Turn("s", ["lost"], turn_id="lost"))
    postgres_tables.query("DELETE FROM memory_turn WHERE turn_id = 'lost'")
    postgres_tables.query("DELETE FROM memory_head")
    postgres_tables.query(
        f"INSERT INTO memory_head VALUES ({', '.join(['%s'] * len(head))})", *head
    )

    await store.append(Turn("s", ["new"]))

    check_heads(postgres_tables)
    assert list(await store.load("s")) == ["kept", "new"]


async def test_a_load_of_a_session_whose_turns_are_missing_raises(
    store, postgres_tables, tables_url
):
    await store.append(Turn("s", ["lost"] * 4))
    await store.append(Turn("s", ["kept"]))
    postgres_tables.query("DELETE FROM memory_turn WHERE first = 0")
    async with PostgresSessionStore(tables_url) as other:
        with fail_after(LONG), pytest.raises(SessionError, match="turns are missing"):
            await other.load("s", limit=3)
        assert list(await other.load("s", limit=1)) == ["kept"]


async def test_a_load_of_a_session_that_has_lost_all_turns_raises(
    store, postgres_tables, tables_url
):
    await store.append(Turn("s", ["lost"] * 4))
    postgres_tables.query("DELETE FROM memory_turn")
    async with PostgresSessionStore(tables_url) as other:
        with fail_after(LONG), pytest.raises(SessionError, match="turns are missing"):
            await other.load("s", limit=3)
