"""Read and lock a SQLite file from outside of the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager


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


def read_bytes(file):
    return file.read_bytes()
