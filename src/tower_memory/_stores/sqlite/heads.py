"""The head rows of sessions: finding, creating and changing them in an open transaction."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple, cast

from tower_memory._stores.append_checks import SessionState, absent_session
from tower_memory._stores.records import turn_key
from tower_memory._stores.sql.rows import Place
from tower_memory._stores.sqlite.rows import place_of_turn
from tower_memory._stores.sqlite.tables import FIRST_NUMBER_SHIFT
from tower_memory._stores.sqlite.tombstones import set_tombstone, tombstone_number
from tower_memory._turn import Turn

_HEAD = (
    "SELECT id, high, revision, cleared, replaced, active, updated_at, turns, items,"
    " (SELECT max(active) FROM memory_head),"
    " EXISTS (SELECT 1 FROM memory_turn WHERE session = h.id AND turn_id = ?)"
    " FROM memory_head AS h WHERE session_id = ?"
)
_NEW_HEAD = (
    "INSERT INTO memory_head (session_id, high, revision, cleared, replaced, active,"
    " created_at, updated_at, turns, items)"
    " VALUES (?, 0, 0, ?, 0, (SELECT ifnull(max(active), 0) + 1 FROM memory_head), ?, ?, 0, 0)"
)
_SET_HEAD = (
    "UPDATE memory_head SET high = ?, revision = ?, cleared = ?, replaced = ?, active = ?,"
    " updated_at = ?, turns = ?, items = ? WHERE id = ?"
)


class Head(NamedTuple):
    """The head row of a session, as it is stored, and two results of the same statement.

    Attributes:
        newest_active: The highest ``active`` of all sessions.
        holds_turn: 1 if the session holds the turn that `find_head` looked for, otherwise 0.
    """

    id: int
    high: int
    revision: int
    cleared: int
    replaced: int
    active: int
    updated_at: int
    turns: int
    items: int
    newest_active: int
    holds_turn: int

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the head as changed: its session becomes the last active one."""
        active = self.active if self.active == self.newest_active else self.newest_active + 1
        self._write(connection, self.high, active)

    def save_unchanged(self, connection: sqlite3.Connection) -> None:
        """Write the head of a new session that has no content; its revision stays."""
        self._write(connection, self.revision, self.active)

    def _write(self, connection: sqlite3.Connection, revision: int, active: int) -> None:
        connection.execute(
            _SET_HEAD,
            (
                *(self.high, revision, self.cleared, self.replaced, active),
                *(self.updated_at, self.turns, self.items, self.id),
            ),
        )


class Found(NamedTuple):
    """A session before a turn is written to it.

    Attributes:
        head: Its head; None if it does not exist.
        replaced: Place of the turn that is to be replaced; None if there is none.
        state: Its state.
    """

    head: Head | None
    replaced: Place | None
    state: SessionState


def find_head(
    connection: sqlite3.Connection, session_id: str, turn: bytes | str | None = None
) -> Head | None:
    """Return the head of a session, or None; also look for the turn with the stored id *turn*."""
    found = connection.execute(_HEAD, (turn, session_id)).fetchone()
    return Head(*found) if found else None


def find_for(connection: sqlite3.Connection, turn: Turn[object]) -> Found:
    """Return the session of *turn* with the state that decides whether it may be written."""
    head = find_head(connection, turn.session_id, turn_key(turn.turn_id))
    if head is None:
        return Found(None, None, absent_session(tombstone_number(connection, turn.session_id)))

    replaced = None if turn.replaces is None else place_of_turn(connection, head.id, turn.replaces)
    state = SessionState(
        revision=head.revision,
        first_number=head.id << FIRST_NUMBER_SHIFT,
        cleared=head.cleared,
        replaced=head.replaced,
        holds_turn=bool(head.holds_turn),
        holds_replaced=replaced is not None,
    )
    return Found(head, replaced, state)


def create_head(connection: sqlite3.Connection, session_id: str, cleared: int, now: int) -> Head:
    """Insert the head of a new session and return it; the caller saves it.

    *cleared* is the number of the session's tombstone, or 0. It is the session's revision until its
    first change.
    """
    inserted = connection.execute(_NEW_HEAD, (session_id, cleared, now, now))
    head_id = cast("int", inserted.lastrowid)
    (active,) = connection.execute(
        "SELECT active FROM memory_head WHERE id = ?", (head_id,)
    ).fetchone()
    start = head_id << FIRST_NUMBER_SHIFT
    return Head(head_id, start, cleared, cleared, 0, active, now, 0, 0, active, holds_turn=0)


def add_tombstone(connection: sqlite3.Connection, session_id: str) -> None:
    """Set the tombstone of a session that does not exist to a number that was never used before."""
    head = create_head(connection, session_id, 0, 0)
    connection.execute("DELETE FROM memory_head WHERE id = ?", (head.id,))
    set_tombstone(connection, session_id, head.high)
