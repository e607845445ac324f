"""The statements of `TurnJournal`, as functions that run in one read or one transaction.

A pending turn is a row of its own table. It never changes the revision of a session that exists,
its times, its place in the order of activity, or its cache entry. The head only gets a new version.
A pending turn of a session that does not exist creates it.
"""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID

from tower_memory._capabilities.journal import PendingTurn
from tower_memory._codec import ItemCodec
from tower_memory._items import Item
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.pending_turns import StoredPending, begun, check_owner_may_begin
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.heads import find_for, put_head, read_head, wall_time
from tower_memory._stores.postgres.link import Connection, Row
from tower_memory._stores.postgres.rows import place_of_replaced
from tower_memory._stores.postgres.turn_rows import end_pending
from tower_memory._stores.records import EncodedTurn
from tower_memory._turn import Turn

_COLUMNS: Final = "turn_id, created_at, owner, lease_until, failed, replaces, metadata, items"
_ALL: Final = (
    f"SELECT {_COLUMNS} FROM memory_pending WHERE session = %b"  # noqa: S608 - all parts are constants
    " ORDER BY created_at, turn_id"
)
_ONE: Final = f"SELECT {_COLUMNS} FROM memory_pending WHERE session = %b AND turn = %b"  # noqa: S608 - as above
_PUT: Final = (
    "INSERT INTO memory_pending (session, turn, turn_id, created_at, owner, lease_until, failed,"
    " replaces, metadata, items) VALUES (%b, %b, %b, %b, %b, %b, false, %b, %b, %b)"
    " ON CONFLICT (session, turn) DO UPDATE SET owner = excluded.owner,"
    " lease_until = excluded.lease_until, failed = false, replaces = excluded.replaces,"
    " metadata = excluded.metadata, items = excluded.items"
)
_FAIL: Final = "UPDATE memory_pending SET failed = true WHERE session = %b AND turn = %b"


def begin(
    connection: Connection,
    turn: Turn[Any],
    encoded: EncodedTurn,
    lease: float | None,
    owner: str | None,
) -> None:
    """See `JournalStatements.begin`."""
    found, key = find_for(connection, turn), hash_of(turn.turn_id)
    replaced = place_of_replaced(connection, found, turn)
    state = found.state(key, holds_replaced=replaced is not None)
    if state.holds_turn:
        return
    must_write(state, turn)  # makes the checks; a turn without items is written, too

    nanoseconds = time.time_ns()
    check_owner_may_begin(turn, owner, _find(connection, found.session, key), nanoseconds)

    put_head(connection, found.written(turn.session_id, wall_time()))
    new = begun(turn, encoded, lease, owner, nanoseconds)
    connection.execute(
        _PUT,
        (
            *(found.session, key, turn.turn_id.encode(), nanoseconds),
            *(_encoded(owner), new.lease_until),
            *(_encoded(new.replaces), new.metadata, new.items),
        ),
    )


def fail(connection: Connection, session_id: str, turn_id: str, owner: str | None) -> None:
    """See `JournalStatements.fail`."""
    found, key = read_head(connection, session_id), hash_of(turn_id)
    present = _find(connection, found.session, key)
    if found.head is None or present is None or present.owner != owner:
        return

    put_head(connection, found.head.written(wall_time()))
    connection.execute(_FAIL, (found.session, key))


def pending(
    connection: Connection, session_id: str, codec: ItemCodec[Item]
) -> list[PendingTurn[Item]]:
    """See `JournalStatements.pending`."""
    rows = connection.execute(_ALL, (hash_of(session_id),)).fetchall()
    nanoseconds = time.time_ns()
    # Rows of this table have no number, so an error shows the index of the row among them.
    return [
        _stored(row).read(session_id, codec, index, nanoseconds) for index, row in enumerate(rows)
    ]


def forget(connection: Connection, session_id: str, turn_id: str) -> None:
    """See `JournalStatements.forget`."""
    found, key = read_head(connection, session_id), hash_of(turn_id)
    if found.head is None or _find(connection, found.session, key) is None:
        return

    put_head(connection, found.head.written(wall_time()))
    end_pending(connection, found.session, key)


def _find(connection: Connection, session: UUID, turn: UUID) -> StoredPending | None:
    row = connection.execute(_ONE, (session, turn)).fetchone()
    return _stored(row) if row else None


def _stored(row: Row) -> StoredPending:
    turn_id, created_at, owner, lease_until, failed, replaces, metadata, items = row
    return StoredPending(
        turn_id.decode(),
        created_at,
        _decoded(owner),
        lease_until,
        failed,
        _decoded(replaces),
        metadata,
        items,
    )


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _decoded(encoded: bytes | None) -> str | None:
    return None if encoded is None else encoded.decode()
