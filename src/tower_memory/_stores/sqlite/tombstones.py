"""Tombstones: the marks of sessions that were erased, or cleared before their first write.

While a tombstone lives, a turn in progress cannot revive its session. It has a hash in place of the
session id, so no erased id stays in the file.
"""

from __future__ import annotations

import sqlite3
import time
from hashlib import blake2b

from tower_memory._stores.records import TOMBSTONE_LIFETIME


def tombstone_number(connection: sqlite3.Connection, session_id: str) -> int:
    """Return the number of the tombstone of a session, or 0 if there is none."""
    found = connection.execute(
        "SELECT number FROM memory_tombstone WHERE session = ? AND created_at > ?",
        (_hash(session_id), time.time_ns() - TOMBSTONE_LIFETIME),
    ).fetchone()
    return found[0] if found else 0


def set_tombstone(connection: sqlite3.Connection, session_id: str, number: int) -> None:
    """Set the tombstone of a session to *number*, and remove the tombstones that are too old."""
    now = time.time_ns()
    oldest = now - TOMBSTONE_LIFETIME
    connection.execute("DELETE FROM memory_tombstone WHERE created_at <= ?", (oldest,))
    connection.execute(
        "INSERT OR REPLACE INTO memory_tombstone (session, number, created_at) VALUES (?, ?, ?)",
        (_hash(session_id), number, now),
    )


def _hash(session_id: str) -> bytes:
    return blake2b(session_id.encode(), digest_size=16).digest()
