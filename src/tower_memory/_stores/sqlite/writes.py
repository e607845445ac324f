"""The changes of one session, as functions that run in an open transaction.

1. A function changes its session whole, or raises before it has written anything.
2. No function here awaits, or knows an event loop. `group_commit` runs several in one transaction.
3. Every change gives the session its next number (see `tables`).
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, NamedTuple, cast

from tower_memory._codec import ItemCodec, join_array, split_array
from tower_memory._errors import CorruptSessionError
from tower_memory._history import TurnInfo
from tower_memory._items import Item
from tower_memory._metadata import decode_metadata
from tower_memory._stores.append_checks import SessionState, absent_session, must_write
from tower_memory._stores.cached_session import all_shareable, to_kept
from tower_memory._stores.records import EncodedTurn, to_datetime, turn_key
from tower_memory._stores.session_cache import CommittedTurn, LastTurn, Version
from tower_memory._stores.sqlite.rows import Place, place_of_turn
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
_NEW_TURN = (
    "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, metadata, items)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_SET_HEAD = (
    "UPDATE memory_head SET high = ?, revision = ?, cleared = ?, replaced = ?, active = ?,"
    " updated_at = ?, turns = ?, items = ? WHERE id = ?"
)
_REMOVE_FROM = "DELETE FROM memory_turn WHERE session = ? AND (first, number) >= (?, ?)"
_REMOVE_SUMMARIES = "DELETE FROM memory_summary WHERE session = ? AND number >= ?"
_NEWEST = (
    "SELECT id, number, first, CAST(items AS BLOB) FROM memory_turn WHERE session = ? AND size > 0"
    " ORDER BY first DESC, number DESC LIMIT 1"
)
_SHORTEN = "UPDATE memory_turn SET number = ?, size = ?, items = ? WHERE id = ?"


class _Head(NamedTuple):
    """The head row of a session, as it is stored, and two results of the same statement.

    Attributes:
        newest_active: The highest ``active`` of all sessions.
        holds_turn: 1 if the session holds the turn that `_find` looked for, otherwise 0.
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
        connection.execute(
            _SET_HEAD,
            (
                *(self.high, self.high, self.cleared, self.replaced, active),
                *(self.updated_at, self.turns, self.items, self.id),
            ),
        )


class Appended(NamedTuple):
    """The result of an append.

    Attributes:
        revision: The session's revision.
        committed: The new turn, for the session cache; None if nothing was written, or if turns
            were replaced: the next load then reads the session anew.
    """

    revision: int
    committed: CommittedTurn | None


def append(connection: sqlite3.Connection, turn: Turn[Any], encoded: EncodedTurn) -> Appended:
    """Add the turn to its session, unless the session holds it.

    Raises:
        SessionCleared: See `SessionStore.append`.
        SessionConflict: See `SessionStore.append`.
        TurnMissing: See `SessionStore.append`.
    """
    head = _find(connection, turn.session_id, turn_key(turn.turn_id))
    replaced = _place_of(connection, head, turn.replaces)
    state = _state(connection, head, turn.session_id, holds_replaced=replaced is not None)
    if not must_write(state, turn):
        return Appended(state.revision, None)

    now = time.time_ns()
    before = Version(head.revision, head.updated_at) if head else None
    head = head or _create(connection, turn.session_id, state.cleared, now)
    number = head.high + 1
    first, turns, last_replaced = head.items, head.turns, head.replaced

    if replaced is not None:
        first = replaced[0]
        turns -= connection.execute(_REMOVE_FROM, (head.id, *replaced)).rowcount
        connection.execute(_REMOVE_SUMMARIES, (head.id, replaced[1]))
        last_replaced = number

    size = len(encoded.items)
    connection.execute(
        _NEW_TURN,
        (
            *(head.id, number, turn_key(turn.turn_id), now, first, size),
            encoded.metadata and encoded.metadata.decode(),
            join_array(encoded.items).decode(),
        ),
    )
    head._replace(
        high=number, replaced=last_replaced, updated_at=now, turns=turns + 1, items=first + size
    ).save(connection)

    if replaced is not None:
        return Appended(number, None)
    last = LastTurn(first, number, now)
    return Appended(number, _committed(turn, encoded, before, Version(number, now), last))


def pop(connection: sqlite3.Connection, session_id: str, codec: ItemCodec[Item]) -> Item | None:
    """Remove and return the session's newest item; None if there is none.

    Raises:
        CorruptSessionError: The item cannot be decoded.
    """
    head = _find(connection, session_id)
    newest = head and connection.execute(_NEWEST, (head.id,)).fetchone()
    if not head or not newest:
        return None

    row, number, first, array = newest
    try:
        *left, last = split_array(array)
        popped: Item = codec.decode(last)
        shorter = join_array(left).decode()
    except ValueError as error:
        raise CorruptSessionError(session_id, row=row, reason=str(error)) from error

    # Later turns, which have no items, are removed, too, and the item's turn if it is then empty.
    lowest = number + 1 if left else number
    removed = connection.execute(_REMOVE_FROM, (head.id, first, lowest)).rowcount

    head = head._replace(high=head.high + 1, updated_at=time.time_ns())
    if left:  # a turn that changes gets a new number
        connection.execute(_SHORTEN, (head.high, len(left), shorter, row))
    head._replace(turns=head.turns - removed, items=head.items - 1).save(connection)
    return popped


def clear(connection: sqlite3.Connection, session_id: str) -> bool:
    """Remove all turns, pending turns and summaries of the session; its head stays.

    Return False if there is no such session.
    """
    head = _find(connection, session_id)
    if head is None:
        add_tombstone(connection, session_id)
        return False

    remove_content(connection, head.id)
    number = head.high + 1
    head._replace(high=number, cleared=number, updated_at=time.time_ns(), turns=0, items=0).save(
        connection
    )
    return True


def remove_content(connection: sqlite3.Connection, head_id: int) -> None:
    """Remove the turns, pending turns and summaries of the session with the head *head_id*."""
    for table in ("memory_turn", "memory_pending", "memory_summary"):
        connection.execute(f"DELETE FROM {table} WHERE session = ?", (head_id,))  # noqa: S608


def add_tombstone(connection: sqlite3.Connection, session_id: str) -> None:
    """Set the tombstone of a session that does not exist to a number that was never used before."""
    head = _create(connection, session_id, 0, 0)
    connection.execute("DELETE FROM memory_head WHERE id = ?", (head.id,))
    set_tombstone(connection, session_id, head.high)


def _find(
    connection: sqlite3.Connection, session_id: str, turn: bytes | str | None = None
) -> _Head | None:
    """Return the head of a session, or None; also look for the turn with the stored id *turn*."""
    found = connection.execute(_HEAD, (turn, session_id)).fetchone()
    return _Head(*found) if found else None


def _create(connection: sqlite3.Connection, session_id: str, cleared: int, now: int) -> _Head:
    """Insert the head of a new session and return it; the caller saves it with its first change."""
    inserted = connection.execute(_NEW_HEAD, (session_id, cleared, now, now))
    head_id = cast("int", inserted.lastrowid)
    (active,) = connection.execute(
        "SELECT active FROM memory_head WHERE id = ?", (head_id,)
    ).fetchone()
    start = head_id << FIRST_NUMBER_SHIFT
    return _Head(head_id, start, 0, cleared, 0, active, now, 0, 0, active, holds_turn=0)


def _place_of(
    connection: sqlite3.Connection, head: _Head | None, turn_id: str | None
) -> Place | None:
    """Return the place of a turn; None if *turn_id* is None or the session does not hold it."""
    if head is None or turn_id is None:
        return None
    return place_of_turn(connection, head.id, turn_id)


def _state(
    connection: sqlite3.Connection, head: _Head | None, session_id: str, *, holds_replaced: bool
) -> SessionState:
    if head is None:
        return absent_session(tombstone_number(connection, session_id))

    return SessionState(
        revision=head.revision,
        first_number=head.id << FIRST_NUMBER_SHIFT,
        cleared=head.cleared,
        replaced=head.replaced,
        holds_turn=bool(head.holds_turn),
        holds_replaced=holds_replaced,
    )


def _committed(
    turn: Turn[Any], encoded: EncodedTurn, before: Version | None, after: Version, last: LastTurn
) -> CommittedTurn:
    """Return the turn for the session cache; *before* and *after* are the session's versions."""
    info = TurnInfo(
        turn.turn_id,
        last.position,
        to_datetime(last.created_at),
        decode_metadata(encoded.metadata),
    )
    items = encoded.decoded
    kept = items if all_shareable(items) else to_kept(items, encoded.items)
    return CommittedTurn(turn.session_id, before, after, last, info, kept)
