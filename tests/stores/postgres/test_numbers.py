"""The numbers of a session, which rise even if the clock of another machine was ahead."""

from __future__ import annotations

import pytest

from helpers.postgres import check_heads
from tower_memory import SessionCleared, Turn
from tower_memory.postgres import PostgresSessionStore

AHEAD = 10**15
"""Microseconds that the clock of another machine is ahead: some thirty years."""


@pytest.fixture
async def store(tables_url):
    async with PostgresSessionStore(tables_url) as store:
        yield store


def write_from_the_future(tables):
    """Let the last write of each session be one of a machine whose clock is ahead."""
    tables.query(f"UPDATE memory_turn SET number = number + {AHEAD}")
    tables.query(
        f"UPDATE memory_head SET version = version + {AHEAD}, revision = revision + {AHEAD},"
        f" active = active + sign(active) * {AHEAD}, cleared = cleared + sign(cleared) * {AHEAD},"
        f" first_number = first_number + {AHEAD}"
    )


def version_of(tables, session_id):
    query = "SELECT version FROM memory_head WHERE session_id = %s"
    ((version,),) = tables.query(query, session_id.encode())
    return version


async def test_a_revision_rises_though_the_clock_was_ahead(postgres_tables, store):
    await store.append(Turn("s", [1, 2], turn_id="t"))
    write_from_the_future(postgres_tables)
    seen = [(await store.load("s")).revision]
    assert seen[0] > AHEAD

    seen.append(await store.append(Turn("s", [3])))
    for change in (store.pop, store.pop, store.clear):
        await change("s")
        seen.append((await store.load("s")).revision)
    seen.append(await store.append(Turn("s", [4], turn_id="t")))
    revision = seen[-1]
    seen.append(await store.append(Turn("s", [5], replaces="t", expected_revision=revision)))
    assert sorted({*seen}) == seen
    check_heads(postgres_tables)


@pytest.mark.parametrize("gone", ["clear", "erase"])
async def test_a_session_that_is_written_again_has_higher_numbers_than_before(
    postgres_tables, store, gone
):
    await store.append(Turn("s", [1]))
    write_from_the_future(postgres_tables)
    before = (await store.load("s")).revision
    await (store.clear("s") if gone == "clear" else store.erase(session_id="s"))
    after = (await store.load("s")).revision
    assert before < after < await store.append(Turn("s", [2]))
    with pytest.raises(SessionCleared):
        await store.append(Turn("s", [3], since=before))
    check_heads(postgres_tables)


async def test_each_write_beside_the_turns_gives_the_head_a_new_version(postgres_tables, store):
    """So a decision that another writer makes from the rows meanwhile is made anew."""
    revision = await store.append(Turn("s", [1], turn_id="t"))
    writes = [
        lambda: store.begin(Turn("s", [2], turn_id="u"), owner="me"),
        lambda: store.begin(Turn("s", [2], turn_id="u"), owner="me"),
        lambda: store.fail("s", "u", owner="me"),
        lambda: store.forget("s", "u"),
        lambda: store.begin(Turn("s", [2], turn_id="u")),
        lambda: store.append(Turn("s", [], turn_id="u")),  # it ends the pending turn
        lambda: store.annotate("s", {"a": 1}),
        lambda: store.save_summary("s", "text", turn_id="t", since=revision),
        lambda: store.fork("s", "other"),
    ]
    for write in writes:
        before = version_of(postgres_tables, "s")
        await write()
        assert version_of(postgres_tables, "s") > before
    assert (await store.load("s")).revision == revision
    check_heads(postgres_tables)


async def test_a_fork_has_other_numbers_than_the_erased_session_that_it_replaces(
    postgres_tables, tables_url, store
):
    """Otherwise a cache would take its turns for those of the erased session."""
    for session_id in ("source", "fork"):
        await store.append(Turn(session_id, [session_id], turn_id="t"))
    # Turns that are committed together have one number and one time.
    postgres_tables.query("UPDATE memory_turn SET number = 1000, created_at = 1000")

    async with PostgresSessionStore(tables_url) as other:
        for _ in range(2):  # the second load puts the turn into the cache
            assert await other.load("fork") == ["fork"]
        await store.erase(session_id="fork")
        await store.fork("source", "fork")
        assert await other.load("fork") == ["source"]
