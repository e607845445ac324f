"""Read and lock a SQLite file from outside of the store."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager

APPLICATION_ID = 0x746D656D
"""The application id of our files: "tmem"."""


def query(path, sql, *parameters):
    """Run *sql* on the file at *path* through a connection of its own, and return all rows."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(sql, parameters).fetchall()
        connection.commit()
    return rows


def check_integrity(path):
    """Fail unless SQLite finds the file at *path* whole."""
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


@contextmanager
def locked(path, kind="IMMEDIATE"):
    """Lock the file at *path* for writing, or against everything if *kind* is EXCLUSIVE."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {kind}")
        yield
        other.execute("ROLLBACK")


@contextmanager
def emptied(path):
    """Empty the file at *path*, and restore it at the end."""
    query(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    os.truncate(path, 0)
    yield
    with path.open("r+b") as file:
        file.write(whole)


def read_bytes(file):
    return file.read_bytes()


def turn_text(turn_id):
    """Return the turn id that is stored as *turn_id*."""
    return turn_id.hex() if isinstance(turn_id, bytes) else turn_id


def read_turns(path):
    """Return the turns of each session of a file of schema 2: id, first position and JSON."""
    heads = query(path, "SELECT session_id FROM memory_head ORDER BY id")
    sessions = {session_id: [] for (session_id,) in heads}
    for session_id, turn_id, first, items in query(
        path,
        "SELECT h.session_id, t.turn_id, t.first, CAST(t.items AS BLOB) FROM memory_turn t"
        " JOIN memory_head h ON h.id = t.session ORDER BY t.session, t.number",
    ):
        sessions[session_id].append((turn_text(turn_id), first, items))
    return sessions


def read_order(path):
    """Return the ids of the sessions of a file of schema 2, the last active one at the end."""
    rows = query(path, "SELECT session_id FROM memory_head ORDER BY active")
    return [session_id for (session_id,) in rows]


def check_schema_2(path):
    """Fail unless the file at *path* is whole, of schema 2, and its heads agree with its turns."""
    check_integrity(path)
    assert query(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query(path, "PRAGMA user_version") == [(2,)]

    heads = query(path, "SELECT id, high, revision, turns, items FROM memory_head")
    for head, high, revision, turns, items in heads:
        rows = query(
            path,
            "SELECT number, first, size FROM memory_turn WHERE session = ? ORDER BY number",
            head,
        )
        assert high == revision == (head << 32) + turns
        assert [number for number, _, _ in rows] == [*range((head << 32) + 1, high + 1)]
        sizes = [size for _, _, size in rows]
        assert [first for _, first, _ in rows] == [sum(sizes[:n]) for n in range(turns)]
        assert sum(sizes) == items

    assert query(path, "SELECT count(*) FROM memory_turn")[0][0] == sum(head[3] for head in heads)
    active = query(path, "SELECT active FROM memory_head ORDER BY active")
    assert active == [(n,) for n in range(1, len(heads) + 1)]
    assert query(path, "SELECT count(*) FROM memory_head WHERE cleared OR replaced") == [(0,)]


class FileContents:
    """The content of the file at *path*, read and restored while stores have it open."""

    def __init__(self, path):
        self._file = sqlite3.connect(path)
        self._copy = sqlite3.connect(":memory:")
        self.back_up()

    def revision(self, session_id):
        """Return the revision of a session, or None."""
        found = self._file.execute(
            "SELECT revision FROM memory_head WHERE session_id = ?", (session_id,)
        ).fetchone()
        return found and found[0]

    def count(self, table):
        """Return the number of rows of a table."""
        return self._file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def back_up(self):
        """Keep a copy of all rows."""
        self._file.backup(self._copy)

    def restore(self):
        """Put the last copy in the place of all rows."""
        self._copy.backup(self._file)

    def close(self):
        self._file.close()
        self._copy.close()
