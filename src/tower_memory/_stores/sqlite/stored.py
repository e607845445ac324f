"""The statements of `StoredStatements` for a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from tower_memory._stores.records import turn_text
from tower_memory._stores.sql.stored import StoredSession, StoredTurn
from tower_memory._stores.sqlite.id_range import id_range

_SESSION: Final = (
    "SELECT h.id, h.session_id, h.created_at, h.updated_at, h.turns, h.items,"
    " CAST(h.metadata AS BLOB), origin.session_id"
    " FROM memory_head AS h LEFT JOIN memory_head AS origin ON origin.id = h.origin"
)
_TURNS: Final = (
    "SELECT id, turn_id, created_at, CAST(metadata AS BLOB), CAST(items AS BLOB)"
    " FROM memory_turn WHERE session = ? ORDER BY first, number"
)


def find_session(connection: sqlite3.Connection, session_id: str) -> StoredSession | None:
    """See `StoredStatements.find_session`."""
    found = connection.execute(f"{_SESSION} WHERE h.session_id = ?", (session_id,)).fetchone()
    return StoredSession(*found) if found else None


def sessions(connection: sqlite3.Connection, prefix: str) -> Iterator[StoredSession]:
    """See `StoredStatements.sessions`."""
    found = connection.execute(
        f"{_SESSION} WHERE h.session_id >= ? AND h.session_id < ? ORDER BY h.active",
        id_range(prefix),
    )
    yield from (StoredSession(*row) for row in found)


def count_turns(connection: sqlite3.Connection, prefix: str) -> int:
    """See `StoredStatements.count_turns`."""
    (turns,) = connection.execute(
        "SELECT ifnull(sum(turns), 0) FROM memory_head WHERE session_id >= ? AND session_id < ?",
        id_range(prefix),
    ).fetchone()
    return int(turns)


def turns(connection: sqlite3.Connection, key: int) -> Iterator[StoredTurn]:
    """See `StoredStatements.turns`. The key is the id of the head."""
    rows: Iterator[Any] = connection.execute(_TURNS, (key,))
    for row, turn, *rest in rows:
        yield StoredTurn(row, turn_text(turn), *rest)
