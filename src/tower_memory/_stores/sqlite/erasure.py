"""Erasing sessions, and removing the bytes of what was erased.

Deleted text stays in gaps of pages, and in the write-ahead log. Only rewriting the file removes it
all, and emptying the log afterwards. SQLite cannot empty the log while another connection reads
from an old state of the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from tower_memory._capabilities.erasure import Erasure, must_erase
from tower_memory._stores.clock import Deadline
from tower_memory._stores.jobs import RetryLater
from tower_memory._stores.records import to_nanoseconds
from tower_memory._stores.sqlite.heads import add_tombstone
from tower_memory._stores.sqlite.id_range import id_range
from tower_memory._stores.sqlite.schema import Refused, is_busy
from tower_memory._stores.sqlite.take_over import TABLES_OF_OPENAI_AGENTS, TABLES_OF_TOWER_LLM
from tower_memory._stores.sqlite.tombstones import set_tombstone, tombstone_number
from tower_memory._stores.sqlite.writes import remove_content

_MOST_NANOSECONDS: Final = 2**63 - 1

ERASED_TOGETHER: Final = 64
"""Maximum number of sessions that one commit erases."""


def find_sessions(
    connection: sqlite3.Connection, prefix: str, after: str, updated_before: int | None
) -> list[str]:
    """Return the next `ERASED_TOGETHER` session ids with a prefix, in order.

    Args:
        connection: A connection to the file.
        prefix: The text that the ids start with; empty for all sessions.
        after: The last id of the call before; empty at first.
        updated_before: Time in nanoseconds before which the sessions were last changed, or None
            for any time.
    """
    start, end = id_range(prefix)
    rows = connection.execute(
        "SELECT session_id FROM memory_head WHERE session_id >= :start AND session_id > :after"
        " AND session_id < :end AND (:time IS NULL OR updated_at < :time)"
        " ORDER BY session_id LIMIT :most",
        {
            "start": start,
            "after": after,
            "end": end,
            "time": updated_before,
            "most": ERASED_TOGETHER,
        },
    )
    return [session_id for (session_id,) in rows]


def latest_change(inactive_since: datetime) -> int:
    """Return *inactive_since* in nanoseconds, cut to 64 bits: no session has a later time."""
    return max(-_MOST_NANOSECONDS, min(to_nanoseconds(inactive_since), _MOST_NANOSECONDS))


def erase(
    connection: sqlite3.Connection,
    session_ids: Sequence[str],
    updated_before: int | None,
    expected_revision: int | None = None,
) -> Erasure:
    """Erase sessions in the open transaction, and return their numbers; each gets a tombstone.

    *updated_before* is a time in nanoseconds: sessions that were changed since then stay. None
    erases all. *expected_revision* needs a single session id.

    Raises:
        SessionConflict: The session is not at *expected_revision*. Nothing is written.
    """
    erased = Erasure(0, 0, 0)
    taken_over = _tables_taken_over(connection)

    for session_id in session_ids:
        head = connection.execute(
            "SELECT id, high, updated_at, turns, items, revision FROM memory_head"
            " WHERE session_id = ?",
            (session_id,),
        ).fetchone()
        if updated_before is not None and (head is None or head[2] >= updated_before):
            continue

        revision = head[5] if head else tombstone_number(connection, session_id)
        exists = head is not None
        if not must_erase(session_id, exists=exists, revision=revision, expected=expected_revision):
            continue

        if head is None:
            add_tombstone(connection, session_id)
        else:
            head_id, high, _, turns, items, _ = head
            remove_content(connection, head_id)
            connection.execute("DELETE FROM memory_head WHERE id = ?", (head_id,))
            set_tombstone(connection, session_id, high + 1)
            erased = Erasure(erased.sessions + 1, erased.turns + turns, erased.items + items)

        for table in taken_over:
            delete = f"DELETE FROM {table} WHERE session_id = ?"  # noqa: S608
            connection.execute(delete, (session_id,))
    return erased


def _tables_taken_over(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that the file had when it was taken over from another program."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    known = {*TABLES_OF_TOWER_LLM, *TABLES_OF_OPENAI_AGENTS}
    return [name for (name,) in rows if name in known]


def rewrite_file(connection: sqlite3.Connection, deadline: Deadline) -> None:
    """Rewrite the whole file without the gaps that hold deleted text.

    Raises:
        RetryLater: Another process has locked the file, and *deadline* has not passed.
        sqlite3.Error: The file stayed locked, or the disk is full.
    """
    try:
        connection.execute("VACUUM")
    except sqlite3.Error as error:
        if is_busy(error) and not deadline.has_passed():
            raise RetryLater from error
        raise


def empty_log(connection: sqlite3.Connection, deadline: Deadline) -> None:
    """Copy the write-ahead log into the file and empty it.

    Raises:
        RetryLater: Another connection uses the log, and *deadline* has not passed.
        Refused: Another connection still uses the log.
    """
    if try_to_empty_log(connection):
        return

    if not deadline.has_passed():
        raise RetryLater
    msg = (
        "another connection reads from an old state of the file, so its log still holds erased "
        "content; end that read, and scrub again"
    )
    raise Refused(msg)


def try_to_empty_log(connection: sqlite3.Connection) -> bool:
    """Empty the write-ahead log; return False if another connection uses it."""
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        if is_busy(error):
            return False
        raise
    return not busy
