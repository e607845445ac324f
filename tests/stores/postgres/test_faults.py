"""Faults of a Postgres server while a store is in use: no turn is lost, doubled or torn."""

from __future__ import annotations

from contextlib import contextmanager
from urllib.parse import quote

import pytest
from anyio import create_task_group, fail_after, to_thread

from helpers.postgres_faults import (
    CALLS,
    GRACE,
    ITEMS,
    LONG,
    SHORT,
    append_turns,
    assert_raises_in_time,
    assert_saved,
    assert_works,
    fail,
    hold,
    stop_failing,
)
from helpers.runtimes import on_one_runtime
from helpers.waiting import until
from tower_memory import SessionConflict, SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio

SESSIONS = [f"session {number}" for number in range(4)]

WRITES = ["append", "pop", "clear", "replace"]

PASSING = ["40001", "40P01", "55P03", "23505", "53300", "40003", "57P01", "08006", "25006", "XX000"]
LASTING = ["53100", "53200", "58030", "22000"]


async def load_until(store, session_ids, condition):
    """Load the sessions again and again; each load has every turn of the one before."""
    known = {session_id: [] for session_id in session_ids}
    while not condition():
        for session_id in session_ids:
            turns = [turn.turn_id for turn in (await store.load(session_id)).turns]
            assert turns[: len(known[session_id])] == known[session_id]
            known[session_id] = turns


async def in_use(url, count, disturb):
    """Append *count* turns to each session and load them, while *disturb(saved)* runs."""
    saved = []
    async with (
        PostgresSessionStore(url, patience=LONG) as store,
        PostgresSessionStore(url, patience=LONG) as other,
        create_task_group() as group,
    ):
        for number, session_id in enumerate(SESSIONS):
            group.start_soon(append_turns, (store, other)[number % 2], session_id, count, saved)
        group.start_soon(load_until, store, SESSIONS, lambda: len(saved) == count * len(SESSIONS))
        group.start_soon(disturb, saved)

    async with PostgresSessionStore(url) as store:
        await assert_saved(store, SESSIONS, count)


async def test_loses_nothing_if_the_server_is_killed_and_started_again(
    postgres_server, postgres_url
):
    def restart():
        postgres_server.kill()
        postgres_server.start()

    async def disturb(saved):
        await until(lambda: len(saved) >= 20)
        await to_thread.run_sync(restart)

    await in_use(postgres_url, 15, disturb)


async def test_loses_nothing_if_connections_are_terminated(postgres_server, postgres_url):
    async def disturb(saved):
        for least in range(10, 100, 10):
            await until(lambda least=least: len(saved) >= least)
            await to_thread.run_sync(postgres_server.terminate_backends, postgres_url)

    await in_use(postgres_url, 25, disturb)


async def test_pops_and_clears_nothing_twice_if_connections_are_terminated(
    postgres_server, postgres_url
):
    popped, unknown = [], []

    async def pop_all(store):
        for _ in range(20):
            try:
                popped.append(await store.pop("popped"))
            except SessionError:
                unknown.append(1)
            await store.clear("cleared")

    async def disturb():
        for least in range(2, 20, 2):
            await until(lambda least=least: len(popped) + len(unknown) >= least)
            await to_thread.run_sync(postgres_server.terminate_backends, postgres_url)

    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await store.append(Turn("popped", [*range(100)]))
        await store.append(Turn("cleared", ITEMS))
        async with create_task_group() as group:
            group.start_soon(pop_all, store)
            group.start_soon(disturb)

        left = list(await store.load("popped"))
        assert left == [*range(len(left))]
        assert set(popped) <= set(range(len(left), 100))
        assert len(set(popped)) == len(popped) == 100 - len(left) - lost(popped, left)
        assert lost(popped, left) <= len(unknown)
        assert list(await store.load("cleared")) == []


def lost(popped, left):
    """Return how many items are neither popped nor left."""
    return 100 - len(left) - len(popped)


async def test_raises_within_its_patience_if_the_server_is_stopped(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        await to_thread.run_sync(postgres_server.stop)
        for name in CALLS:
            await assert_raises_in_time(store, name)
        await to_thread.run_sync(postgres_server.start)

        await assert_works(store)
        assert len((await store.load("held")).turns) == 2


async def test_saves_after_a_failover_that_is_shorter_than_its_patience(
    postgres_server, postgres_url
):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await hold(store)
        with read_only(postgres_server) as before:
            async with create_task_group() as group:
                group.start_soon(CALLS["append"], store)
                group.start_soon(store.clear, "other")
                await until(lambda: refusals(postgres_server) >= before + 2)
                postgres_server.execute("ALTER SYSTEM RESET default_transaction_read_only")
                postgres_server.reload()

        assert len((await store.load("held")).turns) == 3


async def test_raises_if_a_failover_is_longer_than_its_patience(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        with read_only(postgres_server):
            for name in WRITES:
                await assert_raises_in_time(store, name, "read-only")
            assert len((await store.load("held")).turns) == 2
        await assert_works(store)


def refusals(server):
    """Return how often the server has refused a change because it is read-only."""
    return server.log.count("in a read-only transaction")


@contextmanager
def read_only(server):
    """Let the server refuse changes until the block ends, as a standby does."""
    before = refusals(server)
    server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    server.reload()
    try:
        yield before
    finally:
        server.execute("ALTER SYSTEM RESET default_transaction_read_only")
        server.reload()


@on_one_runtime
@pytest.mark.parametrize("state", PASSING)
async def test_tries_again_after_a_fault_that_passes(postgres_server, postgres_url, state):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await hold(store)
        fail(postgres_server, postgres_url, "memory_turn", state, times=3)

        await store.append(Turn("held", ITEMS, turn_id="third"))
        fail(postgres_server, postgres_url, "memory_head", state, times=3)
        assert await store.pop("held") == ITEMS[-1]
        assert await store.pop("held") == ITEMS[0]
        assert [turn.turn_id for turn in (await store.load("held")).turns] == ["first", "second"]


@on_one_runtime
@pytest.mark.parametrize("state", [*PASSING, *LASTING])
async def test_raises_and_changes_nothing_if_a_fault_lasts(postgres_server, postgres_url, state):
    async with PostgresSessionStore(postgres_url, patience=0.1) as store:
        await hold(store)
        before = await store.load("held")
        fail(postgres_server, postgres_url, "memory_turn", state)
        async with create_task_group() as group:
            for name in WRITES:
                group.start_soon(assert_raises_in_time, store, name)
        after = await store.load("held")
        assert (after.revision, list(after)) == (before.revision, list(before))

        stop_failing(postgres_server, postgres_url, "memory_turn")
        await assert_works(store)


@on_one_runtime
@pytest.mark.parametrize("state", LASTING)
async def test_raises_at_once_if_a_fault_does_not_pass(postgres_server, postgres_url, state):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await hold(store)
        fail(postgres_server, postgres_url, "memory_turn", state)
        for name in WRITES:
            with fail_after(GRACE), pytest.raises(SessionError, match=state):
                await CALLS[name](store)


async def test_saves_the_other_turns_of_a_batch_in_which_one_fails(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        await hold(store)
        postgres_server.execute(
            "ALTER TABLE memory_turn ADD CHECK (turn_id <> 'refused')", url=postgres_url
        )
        refused = []

        async def append(number):
            turn_id = "refused" if number == 5 else f"turn {number}"
            try:
                await store.append(Turn(f"session {number}", ITEMS, turn_id=turn_id))
            except SessionError as error:
                refused.append(error.session_id)

        async with create_task_group() as group:
            for number in range(10):
                group.start_soon(append, number)

            group.start_soon(append_to_revision, store, "session 10", 1)

        assert refused == ["session 5"]
        for number in range(10):
            history = await store.load(f"session {number}")
            assert len(history.turns) == (number != 5)


async def append_to_revision(store, session_id, revision):
    with pytest.raises(SessionConflict):
        await store.append(Turn(session_id, ITEMS, expected_revision=revision))


async def test_saves_any_number_of_turns_at_once(postgres_url):
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        async with create_task_group() as group:
            for number in range(1100):
                group.start_soon(store.append, Turn(f"session {number}", ITEMS))
        assert list(await store.load("session 0")) == ITEMS
        assert list(await store.load("session 1099")) == ITEMS


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_saves_all_turns_under_a_stricter_isolation(postgres_url, isolation):
    options = quote(f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}")
    url = f"{postgres_url}&options={options}"
    count, saved = 15, []
    async with (
        PostgresSessionStore(url, patience=LONG) as store,
        PostgresSessionStore(url, patience=LONG) as other,
    ):
        async with create_task_group() as group:
            for number in range(count):
                for each, name in ((store, "one"), (other, "other")):
                    turn = Turn("shared", ITEMS, turn_id=f"{name} {number}")
                    group.start_soon(each.append, turn)
                group.start_soon(append_turns, store, f"session {number}", 2, saved)
                group.start_soon(other.clear, f"cleared {number}")

        held = [turn.turn_id for turn in (await store.load("shared")).turns]
        assert sorted(held) == sorted(
            f"{name} {number}" for name in ("one", "other") for number in range(count)
        )
        await assert_saved(other, [f"session {number}" for number in range(count)], 2)


@on_one_runtime
async def test_decides_anew_if_another_writer_was_faster(postgres_server, postgres_url):
    async with PostgresSessionStore(postgres_url, patience=SHORT) as store:
        await hold(store)
        fail(postgres_server, postgres_url, "memory_head", "skipped", times=3)
        await store.append(Turn("held", ITEMS, turn_id="third"))
        assert await store.pop("held") == ITEMS[-1]
        stop_failing(postgres_server, postgres_url, "memory_head")

        fail(postgres_server, postgres_url, "memory_head", "skipped")
        for name in WRITES:
            await assert_raises_in_time(store, name, "other writers were faster each time")
        assert len((await store.load("held")).turns) == 3


async def test_loads_again_on_a_new_connection(postgres_server, postgres_url):
    names = ["first", "second"]
    async with PostgresSessionStore(postgres_url, patience=LONG) as store:
        for name in names:
            await store.append(Turn(name, ITEMS))
            await store.load(name)
            await store.load(name)
        await to_thread.run_sync(postgres_server.terminate_backends, postgres_url)

        async with create_task_group() as group:
            for name in names * 2:
                group.start_soon(assert_loads, store, name)


async def assert_loads(store, name):
    assert list(await store.load(name)) == ITEMS
