"""Group commits: many writes in one transaction, locks, and callers that were cancelled."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import anyio
import msgspec
import pytest

from helpers.internals import ItemCodec
from helpers.messages import ITEM
from helpers.sqlite import locked, query
from helpers.sqlite_internals import (
    Connection,
    cancel,
    commit,
    load,
    outcome_of,
    prepare_schema,
    queued,
    queued_append,
    queued_clear,
    queued_pop,
    run_batch,
    run_job,
)
from tower_memory import (
    CorruptSessionError,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
)


@pytest.fixture
async def connection(path):
    """Return a connection to a file with the schema, and the event loop that jobs need."""
    with closing(Connection(str(path), isolation_level=None, timeout=0.005)) as connection:
        connection.run(prepare_schema)
        yield connection


def statements_of(connection):
    """Return the list to which each further statement of *connection* is added."""
    statements = []
    connection.set_trace_callback(statements.append)
    return statements


async def test_all_writes_of_a_batch_share_one_commit(connection):
    statements = statements_of(connection)
    revisions = commit(connection, *(queued_append(Turn("s", [n])) for n in range(10)))
    assert statements.count("COMMIT") == 1
    assert revisions == sorted(revisions, key=lambda appended: appended.revision)
    assert load(connection) == list(range(10))


async def test_a_write_of_a_cancelled_caller_is_not_made(connection):
    commit(connection, queued_append(Turn("s", [0])))
    cancelled = [queued_pop(), queued_clear(), queued_append(Turn("s", [1]))]
    for job in cancelled:
        cancel(job)
    here = queued_append(Turn("s", [2]))

    outcomes = commit(connection, *cancelled, here)

    assert outcomes[:3] == ["unsettled"] * 3  # no caller receives an outcome
    assert load(connection) == [0, 2]


async def test_a_batch_of_cancelled_callers_only_writes_nothing(connection):
    job = queued_append(Turn("s", [1]))
    cancel(job)
    assert commit(connection, job) == ["unsettled"]
    assert load(connection) == []


async def test_a_caller_that_is_cancelled_while_the_transaction_begins_is_dropped(connection):
    job, here = queued_append(Turn("s", [1])), queued_append(Turn("s", [2]))

    def cancel_at_begin(statement):
        if statement.startswith("BEGIN"):
            cancel(job)

    connection.set_trace_callback(cancel_at_begin)
    assert commit(connection, job, here)[0] == "unsettled"
    assert load(connection) == [2]


async def test_a_fault_in_one_write_of_a_batch_does_not_fail_the_other_writes(connection):
    connection.execute(
        'CREATE TRIGGER fault AFTER INSERT ON memory_turn WHEN new.items = \'["half","bad"]\''
        " BEGIN SELECT RAISE(ABORT, 'a fault'); END"
    )

    one, bad, two = commit(
        connection,
        *(queued_append(Turn("s", items)) for items in (["one"], ["half", "bad"], ["two"])),
    )

    assert isinstance(bad, sqlite3.IntegrityError)
    assert str(bad) == "a fault"
    assert load(connection) == ["one", "two"]
    assert load(connection).revision == two.revision > one.revision


class Interrupting(msgspec.Struct, tag="interrupting"):
    """An item whose decoding raises, once it is armed."""

    armed = False

    def __post_init__(self):
        if Interrupting.armed:
            raise KeyboardInterrupt


async def test_an_interrupt_while_a_popped_item_decodes_fails_that_pop_only(
    connection, monkeypatch
):
    codec = ItemCodec(Interrupting)
    (item,) = codec.encode([Interrupting()], "s")
    commit(connection, queued_append(Turn("s", [msgspec.json.decode(item)])))
    monkeypatch.setattr(Interrupting, "armed", True)

    one, popped, two = commit(
        connection,
        queued_append(Turn("a", [1])),
        queued_pop(codec),
        queued_append(Turn("b", [2])),
    )

    assert isinstance(popped, KeyboardInterrupt)
    assert min(one.revision, two.revision) > 0
    assert [load(connection, session) for session in "ab"] == [[1], [2]]
    assert len(load(connection)) == 1
    assert not connection.in_transaction


async def test_a_conflict_in_a_batch_needs_no_extra_commit(connection):
    (first,) = commit(connection, queued_append(Turn("s", [0])))
    statements = statements_of(connection)

    outcomes = commit(
        connection,
        queued_append(Turn("s", [1], expected_revision=first.revision)),
        queued_append(Turn("s", [2], expected_revision=first.revision)),
        queued_append(Turn("s", [3])),
    )

    assert statements.count("COMMIT") == 1
    assert isinstance(outcomes[1], SessionConflict)
    assert load(connection) == [0, 1, 3]


async def test_a_session_error_in_the_middle_of_a_write_rolls_the_write_back(connection):
    def write_half(connection):
        connection.execute("INSERT INTO memory_index_of_test VALUES (1)")
        msg = "in the middle"
        raise SessionError(msg)

    connection.execute("CREATE TABLE memory_index_of_test (number)")
    appended, failed = commit(connection, queued_append(Turn("s", [0])), queued(write_half))
    assert appended.revision > 0
    assert str(failed) == "in the middle"
    assert load(connection) == [0]
    assert connection.execute("SELECT * FROM memory_index_of_test").fetchall() == []


async def test_an_item_that_cannot_be_popped_needs_no_extra_commit(connection):
    commit(connection, queued_append(Turn("s", [0])))
    connection.execute("UPDATE memory_turn SET items = '[0'")
    statements = statements_of(connection)
    popped, appended = commit(connection, queued_pop(), queued_append(Turn("other", [1])))
    assert statements.count("COMMIT") == 1
    assert isinstance(popped, CorruptSessionError)
    assert load(connection, "other").revision == appended.revision


async def test_writes_stay_unsettled_while_the_file_is_locked_until_their_own_deadline(
    connection, path
):
    patient, impatient = (
        queued_append(Turn("s", [n]), patience=patience) for n, patience in enumerate([60, 0])
    )
    with locked(path):
        run_batch(connection, [patient, impatient])
        assert outcome_of(patient) == "unsettled"
        assert outcome_of(impatient).sqlite_errorname == "SQLITE_BUSY"

    run_batch(connection, [patient])
    assert outcome_of(patient).revision > 0
    assert load(connection) == [0]


async def test_a_lock_that_comes_between_the_single_commits_leaves_the_rest_unsettled(
    connection, path
):
    def fail(connection):
        connection.execute("SELECT * FROM no_table")

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        first = queued_append(
            Turn("s", [0]), after_commit=lambda *_: other.execute("BEGIN IMMEDIATE")
        )
        bad, last = queued(fail), queued_append(Turn("s", [1]))
        run_batch(connection, [first, bad, last])
        assert outcome_of(first).revision > 0
        assert [outcome_of(job) for job in (bad, last)] == ["unsettled"] * 2

        other.execute("ROLLBACK")
        run_batch(connection, [bad, last])

    assert "no_table" in str(outcome_of(bad))
    assert load(connection) == [0, 1]


async def test_after_commit_gets_the_result_once_the_write_is_committed(connection, path):
    seen = []

    def after_commit(given, appended):
        seen.append((given, appended, query(path, "SELECT items FROM memory_turn")))

    (appended,) = commit(connection, queued_append(Turn("s", [7]), after_commit=after_commit))
    assert seen == [(connection, appended, [("[7]",)])]


@pytest.mark.parametrize("error", [ValueError("a fault"), KeyboardInterrupt()])
async def test_an_error_after_the_commit_fails_its_own_write_only(connection, error):
    def fail(*_):
        raise error

    bad, good = commit(
        connection, queued_append(Turn("s", [1]), after_commit=fail), queued_append(Turn("s", [2]))
    )
    assert bad is error
    assert good.revision > 0
    assert load(connection) == [1, 2]  # both were committed


async def test_after_commit_is_not_called_for_a_write_that_failed(connection):
    called = []
    commit(connection, queued_append(Turn("s", [0])))
    (conflict,) = commit(
        connection,
        queued_append(
            Turn("s", [1], expected_revision=1), after_commit=lambda *_: called.append(1)
        ),
    )
    assert isinstance(conflict, SessionConflict)
    assert called == []


async def test_other_jobs_run_alone_after_the_common_commit(connection):
    seen = []

    def look(connection):
        seen.append((connection.in_transaction, list(load(connection))))
        return "looked"

    def fail(_):
        raise RuntimeError

    looked, failed, _ = commit(
        connection, run_job(look), run_job(fail), queued_append(Turn("s", [1]))
    )
    assert (looked, type(failed)) == ("looked", RuntimeError)
    assert seen == [(False, [1])]


async def test_a_transaction_that_an_earlier_rollback_left_open_is_rolled_back(connection):
    connection.execute("BEGIN")
    connection.execute("DELETE FROM memory_head")
    (appended,) = commit(connection, queued_append(Turn("s", [1])))
    assert appended.revision > 0
    assert not connection.in_transaction


async def test_a_lock_held_past_the_busy_timeout_is_an_error_and_then_the_store_works(path):
    async with SqliteSessionStore(path, busy_timeout=0.2) as store:
        await store.append(Turn("s", [ITEM]))
        turn = Turn("s", [ITEM])

        with locked(path):
            for operation, argument in [(store.append, turn), (store.pop, "s"), (store.clear, "s")]:
                with pytest.raises(SessionError, match="database is locked") as caught:
                    await operation(argument)
                assert caught.value.session_id == "s"

            assert await store.load("s") == [ITEM]  # loads do not wait for writers

        await store.append(turn)
        assert await store.load("s") == [ITEM, ITEM]


async def test_all_writes_wait_for_a_lock_that_is_released_in_time(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["first"]))

        async with anyio.create_task_group() as tasks:
            with locked(path):
                for n in range(5):
                    tasks.start_soon(store.append, Turn("s", [n]))
                for _ in range(100):
                    assert len(await store.load("s")) == 1  # loads do not wait

        assert len(await store.load("s")) == 6


async def test_a_save_that_was_cancelled_while_it_waited_is_not_made(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["first"]))
        with locked(path), anyio.move_on_after(0.1) as scope:
            await store.append(Turn("s", ["cancelled"]))
        assert scope.cancelled_caught
        await store.append(Turn("s", ["after"]))
        assert await store.load("s") == ["first", "after"]


async def test_no_write_begins_in_a_cancelled_scope(path):
    async with SqliteSessionStore(path) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            while True:
                await store.append(Turn("s", [ITEM]))
        assert await store.load("s") == []
