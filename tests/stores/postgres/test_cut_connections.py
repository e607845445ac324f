"""Connections that are cut between any two messages of the protocol.

Before a message of the client: the server does not get it. Before a message of the server: the
server has done all that it was told, perhaps with the commit, and the client does not know.
"""

from __future__ import annotations

from functools import partial

import pytest

from helpers.messages import user
from helpers.postgres_faults import ITEMS, LONG, replace
from helpers.postgres_proxy import proxy_to
from helpers.runtimes import on_one_runtime
from tower_memory import Erasure, SessionError, Turn, TurnMissing
from tower_memory.postgres import PostgresSessionStore

pytestmark = [pytest.mark.anyio, on_one_runtime]


@pytest.fixture
def proxy(postgres_url):
    with proxy_to(postgres_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy):
    """Open a store whose connections go through the proxy."""
    async with PostgresSessionStore(proxy.url, patience=LONG) as store:
        yield store


@pytest.fixture
async def direct(postgres_url):
    """Open a store whose connections are not cut."""
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        yield store


async def cut_everywhere(proxy, operate):
    """Cut the connections of *operate(nth)* before its nth message, for every n.

    Return the number of cuts.
    """
    nth = 0
    while True:
        nth += 1
        proxy.act_before(nth)
        await operate(f"session {nth}")
        if not proxy.act_no_more():
            assert nth > 10
            return nth - 1


async def test_an_append_is_saved_once(proxy, store, direct):
    async def operate(session_id):
        turn = Turn(session_id, ITEMS, turn_id="turn")
        revision = await store.append(turn)

        history = await direct.load(session_id)
        assert [turn.turn_id for turn in history.turns] == ["turn"]
        assert (list(history), history.revision) == (ITEMS, revision)
        assert await store.append(turn) == revision

    await cut_everywhere(proxy, operate)


async def test_a_load_is_repeated(proxy, store, direct):
    async def operate(session_id):
        await direct.append(Turn(session_id, ITEMS))
        assert list(await store.load(session_id)) == ITEMS

    await cut_everywhere(proxy, operate)


@pytest.mark.long
async def test_a_replacement_is_saved_once(proxy, store, direct):
    async def operate(session_id):
        await direct.append(Turn(session_id, ITEMS, turn_id="first"))
        await direct.append(Turn(session_id, ITEMS, turn_id="second"))
        revision = await replace(store, session_id)

        history = await direct.load(session_id)
        assert [turn.turn_id for turn in history.turns] == ["first", "new"]
        assert history.revision == revision

    await cut_everywhere(proxy, operate)


async def test_a_turn_is_refused_although_the_connection_is_cut(proxy, store, direct):
    async def operate(session_id):
        await direct.append(Turn(session_id, ITEMS))
        with pytest.raises(TurnMissing):
            await replace(store, session_id)

        assert list(await direct.load(session_id)) == ITEMS

    await cut_everywhere(proxy, operate)


async def test_a_turn_begins_once(proxy, store, direct):
    async def operate(session_id):
        await store.begin(Turn(session_id, ITEMS, turn_id="turn"), lease=60, owner="owner")

        (pending,) = await direct.pending(session_id)
        assert (pending.turn_id, pending.items, pending.state) == ("turn", ITEMS, "running")

    await cut_everywhere(proxy, operate)


async def test_a_clear_is_repeated(proxy, store, direct):
    async def operate(session_id):
        await direct.append(Turn(session_id, ITEMS))
        await store.clear(session_id)

        assert list(await direct.load(session_id)) == []

    await cut_everywhere(proxy, operate)


async def test_a_pop_is_done_once_or_raises(proxy, store, direct):
    items = [user(str(number)) for number in range(3)]
    unknown = []

    async def operate(session_id):
        await direct.append(Turn(session_id, items))
        try:
            popped = [await store.pop(session_id)]
        except SessionError as error:
            unknown.append(str(error))
            popped = []

        left = list(await direct.load(session_id))
        assert popped in ([], items[-1:])
        assert left == items[:-1] or (not popped and left == items)

    await cut_everywhere(proxy, operate)
    assert unknown
    assert all("perhaps made" in error for error in unknown)


async def test_an_erasure_at_a_revision_may_be_repeated(proxy, store, direct):
    unknown = []

    async def operate(session_id):
        revision = await direct.append(Turn(session_id, ITEMS))
        erase = partial(store.erase, session_id=session_id, expected_revision=revision)
        try:
            assert await erase() == Erasure(1, 1, len(ITEMS))
        except SessionError as error:
            unknown.append(str(error))
            assert await erase() in (Erasure(0, 0, 0), Erasure(1, 1, len(ITEMS)))

        assert await direct.describe(session_id) is None

    await cut_everywhere(proxy, operate)
    assert unknown
    assert all("perhaps made" in error for error in unknown)


@pytest.mark.long
async def test_a_fork_is_done_once_or_raises(proxy, store, direct):
    unknown = []

    async def operate(session_id):
        await direct.append(Turn(session_id, ITEMS))
        try:
            await store.fork(session_id, f"fork of {session_id}")
        except SessionError:
            unknown.append(session_id)

        forked = list(await direct.load(f"fork of {session_id}"))
        assert forked == ITEMS or (session_id in unknown and forked == [])

    await cut_everywhere(proxy, operate)
    assert unknown


@pytest.mark.long
async def test_a_store_opens_although_its_connections_are_cut(proxy, direct):
    async def operate(session_id):
        async with PostgresSessionStore(proxy.url, patience=LONG) as store:
            await store.append(Turn(session_id, ITEMS))

        assert list(await direct.load(session_id)) == ITEMS

    await cut_everywhere(proxy, operate)


@pytest.mark.long
async def test_the_tables_are_created_although_the_connection_is_cut(
    proxy, postgres_server, postgres_url
):
    async def operate(session_id):
        async with PostgresSessionStore(proxy.url, patience=LONG, schema=session_id) as store:
            await store.append(Turn("session", ITEMS))
        postgres_server.execute(f'DROP SCHEMA "{session_id}" CASCADE', url=postgres_url)

    await cut_everywhere(proxy, operate)
