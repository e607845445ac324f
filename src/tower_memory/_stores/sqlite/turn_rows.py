"""The rows of turns: the only statements that add, change or remove a turn of a session.

A function that removes or changes a turn also updates the search index, and removes the summaries
that cover this turn.

The migration of an older file, which fills empty tables, has its own (`copy_turns`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

from tower_memory._codec import join_array
from tower_memory._stores.records import EncodedTurn
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sql.rows import Place
from tower_memory._stores.sqlite.search_index import (
    add_to_index,
    added_text,
    find_index,
    remove_from_index,
    replace_in_index,
)

_ADD = (
    "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, metadata, items)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_COPY = (
    "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, metadata, items)"
    " SELECT ?, number + ?, turn_id, created_at, first, size, metadata, items FROM memory_turn"
    " WHERE session = ? AND (first, number) < (?, ?) ORDER BY first, number"
)
_TURNS_BEFORE = (
    "SELECT id, CAST(items AS BLOB) FROM memory_turn"
    " WHERE session = ? AND (first, number) < (?, ?) ORDER BY first, number"
)
_TURNS_FROM = (
    "SELECT id, CAST(items AS BLOB) FROM memory_turn"
    " WHERE session = ? AND (first, number) >= (?, ?) ORDER BY first, number"
)
_REMOVE_FROM = "DELETE FROM memory_turn WHERE session = ? AND (first, number) >= (?, ?)"
_END_PENDING = "DELETE FROM memory_pending WHERE session = ? AND turn_id = ?"
_REMOVE_SUMMARIES_FROM = "DELETE FROM memory_summary WHERE session = ? AND number >= ?"
_REMOVE_SUMMARIES_OF = (
    "DELETE FROM memory_summary"
    " WHERE (session, number) = (SELECT session, number FROM memory_turn WHERE id = ?)"
)
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
    array = join_array(encoded.items)
    added = connection.execute(
        _ADD,
        (
            *(head_id, number, turn_key, created_at, first, len(encoded.items)),
            encoded.metadata and encoded.metadata.decode(),
            array.decode(),
        ),
    )
    add_to_index(connection, cast("int", added.lastrowid), array, encoded.added_text)


def added_texts(
    connection: sqlite3.Connection, head_id: int, end: Place, reader: TextReader[Any]
) -> list[str]:
    """Return the additional text of each turn before the place *end*, if there is an index."""
    index = find_index(connection)
    if index is None:
        return []
    turns = connection.execute(_TURNS_BEFORE, (head_id, *end))
    return [added_text(connection, index, row, array, reader) for row, array in turns.fetchall()]


def copy_turns(
    connection: sqlite3.Connection,
    head_id: int,
    new_head_id: int,
    shift: int,
    end: Place,
    *,
    added: Sequence[str],
) -> int:
    """Copy the turns before the place *end* to another session, and return their number.

    *shift* is added to the number of each turn. *added* are their `added_texts`.
    """
    copied = connection.execute(_COPY, (new_head_id, shift, head_id, *end)).rowcount
    if added:
        copies = connection.execute(_TURNS_FROM, (new_head_id, 0, 0)).fetchall()
        for (row, array), text in zip(copies, added, strict=True):
            add_to_index(connection, row, array, text)
    return copied


def end_pending(connection: sqlite3.Connection, head_id: int, turn_key: bytes | str) -> None:
    """Remove the pending turn with an id, if there is one: a stored turn is not pending."""
    connection.execute(_END_PENDING, (head_id, turn_key))


def remove_turns(connection: sqlite3.Connection, head_id: int, start: Place) -> int:
    """Remove the turns from the place *start* on, and return their number.

    *start* is the place of a turn, the first place after a turn, or ``(0, 0)`` for all turns. So
    the removed turns, and no others, have the number of *start* or a higher one.
    """
    index = find_index(connection)
    if index is not None:
        turns = connection.execute(_TURNS_FROM, (head_id, *start)).fetchall()
        remove_from_index(connection, index, turns)
    connection.execute(_REMOVE_SUMMARIES_FROM, (head_id, start[1]))
    return connection.execute(_REMOVE_FROM, (head_id, *start)).rowcount


def shorten_turn(
    connection: sqlite3.Connection,
    row: int,
    number: int,
    left: Sequence[bytes],
    *,
    before: bytes,
    added: str,
) -> None:
    """Leave the items *left* in the turn with the id *row*, and give it a new *number*.

    *before* is the JSON array of its items, and *added* the additional text of those that are left.
    """
    array = join_array(left)
    connection.execute(_REMOVE_SUMMARIES_OF, (row,))
    connection.execute(_SHORTEN, (number, len(left), array.decode(), row))
    replace_in_index(connection, row, before, array, added)
