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
_STATE: Final = "SELECT built_to, build_until FROM memory_index"
_ADD: Final = "INSERT INTO memory_words (rowid, words) VALUES (?, ?)"
_REMOVE: Final = "INSERT INTO memory_words (memory_words, rowid, words) VALUES ('delete', ?, ?)"
_TEXT: Final = "SELECT text FROM memory_text WHERE turn = ?"
_ADD_TEXT: Final = "INSERT INTO memory_text (turn, text) VALUES (?, ?)"
_REMOVE_TEXT: Final = "DELETE FROM memory_text WHERE turn = ?"
_BUILD_AGAIN: Final = (
    "UPDATE memory_index SET built_to = 0,"
    " build_until = (SELECT ifnull(max(id), 0) FROM memory_turn)"
)
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
    return SearchIndex(*connection.execute(_STATE).fetchone())


def add_to_index(connection: sqlite3.Connection, row: int, array: bytes, added: str) -> None:
    """Add a new turn to the index, if there is one; *added* is its additional text."""
    index = find_index(connection)
    if index is None:
        return
    if added:
        connection.execute(_ADD_TEXT, (row, added))
    if index.has(row):
        connection.execute(_ADD, (row, _words(array, added)))


def remove_from_index(
    connection: sqlite3.Connection, index: SearchIndex, turns: Iterable[tuple[int, bytes]]
) -> None:
    """Remove turns, each the id of its row and its items, before the rows are removed."""
    for row, array in turns:
        if index.has(row):
            words = _words(array, _stored_text(connection, row))
            connection.execute(_REMOVE, (row, words))
        connection.execute(_REMOVE_TEXT, (row,))


def replace_in_index(
    connection: sqlite3.Connection, row: int, before: bytes, after: bytes, added: str
) -> None:
    """Change the entry of a turn whose items change from *before* to *after*."""
    index = find_index(connection)
    if index is not None:
        remove_from_index(connection, index, [(row, before)])
        add_to_index(connection, row, after, added)


def added_text(
    connection: sqlite3.Connection,
    index: SearchIndex | None,
    row: int,
    array: bytes,
    reader: TextReader[Any],
) -> str:
    """Return the additional text of a turn, perhaps empty.

    It is the text that is stored beside the index, or that of *reader* if the turn was saved before
    there was an index.
    """
    stored = "" if index is None else _stored_text(connection, row)
    if stored or (index is not None and index.has(row)):
        return stored
    return reader.added_text_of(array)


def build_step(connection: sqlite3.Connection, reader: TextReader[Any]) -> SearchIndex:
    """Create the index, or add the next turns to it, and return its state (rule 2).

    An error of the function of *reader* is raised before anything is written.

    Raises:
        sqlite3.OperationalError: SQLite was built without FTS5.
    """
    index = find_index(connection)
    if index is None:
        return _create_index(connection)

    until, built_to = now() + _STEP, index.build_until
    words: list[tuple[int, str]] = []
    texts: list[tuple[int, str]] = []
    with closing(connection.execute(_NEXT, index)) as rows:
        for row, array in rows:
            added = added_text(connection, index, row, array, reader)
            words.append((row, _words(array, added)))
            if added and not _stored_text(connection, row):
                texts.append((row, added))
            if now() > until:
                built_to = row
                break

    connection.executemany(_ADD, words)
    connection.executemany(_ADD_TEXT, texts)
    connection.execute("UPDATE memory_index SET built_to = ?", (built_to,))
    return index._replace(built_to=built_to)


def empty_index(connection: sqlite3.Connection) -> None:
    """Remove all words from the index, which exists, so that it is built anew.

    No word of a removed turn is left then, even if another version of Python or of this library
    would read other words from its text.
    """
    connection.execute("INSERT INTO memory_words (memory_words) VALUES ('delete-all')")
    connection.execute(_BUILD_AGAIN)


def _create_index(connection: sqlite3.Connection) -> SearchIndex:
    try:
        for statement in _TABLES:
            connection.execute(statement)
    except sqlite3.OperationalError as error:
        if "no such module" not in str(error):
            raise
        msg = "search_index=True needs FTS5, which this build of SQLite lacks; leave it out"
        raise sqlite3.OperationalError(msg) from error
    return SearchIndex(*connection.execute(_STATE).fetchone())


def _stored_text(connection: sqlite3.Connection, row: int) -> str:
    found = connection.execute(_TEXT, (row,)).fetchone()
    return found[0] if found else ""


def _words(array: bytes, added: str) -> str:
    return " ".join(search_words(join_texts(message_text_of(array), added)))
