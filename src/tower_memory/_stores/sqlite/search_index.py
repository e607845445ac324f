"""The search index of a file: the search words of each turn.

1. The index is a property of the file. Once it exists, every process adds and removes the words of
   a turn in the transaction that adds or removes the turn (`turn_rows`).
2. It is built for an older file in steps, from the first row to the last row that was there at the
   beginning. Each step is a transaction of its own, so other writes go on, and a process that is
   killed loses nothing. Until the last step, a search reads the turns themselves.
3. FTS5 stores only the words (``content=''``). It needs the same words again to remove a turn, so
   they are a function of the stored turn, and of the additional text that is stored beside it.
4. The index only proposes turns. A search reads each turn that it returns, so a difference between
   two versions of Unicode never adds a hit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any, Final, NamedTuple

from tower_memory._search_words import search_words
from tower_memory._stores.clock import now
from tower_memory._stores.search_text import TextReader, join_texts, message_text_of

_TABLES: Final = (
    """
    CREATE VIRTUAL TABLE memory_words USING fts5(
        words, content='', columnsize=0, detail=none, tokenize='ascii'
    )
    """,
    # turn: the id of the turn's row. text: its additional text.
    "CREATE TABLE memory_text (turn INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    # The rows up to built_to, and those above build_until, are in the index.
    "CREATE TABLE memory_index (built_to INTEGER NOT NULL, build_until INTEGER NOT NULL)",
    "INSERT INTO memory_index SELECT 0, ifnull(max(id), 0) FROM memory_turn",
)
_EXISTS: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'memory_index'"
_ADD: Final = "INSERT INTO memory_words (rowid, words) VALUES (?, ?)"
_REMOVE: Final = "INSERT INTO memory_words (memory_words, rowid, words) VALUES ('delete', ?, ?)"
_TEXT: Final = "SELECT text FROM memory_text WHERE turn = ?"
_ADD_TEXT: Final = "INSERT INTO memory_text (turn, text) VALUES (?, ?)"
_REMOVE_TEXT: Final = "DELETE FROM memory_text WHERE turn = ?"
_NEXT: Final = (
    "SELECT id, CAST(items AS BLOB) FROM memory_turn WHERE id > ? AND id <= ? ORDER BY id"
)

_STEP: Final = 0.02
"""Seconds after which a step of the building ends with the turn that is being read."""


class SearchIndex(NamedTuple):
    """The state of the index.

    Attributes:
        built_to: The last row of the building that is in the index.
        build_until: The last row that the building adds.
    """

    built_to: int
    build_until: int

    @property
    def is_complete(self) -> bool:
        """True if the index has all turns."""
        return self.built_to >= self.build_until

    def has(self, row: int) -> bool:
        """Return True if the turn with the id *row* is in the index (rule 2)."""
        return row <= self.built_to or row > self.build_until


def find_index(connection: sqlite3.Connection) -> SearchIndex | None:
    """Return the state of the file's index; None if it has none."""
    if connection.execute(_EXISTS).fetchone() is None:
        return None
    return SearchIndex(
        *connection.execute("SELECT built_to, build_until FROM memory_index").fetchone()
    )


def add_to_index(connection: sqlite3.Connection, row: int, array: bytes, added: str) -> None:
    """Add a new turn to the index, if there is one; *added* is its additional text."""
    index = find_index(connection)
    if index is None:
        return
    if added:
        connection.execute(_ADD_TEXT, (row, added))
    if index.has(row):
        _add(connection, row, array)


def remove_from_index(
    connection: sqlite3.Connection, index: SearchIndex, turns: Iterable[tuple[int, bytes]]
) -> None:
    """Remove turns, each the id of its row and its items, before the rows are removed."""
    for row, array in turns:
        if index.has(row):
            connection.execute(_REMOVE, (row, _words(connection, row, array)))
        connection.execute(_REMOVE_TEXT, (row,))


def replace_in_index(
    connection: sqlite3.Connection, row: int, before: bytes, after: bytes, added: str
) -> None:
    """Change the entry of a turn whose items change from *before* to *after*."""
    index = find_index(connection)
    if index is not None:
        remove_from_index(connection, index, [(row, before)])
        add_to_index(connection, row, after, added)


def added_text_of(connection: sqlite3.Connection, row: int) -> str:
    """Return the additional text of a turn that is stored beside the index; perhaps empty."""
    found = connection.execute(_TEXT, (row,)).fetchone()
    return found[0] if found else ""


def build_step(connection: sqlite3.Connection, reader: TextReader[Any]) -> SearchIndex:
    """Add the next turns to the index, which is created first, and return its state (rule 2)."""
    index = find_index(connection)
    if index is None:
        for statement in _TABLES:
            connection.execute(statement)
        return build_step(connection, reader)

    until, built_to = now() + _STEP, index.build_until
    with closing(connection.execute(_NEXT, index)) as rows:
        for row, array in rows:
            if not added_text_of(connection, row) and (added := reader.added_text_of(array)):
                connection.execute(_ADD_TEXT, (row, added))
            _add(connection, row, array)
            if now() > until:
                built_to = row
                break

    connection.execute("UPDATE memory_index SET built_to = ?", (built_to,))
    return index._replace(built_to=built_to)


def optimize_index(connection: sqlite3.Connection) -> None:
    """Rewrite the index without the words of removed turns, if there is one."""
    if find_index(connection) is not None:
        connection.execute("INSERT INTO memory_words (memory_words) VALUES ('optimize')")


def _add(connection: sqlite3.Connection, row: int, array: bytes) -> None:
    connection.execute(_ADD, (row, _words(connection, row, array)))


def _words(connection: sqlite3.Connection, row: int, array: bytes) -> str:
    text = join_texts(message_text_of(array), added_text_of(connection, row))
    return " ".join(search_words(text))
