"""What is SQLite's own: the file, whose it is, who may use it, and what is stored in it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tower_memory import (
    CorruptSessionError,
    MessageItem,
    Role,
    RunItem,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
)
from tower_memory._codec import ItemCodec
from tower_memory._stores import loads, operations, schema
from tower_memory._stores.loads import HotSessions, Load

ITEM = {"role": "user", "content": "Hi"}


def query(path, sql, *parameters):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.commit()
        connection.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


async def test_what_was_saved_is_there_when_the_store_is_opened_again(path):
    for expected in ([], [ITEM], [ITEM, ITEM]):
        async with SqliteSessionStore(path) as store:
            assert await store.load("s") == expected
            await store.append(Turn("s", [ITEM]))


async def test_a_store_opens_on_first_use_and_may_be_opened_again_once_closed(path):
    store = SqliteSessionStore(path)
    await store.aclose()  # closing what is not open is no error
    for expected in ([], [ITEM]):
        assert await store.load("s") == expected
        await store.append(Turn("s", [ITEM]))
        await store.aclose()
        await store.aclose()


def test_a_closed_store_may_be_opened_in_a_new_event_loop(path, anyio_backend):
    store = SqliteSessionStore(path)

    async def turn():
        async with store:
            await store.append(Turn("s", [ITEM]))
            return len(await store.load("s"))

    assert anyio.run(turn, backend=anyio_backend) == 1
    assert anyio.run(turn, backend="asyncio") == 2
    assert anyio.run(turn, backend="trio") == 3


async def test_the_file_and_its_side_files_are_readable_by_their_owner_only(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        files = list(path.parent.iterdir())
        assert {file.name for file in files} >= {"sessions.db", "sessions.db-wal"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_the_permissions_of_a_file_that_exists_stay_as_they_are(path):
    path.touch(mode=0o640)
    async with SqliteSessionStore(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_the_file_is_stamped_ours_and_kept_durably(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        assert query(path, "PRAGMA application_id") == [(0x746D656D,)]
        assert query(path, "PRAGMA user_version") == [(1,)]
        assert query(path, "PRAGMA journal_mode") == [("wal",)]
        synchronous = await store._database._workers.writer.run(schema._value, "PRAGMA synchronous")
        assert synchronous == 2  # full


async def test_a_relative_path_means_the_folder_that_was_current_when_the_store_was_made(
    path, monkeypatch
):
    monkeypatch.chdir(path.parent)
    store = SqliteSessionStore("sessions.db")
    monkeypatch.chdir("/")
    async with store:
        assert path.exists()


# Who may open it


def read(file):
    return file.read_bytes()


async def refused(path, reason):
    before = read(path)
    with pytest.raises(SessionError, match=reason) as caught:
        await SqliteSessionStore(path).load("s")
    assert str(path) in str(caught.value)
    assert read(path) == before
    assert list(path.parent.iterdir()) == [path]


async def test_a_file_that_is_no_database_is_refused_untouched(path):
    path.write_bytes(b"Dear diary, " * 1000)
    await refused(path, "file is not a database")


async def test_another_programs_database_is_refused_untouched(path):
    query(path, "CREATE TABLE notes (text)")
    await refused(path, r"another program's database \(application_id 0, .* tables: notes\)")


@pytest.mark.parametrize("pragma", ["application_id", "user_version"])
async def test_a_database_without_tables_that_bears_anothers_stamp_is_refused(path, pragma):
    query(path, f"PRAGMA {pragma} = 7")
    await refused(path, f"another program's database .*{pragma} 7.* tables: none")


async def test_another_programs_table_of_the_name_sessions_is_refused(path):
    query(path, "CREATE TABLE sessions (id, session_id, expires_at)")
    await refused(path, "another program's database")


async def test_a_file_of_a_newer_version_is_refused_untouched(path):
    async with SqliteSessionStore(path):
        pass
    query(path, "PRAGMA user_version = 2")
    await refused(path, "its schema is version 2, this tower-memory knows 1: upgrade it")


async def test_a_path_that_cannot_be_opened_is_named_with_the_reason(path):
    with pytest.raises(SessionError, match=r"cannot open .*/missing/a\.db: No such file"):
        await SqliteSessionStore(path.parent / "missing" / "a.db").load("s")
    with pytest.raises(SessionError, match="unable to open database file"):
        await SqliteSessionStore(path.parent).load("s")


async def test_a_file_that_stays_locked_while_it_is_opened_is_an_error_and_then_opens(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = SqliteSessionStore(path, busy_timeout=0.1)
    with pytest.raises(SessionError, match=r"cannot open .*: database is locked"):
        await store.load("s")
    other.execute("ROLLBACK")
    other.close()
    async with store:
        assert await store.load("s") == []


def test_a_step_of_opening_that_meets_a_lock_is_done_again(path):
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    steps = []

    def step(connection):
        steps.append("begun")
        if len(steps) == 2:
            other.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        return len(steps)

    assert schema._patiently(connection, step, lambda: True) == 2
    assert not connection.in_transaction
    other.close()
    connection.close()


def test_a_file_that_another_process_made_ours_meanwhile_is_left_as_it_is(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, lambda: False)
    schema._make_ours(connection)
    connection.execute("ROLLBACK")
    connection.close()


def test_where_there_can_be_no_write_ahead_log_the_file_is_refused():
    connection = sqlite3.connect("", isolation_level=None)  # a temporary file, which has none
    with pytest.raises(schema.Refused, match="does not allow a write-ahead log"):
        schema.prepare(connection, lambda: False)
    connection.close()


async def test_a_cancelled_opening_of_a_locked_file_ends_at_once_and_leaves_nothing(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = SqliteSessionStore(path, busy_timeout=3600)
    with anyio.move_on_after(0.05) as scope:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(store.load, "s")
    assert scope.cancelled_caught
    other.execute("ROLLBACK")
    other.close()
    async with store:
        assert await store.load("s") == []


async def test_what_failed_to_open_opens_once_the_cause_is_gone(path):
    store = SqliteSessionStore(path.parent / "later" / "a.db")
    with pytest.raises(SessionError):
        await store.load("s")
    (path.parent / "later").mkdir()
    async with store:
        assert await store.load("s") == []


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"path": ""}, ValueError),
        ({"path": b"a.db"}, TypeError),
        ({"path": None}, TypeError),
        ({"path": "a\0b"}, ValueError),
        ({"busy_timeout": -1}, ValueError),
        ({"busy_timeout": float("nan")}, ValueError),
        ({"busy_timeout": "5"}, TypeError),
        ({"synchronous": "sometimes"}, ValueError),
    ],
)
def test_bad_parameters_are_refused_by_name(parameters, error):
    (name,) = parameters
    with pytest.raises(error, match="path" if name == "path" else f"{name} must be"):
        SqliteSessionStore(**{"path": "a.db", **parameters})


# tower-llm's files

TOWER_LLM = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    item_type TEXT NOT NULL,
    item_data TEXT NOT NULL,
    created_at TEXT NOT NULL,
    sequence_num INTEGER NOT NULL,
    UNIQUE(session_id, sequence_num)
)
"""
HELLO = (
    '{"type":"Message","id":"m1","role":"user","content":"Hello","mood":{"n":12345678901234567890},'
    '"created_at":"2025-08-11T12:34:56.123456789Z"}'
)
REPLY = (
    '{"type":"Message","id":"m2","role":"assistant","content":"Hi","created_at":'
    '"2025-08-11T12:34:57Z"}'
)


def tower_llm_file(path, *rows):
    query(path, TOWER_LLM)
    query(path, "CREATE INDEX idx_session_id ON sessions(session_id, sequence_num)")
    for row in rows:
        query(
            path,
            "INSERT INTO sessions (session_id, item_type, item_data, created_at, sequence_num)"
            " VALUES (?, 'message', ?, ?, ?)",
            *row,
        )


async def test_a_file_of_tower_llm_is_taken_over_and_its_own_table_left_as_it_was(path):
    tower_llm_file(
        path,
        ("user_123", REPLY, "2025-08-11T14:34:57+02:00", 2),  # order is by number, not by row
        ("user_123", HELLO, "2025-08-11T12:34:56.123456789+00:00", 1),
        ("other", HELLO, "1969-12-31T23:59:59.5Z", 1),
    )
    before = query(path, "SELECT * FROM sessions")
    for _ in range(2):  # the second time it is ours
        async with SqliteSessionStore(path) as store:
            first, second = await store.load("user_123")
            assert (first["mood"], first["id"]) == ({"n": 12345678901234567890}, "m1")
            assert (second["content"], next(iter(second))) == ("Hi", "type")
            assert len(await store.load("other")) == 1
    assert query(path, "SELECT * FROM sessions") == before
    assert query(path, "SELECT item, created_at FROM memory_item ORDER BY id") == [
        (HELLO, -500_000_000),
        (HELLO, 1754915696_123456789),
        (REPLY, 1754915697_000000000),
    ]


async def test_a_conversation_of_tower_llm_goes_on_and_can_be_typed(path):
    tower_llm_file(path, ("user_123", REPLY, "2025-08-11T12:34:57Z", 1))
    async with SqliteSessionStore(path, item_type=RunItem) as store:
        time = datetime(2026, 1, 1, tzinfo=UTC)
        await store.append(Turn("user_123", [MessageItem("m3", Role.USER, "Still there?", time)]))
        assert [item.content for item in await store.load("user_123")] == ["Hi", "Still there?"]


@pytest.mark.parametrize(
    "bad",
    [
        ("user_123", '{"torn":', "2025-08-11T12:34:57Z", 2),
        ("user_123", HELLO, "yesterday", 2),
        ("", HELLO, "2025-08-11T12:34:57Z", 2),
        ("user_123", "[" * 100_000, "2025-08-11T12:34:57Z", 2),
        ("user_123", HELLO, "2300-01-01T00:00:00Z", 2),
        ("user_123", HELLO, "0001-01-01T00:00:00+01:00", 2),
    ],
    ids=["torn", "time", "id", "deep", "far", "farther"],
)
async def test_a_row_of_tower_llm_that_cannot_be_read_is_named_and_nothing_taken_over(path, bad):
    tower_llm_file(path, ("user_123", HELLO, "2025-08-11T12:34:57Z", 1), bad)
    before = read(path)
    with pytest.raises(CorruptSessionError) as caught:
        await SqliteSessionStore(path).load("user_123")
    assert (caught.value.session_id, caught.value.row) == (bad[0], 2)
    assert read(path) == before


# What is in it


async def test_an_item_that_no_longer_decodes_raises_with_its_row_and_stays(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        row = await store.append(Turn("s", [ITEM]))
        query(path, "UPDATE memory_item SET item = '{\"torn\":' WHERE id = ?", row)
        for operation in (store.load, store.pop):
            with pytest.raises(CorruptSessionError, match=f"row {row} cannot be decoded") as caught:
                await operation("s")
            assert (caught.value.session_id, caught.value.row) == ("s", row)
        assert query(path, "SELECT count(*) FROM memory_item") == [(2,)]
        await store.append(Turn("other", [ITEM]))  # and the store still works


async def test_an_item_that_no_longer_decodes_harms_no_other_load(path):
    async with SqliteSessionStore(path) as store:
        row = await store.append(Turn("bad", [1, 2, 3]))
        query(path, "UPDATE memory_item SET item = '{' WHERE id = ?", row)
        with pytest.raises(CorruptSessionError):
            await store.load("bad")
        await store.append(Turn("good", [ITEM]))
        assert await store.load("good") == [ITEM]
        query(path, "UPDATE memory_item SET item = '4' WHERE id = ?", row)
        assert await store.load("bad") == [1, 2, 4]


async def test_a_row_of_bytes_that_are_no_text_raises_with_its_row(path):
    async with SqliteSessionStore(path) as store:
        row = await store.append(Turn("s", [ITEM]))
        query(path, "UPDATE memory_item SET item = CAST(x'22ff22' AS TEXT) WHERE id = ?", row)
        with pytest.raises(CorruptSessionError):
            await store.load("s")


async def test_a_default_turn_id_takes_its_sixteen_bytes(path):
    async with SqliteSessionStore(path) as store:
        turn = Turn("s", [ITEM, ITEM])
        await store.append(turn)
        await store.append(Turn("s", [ITEM], turn_id="request 7"))
    assert query(path, "SELECT turn_id FROM memory_item") == [
        (bytes.fromhex(turn.turn_id),),
        (None,),
        ("request 7",),
    ]


async def test_each_item_has_the_time_it_was_saved_at(path, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 1754915696_123456789)
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
    assert query(path, "SELECT created_at FROM memory_item") == [(1754915696_123456789,)]


# Who else uses it


async def test_stores_on_one_file_see_each_others_turns_and_share_what_is_open(path):
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path, busy_timeout=1) as two:
        before = threading.active_count()
        async with SqliteSessionStore(path) as three:
            await one.append(Turn("s", [ITEM]))
            assert await two.load("s") == await three.load("s") == [ITEM]
            assert threading.active_count() <= before  # one of an earlier test may end now
        assert await one.load("s") == [ITEM]  # closing one leaves the others open
        assert one == two
        assert hash(one) == hash(two)
    assert one != SqliteSessionStore.in_memory()


async def test_a_file_that_is_open_is_not_opened_less_durably(path):
    async with SqliteSessionStore(path) as store:
        with pytest.raises(SessionError, match=r"synchronous='full', not 'off'; use the same"):
            await SqliteSessionStore(path, synchronous="off").load("s")
        await store.append(Turn("s", [ITEM]))
    async with SqliteSessionStore(path, synchronous="off") as store:
        assert await store.load("s") == [ITEM]


async def test_closing_a_store_that_is_being_opened_closes_it(path):
    store = SqliteSessionStore(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, Turn("s", [ITEM]))
        while store._opening is None:
            await anyio.lowlevel.checkpoint()
        await store.aclose()
        assert store._database is None
    await store.aclose()
    async with store:
        assert await store.load("s") == [ITEM]


FEW_FILES = """
import os, resource, sys, anyio
from tower_memory import SessionError, SqliteSessionStore

async def main():
    open_files = len(os.listdir("/proc/self/fd"))
    failures = set()
    for spare in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + spare - 1, 4096))
        store = SqliteSessionStore(sys.argv[1])
        try:
            await store.load("s")
        except SessionError as error:
            failures.add(spare)
        await store.aclose()
    print(sorted(failures)[:1])

anyio.run(main, backend=sys.argv[2])
"""


def test_a_process_out_of_files_gets_an_error_and_then_works(path, anyio_backend):
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, path, anyio_backend],
        capture_output=True,
        text=True,
        timeout=60,
    )
    # asyncio itself may print that an event loop of which it had only a half was not closed.
    assert (done.stdout, done.returncode) == ("[0]\n", 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the only one to have it
async def test_a_natively_cancelled_closing_finishes_what_was_asked_for_before(path):
    async with SqliteSessionStore(path) as store:
        asked = [asyncio.create_task(store.append(Turn("s", [n]))) for n in range(3)]
        asked += [asyncio.create_task(store.load("s")) for n in range(3)]
        closing = asyncio.create_task(store.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.gather(*asked)
        assert len(await store.load("s")) == 3


def appending(turn):
    encoded = ItemCodec(Any).encode(turn.items, turn.session_id)
    return operations.Write(partial(operations.append, turn=turn, encoded=encoded), 60)


def load(connection, caller):
    return loads.load(connection, HotSessions(), Load("s", None, ItemCodec(Any), caller, most=0))


def settle(connection, *writes):
    """The outcome of each of *writes*, which are queued together."""
    queue = operations.WriteQueue(writes)
    return [operations.settle(connection, queue, write) for write in writes]


def test_what_was_asked_for_by_a_caller_that_is_gone_is_not_done(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, lambda: False)
    settle(connection, appending(Turn("s", [0])))
    gone = [
        operations.Write(partial(operations.pop, session_id="s", codec=ItemCodec(Any)), 60),
        operations.Write(partial(operations.clear, session_id="s"), 60),
    ]
    for write in gone:
        write.caller.gone = True
        with pytest.raises(operations.Locked):  # which nobody hears
            settle(connection, write)
    assert load(connection, operations.Caller()) == [0]
    connection.close()


async def test_stores_in_memory_are_each_their_own():
    async with SqliteSessionStore.in_memory() as one, SqliteSessionStore(":memory:") as two:
        await one.append(Turn("s", [ITEM]))
        assert await two.load("s") == []
        assert one != two


async def test_many_tasks_may_open_one_store_at_once(path):
    before = threading.active_count()
    store = SqliteSessionStore(path)
    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(store.append, Turn("s", [n]))
    assert sorted(await store.load("s")) == list(range(10))
    await store.aclose()
    with anyio.fail_after(60):
        while threading.active_count() > before:  # a thread says that it is done, then ends
            await anyio.lowlevel.checkpoint()


OPEN_AND_SAVE = """
import sys, anyio
from tower_memory import SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        await store.append(Turn("s", [int(sys.argv[2])]))

print("ready", flush=True)
input()
anyio.run(main)
"""


def test_several_processes_may_open_a_new_file_at_once(path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AND_SAVE, path, str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for n in range(8)
    ]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert [child.wait() for child in children] == [0] * 8
    for child in children:
        child.stdin.close()
        child.stdout.close()
    items = query(path, "SELECT CAST(item AS INTEGER) FROM memory_item")
    assert sorted(item for (item,) in items) == list(range(8))


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


async def test_a_lock_given_back_in_time_is_waited_for_by_all(path):
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


def test_a_fault_in_one_turn_of_a_commit_is_not_its_neighbours(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, lambda: False)
    connection.execute(
        "CREATE TRIGGER fault BEFORE INSERT ON memory_item WHEN new.item = '\"bad\"'"
        " BEGIN SELECT RAISE(ABORT, 'a fault'); END"
    )
    one, bad, two = (appending(Turn("s", items)) for items in (["one"], ["half", "bad"], ["two"]))
    queue = operations.WriteQueue([one, bad, two])
    assert operations.settle(connection, queue, one) == 1
    with pytest.raises(sqlite3.IntegrityError, match="a fault"):
        operations.settle(connection, queue, bad)
    assert operations.settle(connection, queue, two) > 1
    history = load(connection, operations.Caller())
    assert history == ["one", "two"]
    connection.close()


def test_a_conflict_among_the_turns_of_a_commit_costs_no_commit_of_its_own(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, lambda: False)
    statements = []
    connection.set_trace_callback(statements.append)
    writes = [appending(Turn("s", [n], expected_revision=n % 2 or None)) for n in range(4)]
    queue = operations.WriteQueue(writes)
    for write in writes:
        if write is not writes[3]:
            operations.settle(connection, queue, write)
        else:
            with pytest.raises(SessionConflict):
                operations.settle(connection, queue, write)
    assert statements.count("COMMIT") == 1
    history = load(connection, operations.Caller())
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


def test_a_turn_whose_caller_is_gone_before_its_commit_is_not_written(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, lambda: False)
    gone, here = (appending(Turn("s", [n])) for n in range(2))
    gone.caller.gone = True
    with pytest.raises(operations.Locked):  # which nobody hears
        settle(connection, gone)
    assert load(connection, operations.Caller()) == []
    queue = operations.WriteQueue([gone, here])
    assert operations.settle(connection, queue, here) == 1
    history = load(connection, here.caller)
    assert (list(history), history.revision) == ([1], 1)
    connection.close()


def test_a_load_whose_caller_is_gone_stops(path):
    connection = sqlite3.connect(path, isolation_level=None)
    schema.prepare(connection, lambda: False)
    settle(connection, appending(Turn("s", [0, 1])))
    caller = operations.Caller()
    caller.gone = True
    assert load(connection, caller) == []
    connection.close()


async def test_in_a_cancelled_scope_nothing_is_begun(path):
    async with SqliteSessionStore(path) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            while True:
                await store.append(Turn("s", [ITEM]))
        assert await store.load("s") == []


async def test_what_is_open_in_one_event_loop_is_refused_in_another(path):
    async with SqliteSessionStore(path) as store:

        def elsewhere(backend):
            with pytest.raises(RuntimeError, match="is open in another event loop; close it there"):
                anyio.run(store.load, "s", backend=backend)
            with pytest.raises(RuntimeError, match="is open in another event loop"):
                anyio.run(store.aclose, backend=backend)

        for backend in ("asyncio", "trio"):
            await anyio.to_thread.run_sync(elsewhere, backend)
        assert await store.load("s") == []


FORK = """
import os, sys, threading, anyio
from tower_memory import SessionError, SqliteSessionStore, Turn

def open_anew():
    try:
        anyio.run(SqliteSessionStore(sys.argv[1]).load, "s", backend=sys.argv[2])
    except SessionError as error:
        print(error, flush=True)

async def main():
    store = SqliteSessionStore(sys.argv[1])
    await store.append(Turn("s", ["parent"]))
    if os.fork() == 0:
        try:
            await store.load("s")
        except RuntimeError as error:
            print(error, flush=True)
        anew = threading.Thread(target=open_anew)  # the event loop here is the parent's
        anew.start()
        anew.join()
        os._exit(0)  # event loops do not survive the orderly end of a forked child
    os.wait()
    print(list(await store.load("s")))
    await store.aclose()

anyio.run(main, backend=sys.argv[2])
if os.fork() == 0:
    anyio.run(SqliteSessionStore(sys.argv[1]).load, "s", backend=sys.argv[2])
    sys.exit()
sys.exit(os.wait()[1])
"""


def test_what_is_open_is_refused_in_a_forked_child_and_works_on_in_the_parent(path, anyio_backend):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, path, anyio_backend],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    child, own, parent = done.stdout.splitlines()
    assert child == (
        f"the store on {path} was opened in the parent process; "
        "fork before it is opened, or spawn the child"
    )
    assert own == (
        f"cannot open {path}: it was open when this process was forked; open it after, "
        "or spawn the process"
    )
    assert parent == "['parent']"


async def test_a_copy_of_the_file_made_after_closing_is_whole(path, tmp_path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
    copied = shutil.copy(path, tmp_path / "copy.db")
    async with SqliteSessionStore(copied) as store:
        assert await store.load("s") == [ITEM]
