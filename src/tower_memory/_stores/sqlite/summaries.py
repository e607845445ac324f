"""The statements of `SessionSummaries`, as functions that run in one read or one transaction.

1. A summary is bound to the number of the last turn that it covers. While the row of this turn is
   there, the turn and all turns before it are as they were (rule 3 of `tables`).
2. The functions of `turn_rows` that remove or change a turn also remove the summaries that cover
   it. So each summary that is there covers turns that are there.
3. A summary is a row of its own table. It never changes the head of its session, so the session
   keeps its revision, its times, its place in the order of activity, and its cache entry.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Final

from tower_memory._capabilities.summaries import Summary
from tower_memory._errors import CorruptSessionError
from tower_memory._stores.records import to_datetime, turn_key, turn_text

# The inner SELECT passes over the newest turns until it finds the last turn of the summary. These
# are the turns that the summary does not cover, which are few.
_FIND: Final = (
    "SELECT CAST(s.summary AS BLOB), t.turn_id, t.first + t.size, s.created_at, s.session"
    " FROM memory_head AS h JOIN memory_summary AS s ON s.session = h.id"
    " JOIN memory_turn AS t ON t.id = ("
    " SELECT id FROM memory_turn WHERE session = h.id AND number = s.number"
    " ORDER BY first DESC, number DESC LIMIT 1)"
    " WHERE h.session_id = ? AND s.name = ?"
)
_UNCHANGED_TURN: Final = (
    "SELECT t.session, t.number FROM memory_head AS h JOIN memory_turn AS t ON t.session = h.id"
    " WHERE h.session_id = ? AND t.turn_id = ? AND t.number <= ?"
)
_PUT: Final = (
    "INSERT INTO memory_summary (session, name, number, created_at, summary)"
    " VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (session, name) DO UPDATE SET number = excluded.number,"
    " created_at = excluded.created_at, summary = excluded.summary"
    " WHERE excluded.number > memory_summary.number"
)


def find(connection: sqlite3.Connection, session_id: str, name: str) -> Summary | None:
    """See `SummaryStatements.find`."""
    found = connection.execute(_FIND, (session_id, name)).fetchone()
    if found is None:
        return None

    encoded, turn_id, end, created_at, session = found
    try:
        text = encoded.decode()
    except ValueError as error:
        # Rows of this table have no number of their own, so the error shows that of the session.
        raise CorruptSessionError(session_id, row=session, reason=str(error)) from error
    return Summary(text, turn_text(turn_id), end, to_datetime(created_at))


def save(
    connection: sqlite3.Connection,
    session_id: str,
    text: str,
    *,
    turn_id: str,
    since: int,
    name: str,
) -> Summary | None:
    """See `SummaryStatements.save`."""
    turn = connection.execute(_UNCHANGED_TURN, (session_id, turn_key(turn_id), since)).fetchone()
    if turn is None:
        return None

    session, number = turn
    connection.execute(_PUT, (session, name, number, time.time_ns(), text))
    return find(connection, session_id, name)
