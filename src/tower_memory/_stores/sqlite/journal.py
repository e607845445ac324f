"""The statements of `TurnJournal`, as functions that run in one read or one transaction.

A pending turn is a row of its own table. It never changes the head of a session that exists, so the
session keeps its revision, its times, its place in the order of activity, and its cache entry.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from tower_memory._capabilities.journal import PendingTurn
from tower_memory._codec import ItemCodec
from tower_memory._items import Item
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.pending_turns import StoredPending, begun, check_owner_may_begin
from tower_memory._stores.records import EncodedTurn, turn_key, turn_text
from tower_memory._stores.sqlite.heads import create_head, find_for
from tower_memory._turn import Turn

_PENDING = (
    "SELECT p.turn_id, p.created_at, p.owner, p.lease_until, p.failed, p.replaces,"
    " CAST(p.metadata AS BLOB), CAST(p.items AS BLOB), p.session"
    " FROM memory_head AS h JOIN memory_pending AS p ON p.session = h.id WHERE h.session_id = ?"
)
_ONE = _PENDING + " AND p.turn_id = ?"
_ALL = _PENDING + " ORDER BY p.created_at, p.turn_id"
_PUT = (
    "INSERT INTO memory_pending (session, turn_id, created_at, owner, lease_until, failed,"
    " replaces, metadata, items) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)"
    " ON CONFLICT (session, turn_id) DO UPDATE SET owner = excluded.owner,"
    " lease_until = excluded.lease_until, failed = 0, replaces = excluded.replaces,"
    " metadata = excluded.metadata, items = excluded.items"
)
_ROW = "session = (SELECT id FROM memory_head WHERE session_id = ?) AND turn_id = ?"
_FAIL = f"UPDATE memory_pending SET failed = 1 WHERE {_ROW} AND owner IS ?"  # noqa: S608
_FORGET = f"DELETE FROM memory_pending WHERE {_ROW}"  # noqa: S608


def begin(
    connection: sqlite3.Connection,
    turn: Turn[Any],
    encoded: EncodedTurn,
    lease: float | None,
    owner: str | None,
) -> None:
    """See `JournalStatements.begin`."""
    head, _, state = find_for(connection, turn)
    if state.holds_turn:
        return
    must_write(state, turn)  # makes the checks; a turn without items is written, too

    now, key = time.time_ns(), turn_key(turn.turn_id)
    row = connection.execute(_ONE, (turn.session_id, key)).fetchone()
    check_owner_may_begin(turn, owner, row and _stored(row), now)

    if head is None:
        head = create_head(connection, turn.session_id, state.cleared, now)
        head.save_unchanged(connection)
    new = begun(turn, encoded, lease, owner, now)
    connection.execute(
        _PUT,
        (
            *(head.id, key, now, owner, new.lease_until),
            new.replaces and turn_key(new.replaces),
            new.metadata and new.metadata.decode(),
            new.items.decode(),
        ),
    )


def fail(connection: sqlite3.Connection, session_id: str, turn_id: str, owner: str | None) -> None:
    """See `JournalStatements.fail`."""
    connection.execute(_FAIL, (session_id, turn_key(turn_id), owner))


def pending(
    connection: sqlite3.Connection, session_id: str, codec: ItemCodec[Item]
) -> list[PendingTurn[Item]]:
    """See `JournalStatements.pending`."""
    rows, now = connection.execute(_ALL, (session_id,)).fetchall(), time.time_ns()
    # Rows of this table have no number of their own, so an error shows that of the session.
    return [_stored(row).read(session_id, codec, row[-1], now) for row in rows]


def forget(connection: sqlite3.Connection, session_id: str, turn_id: str) -> None:
    """See `JournalStatements.forget`."""
    connection.execute(_FORGET, (session_id, turn_key(turn_id)))


def _stored(row: Any) -> StoredPending:
    turn_id, created_at, owner, lease_until, failed, replaces, metadata, items, _ = row
    return StoredPending(
        turn_text(turn_id),
        created_at,
        owner,
        lease_until,
        bool(failed),
        replaces and turn_text(replaces),
        metadata,
        items,
    )
