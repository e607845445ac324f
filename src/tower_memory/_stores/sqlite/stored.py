"""The sessions and turns of a file as they are stored, one after another, for an export."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tower_memory._codec import ItemCodec, decode_value
from tower_memory._stores.records import turn_text
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


class StoredSession(NamedTuple):
    """The head of a session.

    Attributes:
        head_id: Id of the head.
        session_id: The session's id.
        created_at: Nanoseconds since 1970, UTC.
        updated_at: Nanoseconds since 1970, UTC.
        turns: Number of turns.
        items: Number of items.
        metadata: JSON of the metadata; None for an empty mapping.
        forked_from: Id of the session of which it is a fork, or None.
    """

    head_id: int
    session_id: str
    created_at: int
    updated_at: int
    turns: int
    items: int
    metadata: bytes | None
    forked_from: str | None


class StoredTurn(NamedTuple):
    """The row of a turn.

    Attributes:
        row: Id of the row.
        turn_id: The turn's id.
        created_at: Nanoseconds since 1970, UTC.
        metadata: JSON of the metadata; None for an empty mapping.
        items: JSON array of the items; perhaps damaged.
    """

    row: int
    turn_id: str
    created_at: int
    metadata: bytes | None
    items: bytes


def find_session(connection: sqlite3.Connection, session_id: str) -> StoredSession | None:
    """Return the head of a session, or None."""
    found = connection.execute(f"{_SESSION} WHERE h.session_id = ?", (session_id,)).fetchone()
    return StoredSession(*found) if found else None


def sessions(connection: sqlite3.Connection, prefix: str) -> Iterator[StoredSession]:
    """Yield the sessions whose ids start with *prefix*, the last active one at the end."""
    found = connection.execute(
        f"{_SESSION} WHERE h.session_id >= ? AND h.session_id < ? ORDER BY h.active",
        id_range(prefix),
    )
    yield from (StoredSession(*row) for row in found)


def count_turns(connection: sqlite3.Connection, prefix: str) -> int:
    """Return the number of turns of the sessions whose ids start with *prefix*."""
    (turns,) = connection.execute(
        "SELECT ifnull(sum(turns), 0) FROM memory_head WHERE session_id >= ? AND session_id < ?",
        id_range(prefix),
    ).fetchone()
    return int(turns)


def turns(connection: sqlite3.Connection, head_id: int) -> Iterator[StoredTurn]:
    """Yield the turns of the session with the head *head_id*, oldest first."""
    rows: Iterator[Any] = connection.execute(_TURNS, (head_id,))
    for row, key, *rest in rows:
        yield StoredTurn(row, turn_text(key), *rest)


_codec: Final = ItemCodec[Any](Any)


def decode_stored(metadata: bytes | None, items: bytes) -> list[Any]:
    """Return the items of a stored turn.

    Raises:
        ValueError: The items or the metadata are damaged.
    """
    if metadata is not None and not isinstance(decode_value(metadata), dict):
        msg = "its metadata is no object"
        raise ValueError(msg)
    return _codec.decode_array(items)
