"""The statements of `SessionSummaries`, as functions that run in one read or one transaction.

1. A summary is bound to the last turn that it covers. While the row of this turn is there, the turn
   and all turns before it are as they were (rule 4 of `tables`).
2. The functions of `turn_rows` that remove a turn also remove the summaries that cover it. So each
   summary that is there covers turns that are there.
3. A summary is a row of its own table. It never changes the revision of its session, its times, its
   place in the order of activity, or its cache entry. The head only gets a new version.
"""

from __future__ import annotations

from typing import Final

from tower_memory._capabilities.summaries import Summary
from tower_memory._errors import CorruptSessionError
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.heads import put_head, read_head, wall_time
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.records import to_datetime

_FIND: Final = (
    "SELECT s.summary, t.turn_id, t.first + t.size, s.created_at, s.number FROM memory_summary AS s"
    " JOIN memory_turn AS t"
    " ON t.session = s.session AND t.first = s.first AND t.number = s.number"
    " WHERE s.session = %b AND s.name = %b"
)
_UNCHANGED_TURN: Final = (
    "SELECT first, number FROM memory_turn WHERE session = %b AND turn = %b AND number <= %b"
)
_PUT: Final = (
    "INSERT INTO memory_summary (session, name, first, number, created_at, summary)"
    " VALUES (%b, %b, %b, %b, %b, %b)"
    " ON CONFLICT (session, name) DO UPDATE SET first = excluded.first, number = excluded.number,"
    " created_at = excluded.created_at, summary = excluded.summary"
    " WHERE excluded.number > memory_summary.number"
)


def find(connection: Connection, session_id: str, name: str) -> Summary | None:
    """See `SummaryStatements.find`."""
    found = connection.execute(_FIND, (hash_of(session_id), hash_of(name))).fetchone()
    if found is None:
        return None

    encoded, turn_id, end, created_at, number = found
    try:
        text = encoded.decode()
    except ValueError as error:
        raise CorruptSessionError(session_id, row=number, reason=str(error)) from error
    return Summary(text, turn_id.decode(), end, to_datetime(created_at * 1000))


def save(
    connection: Connection,
    session_id: str,
    text: str,
    *,
    turn_id: str,
    since: int,
    name: str,
) -> Summary | None:
    """See `SummaryStatements.save`."""
    found, time = read_head(connection, session_id), wall_time()
    values = (found.session, hash_of(turn_id), since)
    turn = connection.execute(_UNCHANGED_TURN, values).fetchone()
    if found.head is None or turn is None:
        return None
    if since < found.head.first_number:  # of an erased session; a copied turn may be as old
        return None

    put_head(connection, found.head.written(time))
    connection.execute(_PUT, (found.session, hash_of(name), *turn, time, text.encode()))
    return find(connection, session_id, name)
