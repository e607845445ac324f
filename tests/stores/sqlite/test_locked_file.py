"""A file that another process has locked.

No caller waits longer than its timeout, and no waiting turn is lost, doubled or failed by another.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

import anyio
import pytest

from helpers.layers import memory_over
from helpers.messages import user
from helpers.sqlite import locked
from helpers.sqlite_internals import is_open, is_opening, run_on_writer, workers_of
from tower_memory import (
    RetryLayer,
    SaveError,
    SaveSession,
    SessionError,
    SqliteSessionStore,
    TimeoutLayer,
    Turn,
)
from tower_memory.testing import ScriptedService

LONG = 30  # a busy timeout, in seconds, that no test waits for


@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_waiting_turns_exceed_their_deadlines_by_at_most_the_grace(path, overlap):
    saved_late = []

    async def call(number):
        chat = TimeoutLayer(0.1)(
            memory_over(store, f"s{number}", overlap=overlap, grace=0.2)(ScriptedService("Hello"))
        )
        with pytest.raises(SaveError) as caught:
            await chat([user("Hi")])
        assert caught.value.response == "Hello"
        saved_late.append(caught.value.turn)

    async with SqliteSessionStore(path, busy_timeout=LONG) as store:
        with locked(path):
            began = anyio.current_time()
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(call, number)
            assert 0.3 <= anyio.current_time() - began < LONG / 3

        assert len(saved_late) == 20

        for turn in saved_late:
            await store.append(turn)
            assert len(await store.load(turn.session_id)) == 2

        for number in range(20):
            await memory_over(store, f"s{number}")(ScriptedService("Hello again"))([user("Hi")])
            assert len(await store.load(f"s{number}")) == 4


async def test_a_turn_past_the_busy_timeout_fails_with_its_reply_and_can_be_saved(path):
    async with SqliteSessionStore(path, busy_timeout=0.1) as store:
        with locked(path):
            with pytest.raises(SaveError, match="database is locked") as caught:
                await memory_over(store, "s")(ScriptedService("Hello"))([user("Hi")])
            with pytest.raises(SessionError, match="database is locked"):
                await SaveSession(store)(caught.value.turn)
        await SaveSession(store)(caught.value.turn)
        assert len(await store.load("s")) == 2


async def test_a_save_that_is_retried_while_the_file_is_locked_is_saved_once(path):
    retried = anyio.Event()

    class Store:
        """A store that sets `retried` at its second append."""

        def __init__(self, inner):
            self.inner = inner
            self.load, self.pop, self.clear = inner.load, inner.pop, inner.clear
            self.asked = 0

        async def append(self, turn):
            self.asked += 1
            if self.asked == 2:
                retried.set()
            return await self.inner.append(turn)

    async with SqliteSessionStore(path, busy_timeout=0.05) as inner:
        store = Store(inner)
        save = RetryLayer(on=SessionError, attempts=10_000)(SaveSession(store))
        async with anyio.create_task_group() as tasks:
            with locked(path):
                tasks.start_soon(save, Turn("s", ["once"]))
                await retried.wait()
        assert await inner.load("s") == ["once"]


async def test_a_turn_that_gives_up_does_not_fail_turns_that_still_wait(path):
    async with (
        SqliteSessionStore(path, busy_timeout=0.1) as hasty,
        SqliteSessionStore(path, busy_timeout=LONG) as patient,
    ):
        async with anyio.create_task_group() as tasks:
            with locked(path):
                for number in range(5):
                    tasks.start_soon(patient.append, Turn("s", [number]))
                with pytest.raises(SessionError, match="database is locked"):
                    await hasty.append(Turn("s", ["hasty"]))
                with anyio.move_on_after(0.1):
                    await patient.append(Turn("s", ["cancelled"]))
        assert sorted(await patient.load("s")) == [0, 1, 2, 3, 4]


async def test_a_loop_of_turns_in_a_cancelled_scope_ends(path):
    async with SqliteSessionStore(path, busy_timeout=LONG) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            while True:
                await memory_over(store, "s")(ScriptedService("Hello"))([user("Hi")])
        assert await store.load("s") == []


async def test_every_write_waits_until_the_lock_is_released(path):
    async with SqliteSessionStore(path, busy_timeout=LONG) as store:
        await store.append(Turn("popped", [0, 1]))
        await store.append(Turn("cleared", [0, 1]))
        async with anyio.create_task_group() as tasks:
            with locked(path):
                tasks.start_soon(store.pop, "popped")
                tasks.start_soon(store.clear, "cleared")
                for _ in range(50):  # longer than one attempt waits
                    assert len(await store.load("popped")) == len(await store.load("cleared")) == 2
        assert await store.load("popped") == [0]
        assert await store.load("cleared") == []


async def test_a_lock_or_a_full_disk_does_not_reopen_the_file(path):
    def fill(connection, limit):
        connection.execute(f"PRAGMA max_page_count = {limit}")

    async with SqliteSessionStore(path, busy_timeout=0.05) as store:
        await store.append(Turn("s", ["first"]))
        workers = workers_of(store)

        with locked(path), pytest.raises(SessionError, match="database is locked"):
            await store.append(Turn("s", ["locked"]))

        await run_on_writer(store, fill, 1)
        with pytest.raises(SessionError, match="database or disk is full"):
            await store.append(Turn("s", ["x" * 100_000]))

        await run_on_writer(store, fill, 2**30)
        await store.append(Turn("s", ["last"]))

        assert await store.load("s") == ["first", "last"]
        assert workers_of(store) is workers


async def test_a_closed_store_first_finishes_the_writes_that_wait_for_a_lock(path):
    store = SqliteSessionStore(path, busy_timeout=LONG)
    await store.append(Turn("s", ["first"]))

    async with anyio.create_task_group() as tasks:
        with locked(path):
            for number in range(5):
                tasks.start_soon(store.append, Turn("s", [number]))
            tasks.start_soon(store.pop, "other")
            assert len(await store.load("s")) == 1
            tasks.start_soon(store.aclose)
            while is_open(store):  # until the store begins to close
                await anyio.lowlevel.checkpoint()

    async with store:
        assert len(await store.load("s")) == 6


@pytest.mark.parametrize(
    "operation",
    [lambda store: store.erase(prefix="s"), SqliteSessionStore.scrub],
    ids=["erase", "scrub"],
)
async def test_a_closed_store_first_finishes_all_steps_of_an_operation(path, operation):
    store = SqliteSessionStore(path, busy_timeout=LONG)
    await store.append(Turn("s", ["first"]))

    async with anyio.create_task_group() as tasks:
        with locked(path):
            tasks.start_soon(operation, store)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(store.aclose)
            while is_open(store):  # until the store begins to close
                await anyio.lowlevel.checkpoint()

    assert not is_open(store)
    async with store:
        await store.append(Turn("s", ["last"]))
        assert (await store.load("s"))[-1] == "last"


async def test_a_store_that_is_closed_while_it_opens_for_a_pop_pops_first(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["first", "last"]))
    popped = []

    async def pop():
        popped.append(await store.pop("s"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pop)
        while not is_opening(store):
            await anyio.lowlevel.checkpoint()
        await store.aclose()
    assert popped == ["last"]


@pytest.mark.parametrize("one_store", [True, False])
async def test_each_task_that_waits_to_open_a_locked_file_gives_up_after_its_own_timeout(
    path, one_store
):
    one = SqliteSessionStore(path, busy_timeout=0.2)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        async def save():
            store = one if one_store else SqliteSessionStore(path, busy_timeout=0.2)
            with pytest.raises(SessionError, match="locked"):
                await store.append(Turn("s", ["never"]))

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(save)

        assert anyio.current_time() - began < 2  # not 20 times the timeout

        other.execute("ROLLBACK")

    async with one:
        assert await one.load("s") == []


async def test_a_store_that_waits_for_another_to_open_the_file_gives_up_after_its_own_timeout(path):
    hasty = SqliteSessionStore(path, busy_timeout=0.1)
    patient = SqliteSessionStore(path, busy_timeout=LONG)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(patient.append, Turn("s", ["patient"]))
            while not is_opening(patient):
                await anyio.lowlevel.checkpoint()
            with pytest.raises(SessionError, match="others are still opening it"):
                await hasty.load("s")
            other.execute("ROLLBACK")

    assert await patient.load("s") == ["patient"]

    await patient.aclose()


async def test_many_writes_that_wait_for_a_lock_do_not_delay_each_other(path):
    async with (
        SqliteSessionStore(path, busy_timeout=0.1) as hasty,
        SqliteSessionStore(path, busy_timeout=LONG) as patient,
    ):
        await patient.append(Turn("s", ["first"]))
        async with anyio.create_task_group() as tasks:
            with locked(path):
                for number in range(400):
                    tasks.start_soon((patient.pop, patient.clear)[number % 2], "other")
                for _ in range(5):
                    began = anyio.current_time()
                    with pytest.raises(SessionError, match="database is locked"):
                        await hasty.append(Turn("s", ["never"]))
                    # 400 attempts one after another would take two seconds.
                    assert anyio.current_time() - began < 1
        assert await hasty.load("s") == ["first"]
