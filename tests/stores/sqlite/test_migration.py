"""Migration of files of schema 1 to schema 2."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from contextlib import closing

import pytest
from anyio import CancelScope, from_thread
from anyio.lowlevel import current_token
from hypothesis import given
from hypothesis import strategies as st

from helpers.processes import run_python, unmeasured
from helpers.schema1 import NAMES, OldFile, copy_file, expected_of, old_file
from helpers.sqlite import (
    check_integrity,
    check_schema_2,
    query,
    read_bytes,
    read_order,
    read_turns,
)
from helpers.sqlite_internals import (
    DAMAGED,
    WATCH_INTERVAL,
    Stopped,
    log_each_report,
    prepare_schema,
)
from tower_memory import CorruptSessionError, SqliteSessionStore, Turn

USER = b'{"role":"user","content":"Hi"}'
REPLY = b'{"role":"assistant","content":"Hello"}'


def migrate(path, **options):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        prepare_schema(connection, **options)


def check_content(path, expected):
    """Fail unless the migrated file at *path* has the *expected* turns, as `make_files` has them."""
    check_schema_2(path)
    found = read_turns(path)
    assert found.keys() == expected["sessions"].keys()

    for session_id, turns in expected["sessions"].items():
        assert len(found[session_id]) == len(turns)
        for (turn_id, first, items), turn in zip(found[session_id], turns, strict=True):
            assert first == turn["first"]
            assert json.loads(items) == turn["items"]
            assert turn["turn_id"] in (turn_id, None)

    assert read_order(path) == expected["order"]


@pytest.mark.parametrize("name", NAMES)
def test_a_migrated_file_has_the_same_turns_and_passes_the_integrity_check(path, name):
    expected = copy_file(name, path)
    assert query(path, "PRAGMA user_version") == [(1,)]
    for _ in range(2):  # the second time, there is nothing to do
        migrate(path)
        check_content(path, expected)


def test_each_items_json_and_time_stay_as_they_were(path):
    copy_file("conversations", path)
    before = query(
        path,
        "SELECT CAST(i.item AS BLOB), i.created_at FROM memory_item i ORDER BY session, id",
    )
    starts = query(
        path,
        "SELECT session, created_at FROM memory_item WHERE turn_id IS NOT NULL ORDER BY session, id",
    )
    ends = query(
        path,
        "SELECT session, min(created_at), max(created_at) FROM memory_item GROUP BY session",
    )
    migrate(path)

    turns = [turn for turns in read_turns(path).values() for turn in turns]
    assert b"".join(items[1:-1] + b"," for _, _, items in turns) == b"".join(
        item + b"," for item, _ in before
    )
    assert (
        query(path, "SELECT session, created_at FROM memory_turn ORDER BY session, number")
        == starts
    )
    times = "SELECT id, created_at, updated_at FROM memory_head WHERE turns ORDER BY id"
    assert query(path, times) == ends


def test_an_emptied_session_stays_listed_with_the_time_of_the_migration(path):
    copy_file("conversations", path)
    migrate(path)
    ((head, revision, created_at, updated_at),) = query(
        path, "SELECT id, revision, created_at, updated_at FROM memory_head WHERE turns = 0"
    )
    assert revision == head << 32
    newest = query(path, "SELECT max(created_at) FROM memory_turn")[0][0]
    assert created_at == updated_at > newest


def test_ids_of_heads_are_not_given_again(path):
    copy_file("conversations", path)
    migrate(path)
    highest = query(path, "SELECT max(id) FROM memory_head")[0][0]
    assert query(path, "SELECT seq FROM sqlite_sequence WHERE name = 'memory_head'") == [(highest,)]


def test_turns_that_had_no_id_get_the_same_id_in_every_file(path, tmp_path):
    copies = [path, tmp_path / "copy.db"]
    for copy in copies:
        copy_file("taken_over", copy)
        migrate(copy)
    first, second = map(read_turns, copies)
    assert first == second

    ids = [turn_id for turns in first.values() for turn_id, _, _ in turns]
    assert len({*ids}) == len(ids) == 5
    assert all(len(turn_id) == 32 for turn_id in ids)
    assert first["\u00fcser"][0][0] == "6cecc0c340589ca7916d08250611a801"


def test_a_program_of_schema_1_that_has_the_file_open_gets_an_error_and_changes_nothing(path):
    copy_file("conversations", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("SELECT * FROM memory_item").fetchall()
        migrate(path)
        content = read_turns(path)
        for statement in (
            "INSERT INTO memory_session (session_id) VALUES ('new')",
            "INSERT INTO memory_item (session, created_at, turn_id, item) VALUES (1, 1, NULL, '1')",
            "SELECT id, created_at, turn_id, CAST(item AS BLOB) FROM memory_item",
            "DELETE FROM memory_item WHERE id = 1",
            "DELETE FROM memory_session WHERE session_id = 'ada'",
        ):
            with pytest.raises(sqlite3.OperationalError, match="no such table: memory_"):
                old.execute(statement)
    assert read_turns(path) == content


def test_the_old_tables_leave_no_readable_text_behind(path):
    secret = b'{"role":"user","content":"an old secret"}'
    old_file(path, ("s", [secret], "t1"))
    assert secret in read_bytes(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        prepare_schema(connection)
    query(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert read_bytes(path).count(b"an old secret") == 1


@pytest.mark.parametrize(
    "bad",
    [
        [b'{"torn":'],
        [b""],
        [b"1,2"],
        [b'{"a":1', b'"b":2}'],
        [b"1]"],
        [b'{"role":"user'],
        [b"\xff"],
    ],
    ids=["torn", "empty", "two", "halves", "end", "text", "bytes"],
)
def test_a_damaged_row_makes_only_its_turn_unreadable(path, bad):
    old_file(path, ("s", [USER, *bad], "t1"), ("s", [REPLY], "t2"), ("other", [USER], "t3"))
    migrate(path)
    check_schema_2(path)
    assert read_turns(path) == {
        "s": [
            ("t1", 0, DAMAGED + b"[" + b",".join([USER, *bad]) + b"]"),
            ("t2", 1 + len(bad), b"[%b]" % REPLY),
        ],
        "other": [("t3", 0, b"[%b]" % USER)],
    }


def test_text_that_is_not_unicode_keeps_its_bytes(path):
    old_file(path, ("s", [b'"caf\xe9"'], "t1"), ("t", [USER], "t2"))
    query(path, "UPDATE memory_item SET turn_id = CAST(x'ff' AS TEXT) WHERE turn_id = 't2'")
    query(path, "UPDATE memory_session SET session_id = CAST(x'fe' AS TEXT) WHERE session_id = 't'")
    migrate(path)
    assert query(path, "SELECT CAST(items AS BLOB), typeof(items) FROM memory_turn LIMIT 1") == [
        (b'["caf\xe9"]', "text")
    ]
    found = query(
        path,
        "SELECT hex(t.turn_id), typeof(t.turn_id), hex(h.session_id), typeof(h.session_id)"
        " FROM memory_turn t JOIN memory_head h ON h.id = t.session WHERE t.session = 2",
    )
    assert found == [("FF", "text", "FE", "text")]


def test_an_item_that_is_nested_too_deeply_here_stays_as_it_is(path):
    deep = b"[" * 100_000 + b"]" * 100_000
    old_file(path, ("s", [deep], "t1"), ("s2", [USER, deep]))
    migrate(path)
    assert read_turns(path)["s"] == [("t1", 0, b"[%b]" % deep)]
    ((_, first, items),) = read_turns(path)["s2"]
    assert (first, items) == (0, b"[%b,%b]" % (USER, deep))


def test_rows_without_a_turn_id_become_one_turn_for_each_exchange(path):
    torn = b'{"role":'
    old_file(path, ("s", [REPLY, USER, REPLY, REPLY, USER, torn, USER]), ("s", [USER, USER], "t1"))
    migrate(path)
    check_schema_2(path)
    ids, firsts, items = zip(*read_turns(path)["s"], strict=True)
    assert firsts == (0, 1, 4, 6, 7)
    assert items == (
        b"[%b]" % REPLY,
        b"[%b,%b,%b]" % (USER, REPLY, REPLY),
        DAMAGED + b"[%b,%b]" % (USER, torn),
        b"[%b]" % USER,
        b"[%b,%b]" % (USER, USER),
    )
    assert ids[-1] == "t1"


def test_rows_without_a_session_are_left_out(path):
    old_file(path, ("s", [USER], "t1"), ("gone", [REPLY], "t2"))
    query(path, "DELETE FROM memory_session WHERE session_id = 'gone'")
    migrate(path)
    check_schema_2(path)
    assert read_turns(path) == {"s": [("t1", 0, b"[%b]" % USER)]}


def test_progress_is_reported_in_rows(path):
    rows = 2 * WATCH_INTERVAL + 1
    old_file(path, ("s", [b"1"] * rows, "t1"))
    reports = []
    migrate(path, report=lambda *numbers: reports.append(numbers))
    assert reports == [(0, rows), (WATCH_INTERVAL, rows), (2 * WATCH_INTERVAL, rows)]


def test_a_migration_that_nobody_wants_any_more_is_rolled_back(path):
    old_file(path, ("s", [b"1"] * (2 * WATCH_INTERVAL), "t1"))
    asked = []

    def keep_going():
        asked.append(True)
        return len(asked) < 2

    with pytest.raises(Stopped):
        migrate(path, keep_going=keep_going)
    assert len(asked) == 2
    check_integrity(path)
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert query(path, "SELECT count(*) FROM memory_item") == [(2 * WATCH_INTERVAL,)]
    tables = query(path, "SELECT name FROM sqlite_master WHERE name LIKE 'memory_head%'")
    assert tables == []


def test_a_migration_that_takes_longer_than_its_caller_waits_goes_on(path):
    expected = copy_file("conversations", path)
    migrate(path, keep_waiting=lambda: False)
    check_content(path, expected)


def test_of_two_openers_one_migrates_and_the_other_waits_and_finds_it_done(path):
    expected = copy_file("conversations", path)
    is_waiting = threading.Event()
    reports = []

    def keep_waiting():
        is_waiting.set()
        return True

    def open_too():
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
            prepare_schema(
                connection, keep_waiting=keep_waiting, report=lambda *rows: reports.append(rows)
            )

    second = threading.Thread(target=open_too)

    def report(done, total):
        second.start()
        assert is_waiting.wait(60)

    migrate(path, report=report)
    second.join()
    assert reports == []
    check_content(path, expected)


def test_an_opener_that_does_not_wait_finds_the_file_locked(path):
    copy_file("conversations", path)

    def open_again(done, total):
        with (
            closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
            pytest.raises(sqlite3.OperationalError, match="database is locked"),
        ):
            prepare_schema(other)

    migrate(path, report=open_again)


KILLED = """
import os, shutil, signal, sqlite3, sys
from contextlib import closing
from helpers.sqlite import query
from helpers.sqlite_internals import prepare_schema

class Killed(sqlite3.Connection):
    def execute(self, *arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return super().execute(*arguments)

    def executemany(self, sql, rows):
        for row in rows:
            self.execute(sql, row)

def open_file(path, factory=sqlite3.Connection):
    with closing(sqlite3.connect(path, isolation_level=None, factory=factory)) as connection:
        prepare_schema(connection)

source, folder = sys.argv[1:]
statements, status, versions = 0, -signal.SIGKILL, set()
while status == -signal.SIGKILL:
    path = f"{folder}/{statements}.db"
    shutil.copy(source, path)
    if not os.fork():
        left = statements
        open_file(path, Killed)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    statements += 1

    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    ((version,),) = query(path, "PRAGMA user_version")
    tables = {name for (name,) in query(path, "SELECT name FROM sqlite_master")}
    assert ("memory_item" in tables) == (version == 1), (version, tables)
    assert ("memory_head" in tables) == (version == 2), (version, tables)
    versions.add(version)
    open_file(path)
    print(*query(path, "SELECT total(size), count(*) FROM memory_turn")[0])
assert (status, versions) == (0, {1, 2}), (status, versions)
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_any_statement_leaves_a_whole_file_of_one_of_the_versions(tmp_path, name):
    source = tmp_path / "source.db"
    expected = copy_file(name, source)
    done = run_python(KILLED, source, tmp_path, env=unmeasured())
    assert done.returncode == 0, done.stderr

    turns = [turn for turns in expected["sessions"].values() for turn in turns]
    content = f"{float(sum(len(turn['items']) for turn in turns))} {len(turns)}"
    lines = done.stdout.splitlines()
    assert len(lines) > 20
    assert {*lines} == {content}


SESSIONS = st.sampled_from(["a", "b", "\u00fc\0"])
ITEMS = st.sampled_from([USER, REPLY, b"1", b'"x"', b'[{"a":null}]'])
WRITES = st.lists(
    st.tuples(SESSIONS, st.sampled_from(["append", "append", "append", "pop", "clear"])).flatmap(
        lambda write: st.tuples(st.just(write), st.lists(ITEMS, min_size=1, max_size=4))
    ),
    max_size=20,
)


@given(taken_over=st.dictionaries(SESSIONS, st.lists(ITEMS, min_size=1)), writes=WRITES)
def test_any_history_of_schema_1_keeps_its_turns(tmp_path_factory, taken_over, writes):
    path = tmp_path_factory.mktemp("schema1") / "sessions.db"
    sessions = {}  # session id -> pairs of a turn id, or None, and an item
    order = []

    with closing(OldFile(path)) as file:
        for session_id, items in sorted(taken_over.items()):
            file.append(session_id, items)
            sessions[session_id] = [(None, item) for item in items]
            order.append(session_id)

        for number, ((session_id, kind), items) in enumerate(writes):
            if kind == "append":
                turn_id = f"turn {number}" if number % 2 else number.to_bytes(16, "big")
                file.append(session_id, items, turn_id, created_at=number)
                rows = sessions.setdefault(session_id, [])
                rows += [(turn_id, item) for item in items]
            elif kind == "pop":
                file.pop(session_id)
                if sessions.get(session_id):
                    sessions[session_id].pop()
            else:
                file.clear(session_id)
                sessions.pop(session_id, None)

    migrate(path)
    check_schema_2(path)
    found = read_turns(path)
    assert found.keys() == sessions.keys()

    for session_id, rows in sessions.items():
        position = 0
        for turn_id, first, items in found[session_id]:
            assert first == position
            size = len(json.loads(items))
            ids, texts = zip(*rows[first : first + size], strict=True)
            assert items == b"[%b]" % b",".join(texts)
            (own_id,) = {*ids}
            position += size

            after = rows[position][0] if position < len(rows) else "the end"
            if own_id is None:
                assert USER not in texts[1:]
                assert after is not None or rows[position][1] != REPLY
            else:
                assert turn_id == (own_id if isinstance(own_id, str) else own_id.hex())
                assert after != own_id
        assert position == len(rows)


async def test_a_cancelled_opener_rolls_its_migration_back(path, monkeypatch, caplog):
    old_file(path, ("s", [b"1"] * (100 * WATCH_INTERVAL), "t1"))
    token, scope = current_token(), CancelScope()
    reports = []

    class Cancelling(logging.Handler):
        def emit(self, record):
            reports.append(record)
            from_thread.run_sync(scope.cancel, token=token)

    log_each_report(monkeypatch)
    caplog.set_level(logging.INFO, logger="tower_memory")
    logger, handler = logging.getLogger("tower_memory"), Cancelling()
    logger.addHandler(handler)
    with scope:
        await SqliteSessionStore(path).__aenter__()
    logger.removeHandler(handler)

    assert scope.cancelled_caught
    assert 0 < len(reports) < 100
    assert query(path, "PRAGMA user_version") == [(1,)]
    check_integrity(path)

    async with SqliteSessionStore(path, busy_timeout=0):  # a migration may take longer than this
        check_schema_2(path)


async def test_the_store_loads_a_migrated_file_and_appends_to_it(path):
    expected = copy_file("conversations", path)
    async with SqliteSessionStore(path) as store:
        for session_id, turns in expected["sessions"].items():
            history = await store.load(session_id)
            assert list(history) == [item for turn in turns for item in turn["items"]]
            assert [(turn.turn_id, turn.position) for turn in history.turns] == [
                (turn["turn_id"], turn["first"]) for turn in turns
            ]
            revision = await store.append(Turn(session_id, ["more"]))
            assert revision > history.revision
            assert (await store.load(session_id))[-1] == "more"

        held = expected["sessions"]["ada"][0]
        before = await store.load("ada")
        assert (
            await store.append(Turn("ada", ["again"], turn_id=held["turn_id"])) == before.revision
        )
        assert await store.load("ada") == before


async def test_a_load_of_a_damaged_turn_names_it_and_newer_turns_can_be_loaded(path):
    old_file(path, ("s", [USER, b'{"torn":'], "t1"), ("s", [REPLY], "t2"), ("other", [USER], "t3"))
    async with SqliteSessionStore(path) as store:
        with pytest.raises(CorruptSessionError) as caught:
            await store.load("s")
        assert caught.value.session_id == "s"
        assert list(await store.load("s", limit=1)) == [json.loads(REPLY)]
        assert list(await store.load("other")) == [json.loads(USER)]


def test_the_expected_content_has_the_conversations():
    assert [*map(len, (expected_of(name)["sessions"] for name in NAMES))] == [6, 2, 0]
