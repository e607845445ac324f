"""Servers that give no answer: each call of a store ends with its patience."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest
from anyio import create_task_group, fail_after
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from helpers.postgres_faults import (
    CALLS,
    GRACE,
    ITEMS,
    LONG,
    SHORT,
    assert_raises_in_time,
    assert_works,
    hold,
    recover,
)
from helpers.postgres_proxy import proxy_to
from helpers.postgres_server import send
from helpers.runtimes import on_one_runtime
from helpers.waiting import until
from tower_memory import SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio

LEFT = {
    "load": [["first", "second"]],
    "append": [["first", "second"], ["first", "second", "late"]],
    "pop": [["first", "second"]],
    "clear": [["first", "second"], []],
    "replace": [["first", "second"], ["first", "new"]],
}
"""The turns that a session may have after a call whose outcome is unknown."""


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_raises_after_its_patience(postgres_server, postgres_url, name):
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        with postgres_server.suspended():
            await assert_raises_in_time(store, name)

        await recover(store)
        history = await store.load("held")
        assert [turn.turn_id for turn in history.turns] in LEFT[name]
        assert list(history) in (ITEMS * len(history.turns), (ITEMS * 2)[:-1])


async def test_calls_behind_another_one_raise_after_their_patience(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        with postgres_server.suspended():
            async with create_task_group() as group:
                for name in [*CALLS, *CALLS]:
                    group.start_soon(assert_raises_in_time, store, name)
            async with create_task_group() as group:
                for name in CALLS:
                    group.start_soon(assert_raises_in_time, store, name)

        await recover(store)


@pytest.mark.parametrize("write", ["append", "begin"])
async def test_a_frozen_connection_is_replaced(postgres_server, postgres_url, write):
    late = Turn("held", ITEMS, turn_id="late")
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        with postgres_server.frozen(postgres_url):
            async with create_task_group() as group:
                group.start_soon(assert_raises_in_time, store, "load")
                with fail_after(SHORT + GRACE), pytest.raises(SessionError):
                    await getattr(store, write)(late)
            await store.begin(Turn("held", ITEMS, turn_id="begun"))
            await store.append(late)
            assert len((await store.load("held")).turns) == 3

        await assert_works(store)
        turns = [turn.turn_id for turn in (await store.load("held")).turns]
        assert turns == ["first", "second", "late"]
        assert [turn.turn_id for turn in await store.pending("held")] == ["begun"]


@on_one_runtime
@pytest.mark.parametrize("is_repeated", [False, True])
@pytest.mark.parametrize("write", ["append", "begin"])
async def test_a_write_of_a_frozen_connection_spoils_nothing_later(
    postgres_server, postgres_url, write, is_repeated
):
    """Freeze the connection before each message of a write, and save turns on another one."""
    pids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'to freeze'"

    with proxy_to(postgres_url) as proxy:
        async with (
            PostgresSessionStore(postgres_url, patience=0.05) as other,
            PostgresSessionStore(f"{proxy.url}&application_name=to%20freeze") as store,
        ):
            frozen = [pid for (pid,) in postgres_server.execute(pids)]
            assert len(frozen) == 2
            nth, has_acted = 0, True
            while has_acted:
                nth += 1
                session_id, saved = f"session {nth}", []
                turn = Turn(session_id, ITEMS, turn_id="turn")

                async def save(turn=turn, saved=saved):
                    await getattr(store, write)(turn)
                    saved.append(turn)

                proxy.act_before(nth, lambda: send(signal.SIGSTOP, frozen))
                async with create_task_group() as group:
                    group.start_soon(save)
                    await until(lambda saved=saved: proxy.has_acted or saved)
                    group.cancel_scope.cancel()
                has_acted = proxy.act_no_more()
                try:
                    await other.append(Turn(session_id, ITEMS, turn_id="second"))
                    if is_repeated:
                        await other.append(turn)
                except SessionError:
                    pass  # the frozen connection has locked the session
                finally:
                    send(signal.SIGCONT, frozen)

                await store.append(Turn("other", ITEMS))  # the frozen connection has come to an end
                await other.append(Turn(session_id, ITEMS, turn_id="second"))
                await other.append(turn)
                history = await other.load(session_id)
                assert sorted(turn.turn_id for turn in history.turns) == ["second", "turn"]
                assert [turn.position for turn in history.turns] == [0, 2]
                described = await other.describe(session_id)
                assert (described.turns, described.items) == (2, 4)
                assert described.revision == history.revision
            assert nth > 10


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_task_returns_at_once(postgres_server, postgres_url, name):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await hold(store)
        with postgres_server.suspended():
            task = asyncio.create_task(CALLS[name](store))
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with fail_after(GRACE), pytest.raises(asyncio.CancelledError):
                await task

        await assert_works(store)
        assert [turn.turn_id for turn in (await store.load("held")).turns] in LEFT[name]


@on_one_runtime
async def test_a_server_that_accepts_connections_and_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        store = PostgresSessionStore(f"postgresql://127.0.0.1:{port}/chat", patience=SHORT)
        async with create_task_group() as group:
            for name in CALLS:
                group.start_soon(assert_raises_in_time, store, name, "within 0.3 seconds")
        await store.aclose()


async def test_a_host_that_does_not_resolve_is_given_up():
    store = PostgresSessionStore("postgresql://nowhere.invalid/chat", patience=SHORT)
    await assert_raises_in_time(store, "append")
    await store.aclose()


@pytest.mark.long
@on_one_runtime
async def test_silent_hosts_leave_time_for_the_last_one(postgres_url):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = conninfo_to_dict(postgres_url)
        ports = f"{silent.getsockname()[1]},{silent.getsockname()[1]},{server['port']}"
        url = make_conninfo(postgres_url, host=f"127.0.0.1,127.0.0.1,{server['host']}", port=ports)
        store = PostgresSessionStore(url, patience=4.0)  # each silent host takes two seconds
        await store.append(Turn("s", ITEMS))
        await store.aclose()
