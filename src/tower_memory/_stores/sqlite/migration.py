"""Migration of a file of schema 1, which has one row per item, to schema 2.

1. The migration is one pass over all rows by id, in the transaction of its caller. It keeps one
   small record per session in memory, and the rows of one turn.
2. It removes the old tables, so a program of schema 1 that still has the file open can read and
   write nothing: its statements fail with "no such table".
3. A revision of schema 1 is the id of a row. It stays below every revision of schema 2, so a
   revision that was loaded before the migration is outdated after it.
4. Each row of an existing session is copied, damaged or not (`copy_turns`). A row without a session
   is left out: no version could read it, and a later session must not get it.
5. The pages of the old tables become free and are used again. The file stays about twice as large
   as the conversations until it is rewritten (VACUUM).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from tower_memory._stores.progress import Report
from tower_memory._stores.sqlite.copy_turns import Row, copy_turns, watch
from tower_memory._stores.sqlite.tables import FIRST_NUMBER_SHIFT

_HEADS: Final = (
    "INSERT INTO memory_head (id, session_id, high, revision, cleared, replaced, active,"
    " created_at, updated_at, turns, items)"
    " SELECT id, session_id, id << :shift, id << :shift, 0, 0, 0, :now, :now, 0, 0"
    " FROM memory_session"
)

# A text that is not UTF-8 could not be read as text.
_ROWS: Final = (
    "SELECT id, session, created_at, CAST(item AS BLOB), CAST(turn_id AS BLOB), typeof(turn_id)"
    " FROM memory_item WHERE session IN (SELECT id FROM memory_session) ORDER BY id"
)

_DROP: Final = ("DROP TABLE memory_item", "DROP TABLE memory_session")


def migrate(connection: sqlite3.Connection, report: Report, keep_going: Callable[[], bool]) -> None:
    """Copy the tables of schema 1 to those of schema 2, which are empty, and remove the old ones.

    Everything happens in the open transaction.

    Raises:
        Stopped: *keep_going* returned False.
    """
    (total,) = connection.execute("SELECT count(*) FROM memory_item").fetchone()
    connection.execute(_HEADS, {"shift": FIRST_NUMBER_SHIFT, "now": time.time_ns()})

    with closing(connection.execute(_ROWS)) as rows:
        copy_turns(connection, watch(map(Row._make, rows), total, report, keep_going))

    for statement in _DROP:
        connection.execute(statement)
