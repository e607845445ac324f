"""The write queue: group commits, locks, and callers that were cancelled."""

from __future__ import annotations

import sqlite3

import anyio
import anyio.to_thread
import pytest

from helpers.messages import ITEM
from helpers.sqlite_internals import (
    Caller,
    RetryLater,
    WriteQueue,
    cancel,
    commit,
    load,
    prepare_schema,
    queued_append,
    queued_clear,
    queued_pop,
    result_of,
)
from tower_memory import SessionConflict, SessionError, SqliteSessionStore, Turn


def test_a_write_of_a_cancelled_caller_is_not_made(path):
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_schema(connection)
    commit(connection, queued_append(Turn("s", [0])))
    cancelled = [
        queued_pop(),
        queued_clear(),
    ]

    for write in cancelled:
        cancel(write.caller)
        with pytest.raises(RetryLater):  # no caller receives it
            commit(connection, write)

    assert load(connection) == [0]

    connection.close()


async def test_a_lock_held_past_the_busy_timeout_is_an_error_and_then_the_store_works(path):
    async with SqliteSessionStore(path, busy_timeout=0.2) as store:
        await store.append(Turn("s", [ITEM]))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        turn = Turn("s", [ITEM])

        for operation, argument in [(store.append, turn), (store.pop, "s"), (store.clear, "s")]:
            with pytest.raises(SessionError, match="database is locked") as caught:
                await operation(argument)
            assert caught.value.session_id == "s"

        assert await store.load("s") == [ITEM]  # loads do not wait for writers

        other.execute("ROLLBACK")
        other.close()
        await store.append(turn)

        assert await store.load("s") == [ITEM, ITEM]


async def test_all_writes_wait_for_a_lock_that_is_released_in_time(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["first"]))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(store.append, Turn("s", [n]))
            for _ in range(100):
                assert len(await store.load("s")) == 1  # loads do not wait
            other.execute("ROLLBACK")
            other.close()

        assert len(await store.load("s")) == 6


def test_a_fault_in_one_turn_of_a_group_commit_does_not_fail_the_other_turns(path):
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_schema(connection)
    connection.execute(
        "CREATE TRIGGER fault BEFORE INSERT ON memory_item WHEN new.item = '\"bad\"'"
        " BEGIN SELECT RAISE(ABORT, 'a fault'); END"
    )
    one, bad, two = (
        queued_append(Turn("s", items)) for items in (["one"], ["half", "bad"], ["two"])
    )
    queue = WriteQueue([one, bad, two])

    assert result_of(connection, queue, one) == 1
    with pytest.raises(sqlite3.IntegrityError, match="a fault"):
        result_of(connection, queue, bad)
    assert result_of(connection, queue, two) > 1

    history = load(connection)
    assert history == ["one", "two"]

    connection.close()


def test_a_conflict_in_a_group_commit_needs_no_extra_commit(path):
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_schema(connection)
    statements = []
    connection.set_trace_callback(statements.append)
    writes = [queued_append(Turn("s", [n], expected_revision=n % 2 or None)) for n in range(4)]
    queue = WriteQueue(writes)

    for write in writes:
        if write is not writes[3]:
            result_of(connection, queue, write)
        else:
            with pytest.raises(SessionConflict):
                result_of(connection, queue, write)

    assert statements.count("COMMIT") == 1

    history = load(connection)
    assert history == [0, 1, 2]

    connection.close()


async def test_a_save_that_was_cancelled_while_it_waited_is_not_made(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["first"]))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with anyio.move_on_after(0.1) as scope:
            await store.append(Turn("s", ["cancelled"]))
        assert scope.cancelled_caught
        other.execute("ROLLBACK")
        other.close()
        await store.append(Turn("s", ["after"]))
        assert await store.load("s") == ["first", "after"]


def test_a_turn_whose_caller_was_cancelled_before_the_commit_is_not_written(path):
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_schema(connection)
    cancelled, here = (queued_append(Turn("s", [n])) for n in range(2))
    cancel(cancelled.caller)

    with pytest.raises(RetryLater):  # no caller receives it
        commit(connection, cancelled)
    assert load(connection) == []

    queue = WriteQueue([cancelled, here])
    assert result_of(connection, queue, here) == 1

    history = load(connection, here.caller)
    assert (list(history), history.revision) == ([1], 1)

    connection.close()


def test_a_load_stops_if_its_caller_was_cancelled(path):
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_schema(connection)
    commit(connection, queued_append(Turn("s", [0, 1])))
    caller = Caller()
    cancel(caller)
    assert load(connection, caller) == []
    connection.close()


async def test_no_write_begins_in_a_cancelled_scope(path):
    async with SqliteSessionStore(path) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            while True:
                await store.append(Turn("s", [ITEM]))
        assert await store.load("s") == []
