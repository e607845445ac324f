"""The rows of turns: the only statements that add, change or remove a turn of a session.

The migration of an older file, which fills empty tables, has its own (`copy_turns`).
"""

from __future__ import annotations

import sqlite3

from tower_memory._codec import join_array
from tower_memory._stores.records import EncodedTurn
from tower_memory._stores.sqlite.rows import Place

_ADD = (
    "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, metadata, items)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_COPY = (
    "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, metadata, items)"
    " SELECT ?, number + ?, turn_id, created_at, first, size, metadata, items FROM memory_turn"
    " WHERE session = ? AND (first, number) < (?, ?) ORDER BY first, number"
)
_REMOVE_FROM = "DELETE FROM memory_turn WHERE session = ? AND (first, number) >= (?, ?)"
_SHORTEN = "UPDATE memory_turn SET number = ?, size = ?, items = ? WHERE id = ?"


def add_turn(
    connection: sqlite3.Connection,
    head_id: int,
    place: Place,
    encoded: EncodedTurn,
    *,
    turn_key: bytes | str,
    created_at: int,
) -> None:
    """Add a turn at *place*: its first position and its number."""
    first, number = place
    connection.execute(
        _ADD,
        (
            *(head_id, number, turn_key, created_at, first, len(encoded.items)),
            encoded.metadata and encoded.metadata.decode(),
            join_array(encoded.items).decode(),
        ),
    )


def copy_turns(
    connection: sqlite3.Connection, head_id: int, new_head_id: int, shift: int, end: Place
) -> int:
    """Copy the turns before the place *end* to another session, and return their number.

    *shift* is added to the number of each turn.
    """
    return connection.execute(_COPY, (new_head_id, shift, head_id, *end)).rowcount


def remove_turns(connection: sqlite3.Connection, head_id: int, start: Place) -> int:
    """Remove the turns from the place *start* on, and return their number."""
    return connection.execute(_REMOVE_FROM, (head_id, *start)).rowcount


def shorten_turn(
    connection: sqlite3.Connection, row: int, number: int, size: int, array: str
) -> None:
    """Leave *size* items, the JSON *array*, in the turn with the id *row*; give it a new number."""
    connection.execute(_SHORTEN, (number, size, array, row))
