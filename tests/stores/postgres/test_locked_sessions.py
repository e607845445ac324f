"""Sessions that another program has locked: the other sessions are saved meanwhile."""

from __future__ import annotations

import pytest
from anyio import create_task_group, fail_after

from helpers.postgres_faults import (
    CALLS,
    GRACE,
    ITEMS,
    LONG,
    SHORT,
    append_turns,
    assert_raises_in_time,
    assert_works,
    hold,
    locked,
)
from tower_memory import SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio

WRITES = ["append", "pop", "clear", "replace"]


async def test_saves_other_sessions_while_some_are_locked(postgres_url):
    names = [f"locked {number}" for number in range(5)]
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        for name in names:
            await store.append(Turn(name, ITEMS))
        async with create_task_group() as group:
            with locked(postgres_url, *names):
                for name in names:
                    group.start_soon(append_turns, store, name, 3, [])
                    group.start_soon(store.begin, Turn(name, ITEMS))
                    group.start_soon(store.begin, Turn(name, ITEMS))
                with fail_after(2 * GRACE):
                    for number in range(15):
                        await store.append(Turn("free", ITEMS, turn_id=f"free {number}"))
                assert [len((await store.load(name)).turns) for name in names] == [1] * 5

        assert [len((await store.load(name)).turns) for name in names] == [4] * 5
        assert [len(await store.pending(name)) for name in names] == [2] * 5
        assert len((await store.load("free")).turns) == 15


async def test_gives_locked_sessions_up_after_their_patience(postgres_url):
    names = [f"locked {number}" for number in range(5)]
    refused = []

    async def refuse(call, turn):
        with fail_after(SHORT + GRACE), pytest.raises(SessionError, match="lock timeout"):
            await call(turn)
        refused.append(turn.turn_id)

    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        for name in names:
            await store.append(Turn(name, ITEMS))
        with locked(postgres_url, *names):
            async with create_task_group() as group:
                for name in names:
                    group.start_soon(refuse, store.append, Turn(name, ITEMS))
                    group.start_soon(refuse, store.begin, Turn(name, ITEMS))
        assert len(refused) == 10
        await assert_works(store)


async def test_saves_a_locked_session_as_soon_as_it_is_free(postgres_url):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await hold(store)
        async with create_task_group() as group:
            with locked(postgres_url, "held"):
                group.start_soon(CALLS["append"], store)
                await store.append(Turn("free", ITEMS))
            with fail_after(GRACE):
                await store.append(Turn("held", ITEMS))

        assert len((await store.load("held")).turns) == 4


async def test_raises_if_a_session_is_locked_longer_than_its_patience(postgres_url):
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        with locked(postgres_url, "held"):
            for name in WRITES:
                await assert_raises_in_time(store, name, "lock")
            assert len((await store.load("held")).turns) == 2
        await assert_works(store)
