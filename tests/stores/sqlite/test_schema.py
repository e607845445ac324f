"""The schema of a SQLite file, and files that are refused because they are not ours."""

from __future__ import annotations

import sqlite3

import pytest

from helpers.messages import ITEM
from helpers.sqlite import query, read_bytes
from helpers.sqlite_internals import (
    Refused,
    create_schema,
    pragma_of_writer,
    prepare_schema,
    retry_while_locked,
)
from tower_memory import SessionError, SqliteSessionStore, Turn


async def test_the_file_has_our_application_id_and_is_durable(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        assert query(path, "PRAGMA application_id") == [(0x746D656D,)]
        assert query(path, "PRAGMA user_version") == [(1,)]
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
    query(path, "PRAGMA user_version = 2")
    await refused(path, "its schema is version 2, this tower-memory knows 1: upgrade it")


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
