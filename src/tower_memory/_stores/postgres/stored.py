"""The statements of `StoredStatements`, which run in one snapshot (`direct`).

Rows are read in slices, each by a statement of its own, so memory holds one slice of sessions and
one of turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from tower_memory._stores.postgres.direct import begin_answer
from tower_memory._stores.postgres.heads import Found, Head, read_head, read_heads
from tower_memory._stores.postgres.id_range import PREFIX_CONDITION, id_range
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.sql.stored import StoredSession, StoredTurn

_SESSIONS: Final = (
    f"SELECT active, session FROM memory_head WHERE session_id IS NOT NULL {PREFIX_CONDITION}"  # noqa: S608 - all parts are constants
    " AND (active, session) > (%b, %b) ORDER BY active, session LIMIT %b"
)
_COUNT_TURNS: Final = (
    "SELECT coalesce(sum(turns), 0) FROM memory_head"  # noqa: S608 - as above
    f" WHERE session_id IS NOT NULL {PREFIX_CONDITION}"
)
_TURNS: Final = (
    "SELECT first, number, turn_id, created_at, metadata, items FROM memory_turn"
    " WHERE session = %b AND (first, number) > (%b, %b) ORDER BY first, number LIMIT %b"
)

_SLICE_LENGTH: Final = 100
"""Number of rows that one statement reads."""

_BEFORE_ALL: Final = -1
"""Below every ``active`` and every position."""


def find_session(connection: Connection, session_id: str) -> StoredSession | None:
    """See `StoredStatements.find_session`."""
    begin_answer(connection)
    found = [*_stored(connection, [read_head(connection, session_id)])]
    return found[0] if found else None


def sessions(connection: Connection, prefix: str) -> Iterator[StoredSession]:
    """See `StoredStatements.sessions`."""
    place = (_BEFORE_ALL, UUID(int=0))
    while True:
        begin_answer(connection)
        values = (*id_range(prefix), *place, _SLICE_LENGTH)
        rows = connection.execute(_SESSIONS, values).fetchall()
        keys = [key for _, key in rows]
        found = read_heads(connection, keys, [])
        yield from _stored(connection, [found[key] for key in keys])

        if len(rows) < _SLICE_LENGTH:
            return
        place = rows[-1]


def count_turns(connection: Connection, prefix: str) -> int:
    """See `StoredStatements.count_turns`."""
    begin_answer(connection)
    ((turns,),) = connection.execute(_COUNT_TURNS, id_range(prefix)).fetchall()
    return int(turns)


def turns(connection: Connection, key: UUID) -> Iterator[StoredTurn]:
    """See `StoredStatements.turns`."""
    place: tuple[Any, Any] = (_BEFORE_ALL, 0)
    while True:
        begin_answer(connection)
        rows = connection.execute(_TURNS, (key, *place, _SLICE_LENGTH)).fetchall()
        for _, number, turn_id, created_at, metadata, items in rows:
            yield StoredTurn(number, turn_id.decode(), created_at * 1000, metadata, items)

        if len(rows) < _SLICE_LENGTH:
            return
        place = rows[-1][:2]


def _stored(connection: Connection, found: Sequence[Found]) -> Iterator[StoredSession]:
    """Yield those of the sessions that exist."""
    heads = [each.head for each in found if each.head is not None]
    forks = [head.origin for head in heads if head.origin is not None]
    origins = read_heads(connection, forks, []) if forks else {}

    for head in heads:
        yield StoredSession(
            head.session,
            _text(head.session_id),
            head.created_at * 1000,
            head.updated_at * 1000,
            head.turns,
            head.items,
            head.metadata,
            _forked_from(head, origins),
        )


def _forked_from(head: Head, origins: dict[UUID, Found]) -> str | None:
    """Return the id of the session's origin; None if it was erased since."""
    origin = origins[head.origin].head if head.origin is not None else None
    if origin is None or origin.first_number != head.origin_number:
        return None
    return _text(origin.session_id)


def _text(session_id: bytes | None) -> str:
    return (session_id or b"").decode()
