"""The schema of a SQLite file, and files that are refused because they are not ours."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from helpers.messages import ITEM
from helpers.schema1 import copy_file
from helpers.sqlite import check_schema_2, query, read_bytes
from helpers.sqlite_internals import (
    Connection,
    Refused,
    create_schema,
    make_read_only,
    open_prepared,
    pragma_of_writer,
    prepare_schema,
    retry_while_locked,
)
from tower_memory import SessionError, SqliteSessionStore, Turn


async def test_the_file_has_our_application_id_and_is_durable(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        assert query(path, "PRAGMA application_id") == [(0x746D656D,)]
        assert query(path, "PRAGMA user_version") == [(2,)]
        assert query(path, "PRAGMA journal_mode") == [("wal",)]
        synchronous = await pragma_of_writer(store, "synchronous")
        assert synchronous == 2  # the value of FULL


async def refused(path, reason):
    before = read_bytes(path)
    with pytest.raises(SessionError, match=reason) as caught:
        await SqliteSessionStore(path).load("s")
    assert str(path) in str(caught.value)
    assert read_bytes(path) == before
    assert list(path.parent.iterdir()) == [path]


async def test_a_file_that_is_no_database_is_refused_untouched(path):
    path.write_bytes(b"Dear diary, " * 1000)
    await refused(path, "file is not a database")


async def test_another_programs_database_is_refused_untouched(path):
    query(path, "CREATE TABLE notes (text)")
    await refused(path, r"another program's database \(application_id 0, .* tables: notes\)")


@pytest.mark.parametrize("pragma", ["application_id", "user_version"])
async def test_an_empty_database_with_the_id_of_another_program_is_refused(path, pragma):
    query(path, f"PRAGMA {pragma} = 7")
    await refused(path, f"another program's database .*{pragma} 7.* tables: none")


async def test_another_programs_table_of_the_name_sessions_is_refused(path):
    query(path, "CREATE TABLE sessions (id, session_id, expires_at)")
    await refused(path, "another program's database")


async def test_a_file_of_a_newer_version_is_refused_untouched(path):
    async with SqliteSessionStore(path):
        pass
    query(path, "PRAGMA user_version = 3")
    await refused(path, "its schema is version 3, this tower-memory knows 2: upgrade it")


def test_a_new_file_has_small_pages_and_an_older_file_keeps_its_own(path, tmp_path):
    older = tmp_path / "older.db"
    copy_file("empty", older)
    for file, size in ((path, 1024), (older, 4096)):
        open_prepared(file).close()
        check_schema_2(file)
        assert query(file, "PRAGMA page_size") == [(size,)]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_commit_of_4_megabytes_copies_the_log_for_pages_of_any_size(path, is_new):
    if not is_new:
        copy_file("empty", path)

    with closing(open_prepared(path)) as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
        assert pages * page_size == 4 * 2**20


def test_a_log_that_has_grown_is_shortened_by_the_next_commits(path):
    log = path.with_name(f"{path.name}-wal")
    with closing(open_prepared(path)) as connection:
        connection.execute("CREATE TABLE large (content)")
        connection.execute("INSERT INTO large VALUES (zeroblob(20000000))")
        assert log.stat().st_size > 20_000_000
        connection.execute("DELETE FROM large")
        connection.execute("INSERT INTO large VALUES (1)")
        assert log.stat().st_size <= 8 * 2**20


def test_deleted_text_is_overwritten(path):
    """Some builds of SQLite do so by default, others do not."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        prepare_schema(connection)
        connection.execute("CREATE TABLE notes (content)")
        connection.execute("INSERT INTO notes VALUES ('a secret')")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert b"a secret" in read_bytes(path)
        connection.execute("DELETE FROM notes")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert b"a secret" not in read_bytes(path)


def test_a_connection_that_reads_cannot_write(path):
    open_prepared(path).close()
    with closing(Connection(str(path), isolation_level=None)) as connection:
        make_read_only(connection)
        with pytest.raises(sqlite3.OperationalError, match="attempt to write a readonly database"):
            connection.execute("DELETE FROM memory_head")


def test_an_opener_that_another_has_overtaken_finds_a_whole_file(path):
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as first:
        first.execute("PRAGMA page_size = 1024")
        open_prepared(path).close()
        prepare_schema(first)
    check_schema_2(path)


def test_a_step_of_opening_that_meets_a_lock_is_repeated(path):
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

    assert retry_while_locked(connection, step) == 2
    assert not connection.in_transaction

    other.close()
    connection.close()


def test_a_schema_that_another_process_has_just_created_is_not_changed(path):
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_schema(connection)
    create_schema(connection)
    connection.execute("ROLLBACK")
    connection.close()


def test_a_file_that_allows_no_write_ahead_log_is_refused():
    # A temporary file has no write-ahead log.
    connection = sqlite3.connect("", isolation_level=None)
    with pytest.raises(Refused, match="does not allow a write-ahead log"):
        prepare_schema(connection)
    connection.close()
