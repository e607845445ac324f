"""The check of a whole file: its pages, and every session and turn."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, final

from tower_memory._stores.sql.stored import decode_stored

_HEADS: Final = (
    "SELECT id, session_id, turns, items, high, CAST(metadata AS BLOB) FROM memory_head ORDER BY id"
)
_TURNS: Final = (
    "SELECT id, first, size, number, CAST(metadata AS BLOB), CAST(items AS BLOB)"
    " FROM memory_turn WHERE session = ? ORDER BY first, number"
)
_PENDING: Final = (
    "SELECT CAST(turn_id AS BLOB), CAST(metadata AS BLOB), CAST(items AS BLOB)"
    " FROM memory_pending WHERE session = ?"
)
_SUMMARIES: Final = (
    "SELECT CAST(summary AS BLOB),"
    " EXISTS (SELECT 1 FROM memory_turn WHERE session = s.session AND number = s.number)"
    " FROM memory_summary AS s WHERE session = ?"
)
_LOST: Final = (
    "SELECT id FROM memory_turn WHERE session NOT IN (SELECT id FROM memory_head) ORDER BY id"
)


class Damage(NamedTuple):
    """A part of a file that is damaged.

    Attributes:
        session_id: The session; None for the file as a whole.
        row: Row of the damaged turn; None for the session or the file as a whole.
        reason: The reason, without content.
    """

    session_id: str | None
    row: int | None
    reason: str


class _Head(NamedTuple):
    """The head of a session, as it is stored."""

    id: int
    session_id: str
    turns: int
    items: int
    high: int
    metadata: bytes | None


@final
class Check:
    """The check of the file of a connection.

    Args:
        connection: A connection that reads the file.
        report: Function that gets the share of the turns that are checked, from 0.0 to 1.0.

    Attributes:
        sessions: Number of sessions that were checked.
        turns: Number of turns that were checked.
    """

    def __init__(self, connection: sqlite3.Connection, report: Callable[[float], object]) -> None:
        self.sessions = 0
        self.turns = 0
        self._connection = connection
        self._report = report

    def damages(self) -> Iterator[Damage]:
        """Check everything, and yield each damage."""
        try:
            yield from self._pages()
            (total,) = self._connection.execute("SELECT count(*) FROM memory_turn").fetchone()
            for head in self._connection.execute(_HEADS):
                self.sessions += 1
                yield from self._session(_Head(*head), total)
            for (row,) in self._connection.execute(_LOST):
                yield Damage(None, row, "its session is missing")
        except sqlite3.DatabaseError as error:
            yield Damage(None, None, str(error))

    def _pages(self) -> Iterator[Damage]:
        """Check SQLite's pages and indexes."""
        for (reason,) in self._connection.execute("PRAGMA integrity_check"):
            if reason != "ok":
                yield Damage(None, None, " ".join(str(reason).split()))

    def _session(self, head: _Head, total: int) -> Iterator[Damage]:
        """Check one session: its metadata, its counts, and its turns; *total* is of the file."""
        head_id, session_id, turns, items, high, metadata = head
        if reason := self._fault(metadata, b"[]", 0):
            yield Damage(session_id, None, reason)

        found_turns = found_items = 0
        for row, first, size, number, of_turn, array in self._connection.execute(
            _TURNS, (head_id,)
        ):
            reason = self._fault(of_turn, array, size)
            if not reason and (first != found_items or number > high):
                reason = "it is not at its place"
            if reason:
                yield Damage(session_id, row, reason)
            found_turns += 1
            found_items = first + size
            self.turns += 1
            self._report(self.turns / total)

        if (found_turns, found_items) != (turns, items):
            reason = f"it has {found_turns} turns and {found_items} items, not {turns} and {items}"
            yield Damage(session_id, None, reason)

        for _, of_turn, array in self._connection.execute(_PENDING, (head_id,)):
            if reason := self._fault(of_turn, array, None):
                yield Damage(session_id, None, f"a pending turn: {reason}")

        for text, has_turn in self._connection.execute(_SUMMARIES, (head_id,)):
            if reason := _fault_of_summary(text, has_turn):
                yield Damage(session_id, None, f"a summary: {reason}")

    def _fault(self, metadata: bytes | None, array: bytes, size: int | None) -> str | None:
        """Return the reason why a turn with *size* items is damaged; None if it is not."""
        try:
            found = len(decode_stored(metadata, array))
        except ValueError as error:
            return f"it cannot be decoded: {error}"
        return None if size in (None, found) else f"it has {found} items, not {size}"


def _fault_of_summary(text: bytes, has_turn: int) -> str | None:
    """Return the reason why a summary is damaged; None if it is not."""
    try:
        text.decode()
    except ValueError as error:
        return f"it cannot be decoded: {error}"
    return None if has_turn else "the last turn that it covers is missing"
