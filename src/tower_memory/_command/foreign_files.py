"""SQLite files of openai-agents and LangChain, as sessions and turns.

Sources: ``SQLiteSession`` of openai-agents 0.24, ``SQLChatMessageHistory`` of langchain-community
0.4, both with their default tables.

1. Each row becomes one turn. If the file gets further rows, importing it again adds exactly these
   rows.
2. The id of a turn is a hash of the kind of the file, the session id, the id of the row and its
   text, so it is the same at each import. The hash includes the text, because LangChain's table
   uses the id of a deleted row again.
3. Nothing is written to the file. It is opened like any SQLite file, so that SQLite removes its log
   at the end: a connection that cannot write would leave an empty log beside the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec import json

from tower_memory._arguments import check_text
from tower_memory._command.errors import CommandError
from tower_memory._command.export_format import decode_item, encode_items, stored_time
from tower_memory._command.langchain_messages import to_chat_message
from tower_memory._stores.sql.importing import Entry, ImportedSession, ImportedTurn
from tower_memory._stores.sqlite.schema import APPLICATION_ID

_AGENTS_SESSIONS: Final = {"session_id", "created_at", "updated_at"}
_AGENTS_MESSAGES: Final = {"id", "session_id", "message_data", "created_at"}
_LANGCHAIN_MESSAGES: Final = {"id", "session_id", "message"}

# Sessions come in the order of their last rows, so the last active one is at the end.
_AGENTS_ROWS: Final = (
    "SELECT m.id, m.session_id, m.message_data, m.created_at, s.created_at, s.updated_at,"
    " max(m.id) OVER (PARTITION BY m.session_id) AS last"
    " FROM agent_messages AS m LEFT JOIN agent_sessions AS s ON s.session_id = m.session_id"
    " ORDER BY last, m.id"
)
_LANGCHAIN_ROWS: Final = (
    "SELECT id, session_id, message, NULL, NULL, NULL,"
    " max(id) OVER (PARTITION BY session_id) AS last FROM message_store ORDER BY last, id"
)


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: Name of the kind; part of the ids of its turns.
        table: Table with the messages.
        rows: Statement that reads the rows in the order of their sessions.
        converts: True if a row has a message of LangChain, which becomes a chat message.
    """

    name: str
    table: str
    rows: str
    converts: bool


AGENTS: Final = Kind("openai-agents", "agent_messages", _AGENTS_ROWS, converts=False)
LANGCHAIN: Final = Kind("langchain", "message_store", _LANGCHAIN_ROWS, converts=True)


def recognise(connection: sqlite3.Connection) -> Kind:
    """Return the kind of the file of *connection*.

    Raises:
        CommandError: It is of no known kind.
    """
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    if owner == APPLICATION_ID:
        msg = (
            "it is a file of tower-memory itself: use it with --db, or import an export of it "
            "(`tower-memory export`)"
        )
        raise CommandError(msg)

    tables = _tables(connection)
    if (
        tables.get("agent_messages", set()) >= _AGENTS_MESSAGES
        and tables.get("agent_sessions", set()) >= _AGENTS_SESSIONS
    ):
        return AGENTS
    if tables.get("message_store", set()) >= _LANGCHAIN_MESSAGES:
        return LANGCHAIN

    msg = (
        "it has neither the tables of openai-agents (agent_sessions, agent_messages) nor that of "
        f"LangChain (message_store), but {', '.join(sorted(tables)) or 'no tables'}"
    )
    raise CommandError(msg)


def read_foreign(path: str, now: datetime) -> Iterator[tuple[float, Entry]]:
    """Yield the sessions and turns of the SQLite file *path*, each with the share that is read.

    *now* is the time of rows without a time.

    Raises:
        CommandError: The file is of no known kind, or damaged; the error names the row.
    """
    try:
        with closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=rw", uri=True)) as file:
            file.execute("PRAGMA query_only = ON")
            kind = recognise(file)
            (total,) = file.execute(f"SELECT count(*) FROM {kind.table}").fetchone()  # noqa: S608
            yield from _entries(file, kind, total, now)
    except sqlite3.Error as error:
        msg = f"it cannot be read: {error}"
        raise CommandError(msg) from error


def _entries(
    file: sqlite3.Connection, kind: Kind, total: int, now: datetime
) -> Iterator[tuple[float, Entry]]:
    known: Any = None
    for count, (row, session_id, text, *times, _last) in enumerate(file.execute(kind.rows)):
        try:
            created_at, session_from, session_to = (_time(time, now) for time in times)
            if session_id != known:
                check_text("session_id", session_id)
                known = session_id
                yield count / total, ImportedSession(session_id, session_from, session_to)
            yield count / total, _turn(kind, session_id, row, text, created_at)
        except (TypeError, ValueError) as error:
            msg = f"table {kind.table}, row {row}: {error}"
            raise CommandError(msg) from error


def _turn(kind: Kind, session_id: str, row: int, text: str, created_at: int) -> ImportedTurn:
    check_text("the message", text)
    item = text.encode()
    value = decode_item(item)
    if kind.converts:
        item = json.encode(to_chat_message(value))

    named = json.encode([kind.name, session_id, row, text])
    turn_id = blake2b(named, digest_size=16, key=b"tower-memory: import").hexdigest()
    return ImportedTurn(turn_id, created_at, encode_items([item]))


def _time(text: Any, now: datetime) -> int:
    """Return a time of SQLite's CURRENT_TIMESTAMP, which is UTC, in nanoseconds since 1970."""
    if text is None:
        return stored_time(now)
    time = datetime.fromisoformat(text)
    return stored_time(time if time.tzinfo else time.replace(tzinfo=UTC))


def _tables(connection: sqlite3.Connection) -> dict[str, set[str]]:
    rows = connection.execute(
        "SELECT t.name, c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c"
        " WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    tables: dict[str, set[str]] = {}
    for table, column in rows:
        tables.setdefault(table, set()).add(column)
    return tables
