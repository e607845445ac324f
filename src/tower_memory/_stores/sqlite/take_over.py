"""Take-over of a file that tower-llm or openai-agents wrote.

1. The rows are copied: each item's JSON unchanged, and each exchange as a turn (`copy_turns`).
2. The tables of the other program stay, and keep their rows until a session is erased.
3. From then on, openai-agents' own ``SQLiteSession`` cannot add items to the file: a trigger raises
   an error that names the remedy. Otherwise, a process that still uses that class would add items
   that no other process sees.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any, Final

from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec
from tower_memory._errors import CorruptSessionError
from tower_memory._stores.records import to_nanoseconds
from tower_memory._stores.sqlite.copy_turns import Row, copy_turns

TABLES_OF_TOWER_LLM: Final = {
    "sessions": ["id", "session_id", "item_type", "item_data", "created_at", "sequence_num"]
}
"""The tables of tower-llm's files, with their columns."""

TABLES_OF_OPENAI_AGENTS: Final = {
    "agent_messages": ["id", "session_id", "message_data", "created_at"],
    "agent_sessions": ["session_id", "created_at", "updated_at"],
}
"""The tables of the files of openai-agents' ``SQLiteSession``, with their columns."""

_ROWS_OF_TOWER_LLM: Final = (
    "SELECT id, session_id, CAST(item_data AS BLOB), created_at FROM sessions"
    " ORDER BY session_id, sequence_num"
)
# openai-agents stores SQLite's CURRENT_TIMESTAMP, which is UTC.
_ROWS_OF_OPENAI_AGENTS: Final = (
    "SELECT id, session_id, CAST(message_data AS BLOB), replace(created_at, ' ', 'T') || 'Z'"
    " FROM agent_messages ORDER BY session_id, id"
)
_REFUSE_ITEMS: Final = (
    "CREATE TRIGGER memory_taken_over BEFORE INSERT ON agent_messages BEGIN SELECT RAISE(ABORT,"
    " 'tower-memory has taken over this file: use the SQLiteSession of"
    " tower_memory.integrations.openai_agents'); END"
)
_HEAD: Final = (
    "INSERT INTO memory_head (session_id, high, revision, cleared, replaced, active, created_at,"
    " updated_at, turns, items) VALUES (?, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
)

_TIMESTAMP = re.compile(r"(\S+:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def take_over_tower_llm(connection: sqlite3.Connection) -> None:
    """Copy the rows of tower-llm's table to the tables of schema 2, in the open transaction.

    Raises:
        CorruptSessionError: A row has a bad session id, item or time.
    """
    copy_turns(connection, _rows(connection, _ROWS_OF_TOWER_LLM))


def take_over_openai_agents(connection: sqlite3.Connection) -> None:
    """Copy the rows of openai-agents' tables, and refuse further items there (rules 1 and 3).

    Raises:
        CorruptSessionError: A row has a bad session id, item or time.
    """
    copy_turns(connection, _rows(connection, _ROWS_OF_OPENAI_AGENTS))
    connection.execute(_REFUSE_ITEMS)


def _rows(connection: sqlite3.Connection, select: str) -> Iterator[Row]:
    """Yield the selected rows, session by session; insert the head of each session."""
    codec: ItemCodec[Any] = ItemCodec(Any)
    known: str | None = None
    head = 0

    with closing(connection.execute(select)) as rows:
        for row, session_id, item, created_at in rows:
            try:
                check_text("session_id", session_id)
                codec.decode(item)
                nanoseconds = _nanoseconds(created_at)
            except (TypeError, ValueError) as error:
                raise CorruptSessionError(str(session_id), row=row, reason=str(error)) from error

            if session_id != known:
                known = session_id
                head = connection.execute(_HEAD, (session_id,)).lastrowid or 0
            yield Row(row, head, nanoseconds, item)


def _nanoseconds(created_at: str) -> int:
    """Convert an RFC 3339 timestamp of up to nine decimals to nanoseconds since 1970, UTC."""
    match = _TIMESTAMP.fullmatch(created_at)
    if match is None:
        msg = f"created_at {created_at!r} is not an RFC 3339 timestamp"
        raise ValueError(msg)

    second, decimals, offset = match.groups()
    nanoseconds = to_nanoseconds(datetime.fromisoformat(second + offset))
    nanoseconds += int((decimals or "").ljust(9, "0"))

    if abs(nanoseconds) >= 2**63:
        msg = f"created_at {created_at!r} is too far from 1970 for 64-bit nanoseconds"
        raise ValueError(msg)
    return nanoseconds
