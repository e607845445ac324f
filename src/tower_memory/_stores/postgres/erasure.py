"""The statements of erasing, as functions that run in one read or one transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from tower_memory._capabilities.erasure import Erasure, must_erase
from tower_memory._stores.postgres.heads import put_tombstone, read_head, wall_time
from tower_memory._stores.postgres.id_range import PREFIX_CONDITION, id_range
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.writes import remove_content
from tower_memory._stores.records import to_nanoseconds

_FIND: Final = (
    "SELECT session, session_id FROM memory_head WHERE session_id IS NOT NULL AND session > %b"  # noqa: S608 - all parts are constants
    f" AND updated_at < %b {PREFIX_CONDITION} ORDER BY session LIMIT %b"
)

_LATEST: Final = 2**63 - 1
"""A time in microseconds that is later than every change: it limits no erasure."""

_FOUND_TOGETHER: Final = 500
"""Maximum number of sessions that one statement finds."""


def latest_change(inactive_since: datetime | None) -> int:
    """Return *inactive_since* in microseconds, cut to 64 bits; None gives `_LATEST`."""
    if inactive_since is None:
        return _LATEST
    return max(-_LATEST, min(to_nanoseconds(inactive_since) // 1000, _LATEST))


def find_sessions(
    connection: Connection, prefix: str, after: UUID, updated_before: int
) -> list[tuple[UUID, str]]:
    """Return the next sessions with a prefix in the order of their keys, each with its id.

    Args:
        connection: The connection that reads.
        prefix: The text that the ids start with; empty for all sessions.
        after: The key of the last session of the call before; 0 at first.
        updated_before: Time in microseconds before which the sessions were last changed.
    """
    values = (after, updated_before, *id_range(prefix), _FOUND_TOGETHER)
    rows = connection.execute(_FIND, values, prepare=False)
    return [(session, session_id.decode()) for session, session_id in rows]


def erase(
    connection: Connection,
    session_id: str,
    updated_before: int,
    expected_revision: int | None = None,
) -> Erasure:
    """Erase a session, which leaves a tombstone, and return the numbers of the removed rows.

    A session that was changed at *updated_before*, in microseconds, or later, stays. A session that
    does not exist gets a tombstone if the erasure has no limit.

    Raises:
        SessionConflict: The session is not at *expected_revision*.
    """
    found = read_head(connection, session_id)
    head = found.head
    may_erase = updated_before == _LATEST if head is None else head.updated_at < updated_before
    if not may_erase:
        return Erasure(0, 0, 0)

    revision = found.tombstone if head is None else head.revision
    exists = head is not None
    if not must_erase(session_id, exists=exists, revision=revision, expected=expected_revision):
        return Erasure(0, 0, 0)

    put_tombstone(connection, found, wall_time())
    if head is None:
        return Erasure(0, 0, 0)

    remove_content(connection, head.session)
    return Erasure(1, head.turns, head.items)
