"""The life of an open file: cancelled and timed-out closing, ended event loops, missing threads."""

from __future__ import annotations

import asyncio
import threading
import time

import aiosqlite
import anyio
import anyio.to_thread
import pytest

from helpers.messages import ITEM
from helpers.sqlite import locked
from helpers.sqlite_internals import (
    Connection,
    acquire_without_use,
    build_indexes_turn_by_turn,
    is_open,
    is_opening,
    open_again_at_next_use,
    open_connections,
    replace_connections,
)
from helpers.waiting import until
from tower_memory import SessionError, SqliteSessionStore, Turn

LONG = 30  # a busy timeout, in seconds, that no test waits for


@pytest.fixture
def nothing_is_left():
    """Return a function that tells if no more files and threads are open than before the test."""
    files, threads = open_connections(), threading.active_count()
    return lambda: open_connections() == files and threading.active_count() <= threads


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only asyncio has such timeouts
async def test_a_closing_that_times_out_finishes_the_saves_and_opens_nothing_again(
    path, nothing_is_left
):
    store = SqliteSessionStore(path, busy_timeout=LONG)
    await store.append(Turn("s", [0]))

    with locked(path):
        saves = [asyncio.create_task(store.append(Turn("s", [n]))) for n in range(1, 4)]
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.aclose()
        assert not is_open(store)
        await store.aclose()  # does nothing

    await asyncio.gather(*saves)
    await until(nothing_is_left)

    async with store:
        assert sorted(await store.load("s")) == [0, 1, 2, 3]


async def test_an_operation_ends_whose_store_is_closed_before_its_index_is_built(path, monkeypatch):
    async with SqliteSessionStore(path) as store:
        for n in range(50):
            await store.append(Turn("s", [n]))

    build_indexes_turn_by_turn(monkeypatch)
    store, turns = SqliteSessionStore(path, search_index=True), []

    async def describe():
        turns.append((await store.describe("s")).turns)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(describe)
            await until(lambda: is_opening(store))
            await store.aclose()
    assert turns == [50]
    await store.aclose()  # the operation has opened it again


def test_a_store_left_open_when_its_event_loop_ended_says_so_and_can_be_closed_and_used_again(
    path, anyio_backend, nothing_is_left
):
    store, other = SqliteSessionStore(path), SqliteSessionStore(path)

    async def leave_open():
        await store.append(Turn("s", [ITEM]))
        await other.load("s")

    anyio.run(leave_open, backend=anyio_backend)

    for backend in ("asyncio", "trio"):
        with pytest.raises(RuntimeError, match=r"its event loop ended; close it with aclose\(\)"):
            anyio.run(store.load, "s", backend=backend)

    anyio.run(store.aclose, backend="trio")
    anyio.run(other.aclose, backend="asyncio")

    async def use_again():
        await until(nothing_is_left)
        async with store:
            assert await store.load("s") == [ITEM]

    anyio.run(use_again, backend=anyio_backend)


def test_a_store_whose_event_loop_was_closed_during_a_save_can_be_closed(path, nothing_is_left):
    store = SqliteSessionStore(path, busy_timeout=LONG)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(store.append(Turn("s", [ITEM])))

    with locked(path):
        save = loop.create_task(store.append(Turn("s", ["late"])))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        anyio.run(store.aclose)

    async def use_again():
        await until(nothing_is_left)
        async with store:
            assert (await store.load("s"))[0] == ITEM

    anyio.run(use_again)
    assert not save.done()
    save.get_coro().close()
    save._log_destroy_pending = False  # the loop was closed on purpose


async def test_a_store_that_is_garbage_collected_open_warns_and_closes(path, nothing_is_left):
    store = SqliteSessionStore(path)
    await store.append(Turn("s", [ITEM]))
    with pytest.warns(ResourceWarning, match=f"a store on {path} was not closed"):
        del store
    await until(nothing_is_left)


def test_a_store_that_is_garbage_collected_after_its_event_loop_warns_and_closes(
    path, anyio_backend, nothing_is_left
):
    store = SqliteSessionStore(path)
    anyio.run(store.append, Turn("s", [ITEM]), backend=anyio_backend)
    with pytest.warns(ResourceWarning, match="was not closed"):
        del store
    anyio.run(until, nothing_is_left)


async def test_a_store_is_refused_in_another_event_loop_while_it_is_being_opened(path):
    store = SqliteSessionStore(path, busy_timeout=LONG)

    def elsewhere():
        for operation in (store.load, store.clear):
            with pytest.raises(RuntimeError, match="is open in another event loop"):
                anyio.run(operation, "s")
        with pytest.raises(RuntimeError, match="is open in another event loop"):
            anyio.run(store.aclose)

    with locked(path, "EXCLUSIVE"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.load, "s")
            await until(lambda: is_opening(store))
            await anyio.to_thread.run_sync(elsewhere)
            tasks.cancel_scope.cancel()

    await store.aclose()


async def test_a_driver_that_cannot_start_a_thread_is_an_error_that_says_so(
    path, monkeypatch, nothing_is_left
):
    def connect(*_arguments, **_parameters):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    store = SqliteSessionStore(path)
    with monkeypatch.context() as patched:
        patched.setattr(aiosqlite, "connect", connect)
        with pytest.raises(SessionError, match=f"cannot open {path}: can't start new thread"):
            await store.load("s")
    await until(nothing_is_left)
    async with store:
        assert await store.load("s") == []


async def test_a_process_that_cannot_start_a_thread_gets_an_error_that_says_so(path, monkeypatch):
    def start(_thread):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    async with SqliteSessionStore(path) as other:
        store = SqliteSessionStore(path.with_name("other.db"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            with pytest.raises(SessionError, match="cannot open .*: can't start new thread"):
                await store.load("s")
            with pytest.raises(SessionError, match="can't start new thread"):
                await other.backup(path.with_name("backup.db"))
        assert await other.load("s") == []


async def test_a_fault_while_the_file_is_closed_is_raised(path, monkeypatch):
    class Faulty(Connection):
        def close(self):
            super().close()
            msg = "cannot close"
            raise OSError(msg)

    replace_connections(monkeypatch, Faulty)
    store = SqliteSessionStore(path)
    await store.append(Turn("s", [ITEM]))
    with pytest.raises(SessionError, match=f"{path}: cannot close"):
        await store.aclose()


async def test_a_save_waits_for_a_lock_even_if_a_test_tool_has_frozen_the_time(path, monkeypatch):
    hasty = SqliteSessionStore(path, busy_timeout=0.1)
    async with SqliteSessionStore(path, busy_timeout=LONG) as patient, hasty:
        await patient.append(Turn("s", [0]))
        moment = time.monotonic()
        with monkeypatch.context() as frozen:
            frozen.setattr(time, "monotonic", lambda: moment)
            async with anyio.create_task_group() as tasks:
                with locked(path):
                    tasks.start_soon(patient.append, Turn("s", [1]))
                    with pytest.raises(SessionError, match="database is locked"):
                        await hasty.append(Turn("s", ["never"]))
        assert await patient.load("s") == [0, 1]


async def test_a_save_that_waits_for_a_lock_is_made_once_after_the_file_was_opened_again(path):
    async with SqliteSessionStore(path, busy_timeout=LONG) as store:
        await store.append(Turn("s", [0]))
        async with anyio.create_task_group() as tasks:
            with locked(path):
                tasks.start_soon(store.append, Turn("s", [1]))
                assert await store.load("s") == [0]
                open_again_at_next_use(store)
                assert await store.load("s") == [0]
        assert await store.load("s") == [0, 1]


async def test_a_file_that_was_never_opened_closes(path, nothing_is_left):
    store = SqliteSessionStore(path)
    await acquire_without_use(store)
    await store.aclose()
    assert nothing_is_left()
    assert not path.exists()
