"""Files of schema 1: those in `tests/stores/sqlite/schema1_files`, and a small writer of others."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from helpers.sqlite import APPLICATION_ID

FILES = Path(__file__).parent.parent / "stores" / "sqlite" / "schema1_files"
NAMES = ("conversations", "taken_over", "empty")

SCHEMA_1 = f"""
    CREATE TABLE memory_session (
        id INTEGER PRIMARY KEY,
        session_id TEXT NOT NULL UNIQUE
    );
    CREATE TABLE memory_item (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        turn_id,
        item TEXT NOT NULL
    );
    CREATE INDEX memory_item_session ON memory_item (session);
    CREATE UNIQUE INDEX memory_item_turn ON memory_item (session, turn_id)
        WHERE turn_id IS NOT NULL;
    PRAGMA application_id = {APPLICATION_ID};
    PRAGMA user_version = 1;
"""
"""The tables that tower-memory wrote in schema 1."""


def copy_file(name, path):
    """Copy the file of schema 1 with this name to *path*, and return its expected content."""
    shutil.copy(FILES / f"{name}.sqlite", path)
    return expected_of(name)


def expected_of(name):
    """Return the content that the file of schema 1 with this name has: `make_files` explains it."""
    return json.loads((FILES / f"{name}.json").read_text())


class OldFile:
    """A new file of schema 1, and the writes of its time."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.executescript(SCHEMA_1)
        self.connection.execute("PRAGMA journal_mode = WAL")

    def append(self, session_id, items, turn_id=None, created_at=0):
        """Write rows of *items*, which are JSON texts or bytes, and return the id of the last."""
        row = None
        with self.transaction():
            self.connection.execute(
                "INSERT OR IGNORE INTO memory_session (session_id) VALUES (?)", (session_id,)
            )
            for item in items:
                row = self.connection.execute(
                    "INSERT INTO memory_item (session, created_at, turn_id, item)"
                    " SELECT id, ?, ?, CAST(? AS TEXT) FROM memory_session WHERE session_id = ?",
                    (created_at, turn_id, item, session_id),
                ).lastrowid
                turn_id = None
        return row

    def pop(self, session_id):
        """Remove the last row of a session."""
        self.connection.execute(
            "DELETE FROM memory_item WHERE id = (SELECT max(i.id) FROM memory_item i"
            " JOIN memory_session s ON s.id = i.session WHERE s.session_id = ?)",
            (session_id,),
        )

    def clear(self, session_id):
        """Remove a session and its rows."""
        with self.transaction():
            self.connection.execute(
                "DELETE FROM memory_item"
                " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)",
                (session_id,),
            )
            self.connection.execute(
                "DELETE FROM memory_session WHERE session_id = ?", (session_id,)
            )

    def transaction(self):
        self.connection.execute("BEGIN IMMEDIATE")
        return self.connection

    def close(self):
        self.connection.close()


def old_file(path, *turns):
    """Make a file of schema 1 with *turns*, each a session id, its JSON texts and a turn id."""
    with closing(OldFile(path)) as file:
        for created_at, (session_id, items, *turn_id) in enumerate(turns, 1):
            file.append(session_id, items, *turn_id, created_at=created_at)
