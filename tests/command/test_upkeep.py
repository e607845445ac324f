"""Scrubs, backups and checks."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import anyio
import pytest

from helpers.commands import failed
from tower_memory import SqliteSessionStore, Turn


async def _fill(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["a", "b"], metadata={"model": "m"}))
        await store.append(Turn("s", ["c"]))
        await store.append(Turn("other", ["d"]))
        await store.begin(Turn("s", ["pending"]))
        history = await store.load("s")
        await store.save_summary(
            "s", "brief", turn_id=history.turns[0].turn_id, since=history.revision
        )


@pytest.fixture
def run(run, tmp_path):
    """Return a function that runs the command on a file with sessions."""
    anyio.run(_fill, tmp_path / "sessions.db")
    return run


def damage(tmp_path, statement, *values):
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def test_an_erased_word_leaves_the_file_with_a_scrub(run, tmp_path):
    run("--session", "secret", said="xyzzy plugh")
    run("erase", "secret", "--yes")
    assert run("scrub").lines() == ["scrubbed sessions.db"]
    assert not any(b"plugh" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_backup_is_a_file_with_the_same_sessions(run, tmp_path):
    (line,) = run("backup", "copy.db").lines()
    size = (tmp_path / "copy.db").stat().st_size
    assert line == f"copied sessions.db to copy.db, {size:,} bytes"
    assert run("sessions", "--db", "copy.db").lines() == run("sessions").lines()
    failed(run("backup", "copy.db"), "copy.db", "it exists")
    failed(run("backup", ":memory:"), "path of a new file")


def test_a_sound_file_has_no_damage(run):
    assert run("check").lines() == ["sessions.db: 2 sessions, 3 turns, no damage"]
    summary = {"kind": "summary", "sessions": 2, "turns": 3, "damages": 0}
    assert run("check", "--json").objects() == [summary]


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        (
            "UPDATE memory_turn SET items = '[1' WHERE id = 1",
            "session s: row 1: it cannot be decoded: Input data was truncated",
        ),
        (
            "UPDATE memory_turn SET items = '[1]' WHERE id = 1",
            "session s: row 1: it has 1 items, not 2",
        ),
        (
            "UPDATE memory_turn SET metadata = '[]' WHERE id = 1",
            "session s: row 1: it cannot be decoded",
        ),
        (
            "UPDATE memory_turn SET first = 7 WHERE id = 2",
            "session s: row 2: it is not at its place",
        ),
        (
            "UPDATE memory_turn SET number = 1 << 50 WHERE id = 2",
            "session s: row 2: it is not at its place",
        ),
        (
            "UPDATE memory_head SET turns = 9 WHERE session_id = 's'",
            "session s: it has 2 turns and 3 items, not 9 and 3",
        ),
        (
            "UPDATE memory_head SET metadata = '{'",
            "session s: it cannot be decoded: Input data was truncated",
        ),
        (
            "UPDATE memory_pending SET items = '{'",
            "session s: a pending turn: it cannot be decoded",
        ),
        (
            "UPDATE memory_summary SET summary = CAST(x'ff' AS TEXT)",
            "session s: a summary: it cannot be decoded",
        ),
        (
            "UPDATE memory_summary SET number = number - 1",
            "session s: a summary: the last turn that it covers is missing",
        ),
        ("DELETE FROM memory_head WHERE session_id = 'other'", "row 3: its session is missing"),
    ],
)
def test_a_damage_is_named(run, tmp_path, statement, line):
    damage(tmp_path, statement)
    done = run("check")
    assert (done.returncode, done.stderr) == (1, "")
    first, *_, last = done.stdout.splitlines()
    assert first.startswith(line)
    assert "found" in last


def test_an_index_that_lacks_a_row_is_a_damage(run, tmp_path):
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'first, number', 'number, first')"
            " WHERE name = 'memory_turn_place'"
        )
        connection.commit()
    done = run("check")
    assert done.returncode == 1
    assert "memory_turn_place" in done.stdout


def test_a_damage_is_a_json_line(run, tmp_path):
    damage(tmp_path, "UPDATE memory_turn SET items = '[1]' WHERE id = 1")
    done = run("check", "--json")
    assert done.stdout.splitlines()[0] == (
        '{"kind":"damage","session_id":"s","row":1,"reason":"it has 1 items, not 2"}'
    )


def test_a_torn_page_is_a_damage(run, tmp_path):
    run("scrub").lines()
    path = tmp_path / "sessions.db"
    raw = path.read_bytes()
    place = raw.index(b'["a","b"]') // 1024 * 1024
    path.write_bytes(raw[:place] + b"\xff" * 1024 + raw[place + 1024 :])
    done = run("check")
    assert done.returncode == 1
    assert "damage" in done.stdout
    assert done.stderr == ""


def test_a_file_that_is_no_database_is_one_line(run, tmp_path):
    (tmp_path / "notes.txt").write_text("Dear diary\n" * 100)
    failed(run("--db", "notes.txt", "check"), "notes.txt: file is not a database")
    failed(run("--db", ".", "check"), "unable to open database file")


def test_a_locked_file_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tower_memory._stores.sqlite.whole_file.PATIENCE", 0.01)
    run("export", "-o", "all.jsonl").lines()
    with closing(sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        done = run("import", "all.jsonl")
    failed(done, "sessions.db: database is locked")
