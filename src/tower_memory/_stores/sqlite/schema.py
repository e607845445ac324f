"""The database schema, and the preparation of a file that is new, ours or tower-llm's.

1. A file is ours if its ``application_id`` is ours; its ``user_version`` is the schema's version.
2. An empty file gets the schema. So does a file that tower-llm wrote: its rows are copied, and its
   own table stays unchanged. Every other file is refused and stays unchanged.
3. The schema and the copied rows are written in one transaction. If several processes open a new
   file at the same time, one process writes the schema and the others find it.

Rows are only added, removed from the end, or cleared, and an id is never reused (AUTOINCREMENT).
Therefore the id of a session's last row identifies the session's whole content: it is the revision.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec
from tower_memory._errors import CorruptSessionError
from tower_memory._stores.sqlite.tables import TABLES

APPLICATION_ID = 0x746D656D  # "tmem"
VERSION = 2

_SCHEMA = (
    *TABLES,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

_TIMESTAMP = re.compile(r"(\S+:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOWER_LLM = ["id", "session_id", "item_type", "item_data", "created_at", "sequence_num"]

T = TypeVar("T")


class Refused(Exception):
    """Raised when the file is refused; the message is the reason."""


def is_busy(error: sqlite3.Error) -> bool:
    """Return True if *error* comes from a lock of another connection, which may be released."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(connection: sqlite3.Connection, keep_waiting: Callable[[], bool]) -> None:
    """Give the open file the schema (rule 2) and a write-ahead log.

    While the file is locked, try again as long as *keep_waiting* returns True.

    Raises:
        Refused: The file is another program's, has a newer schema, or cannot have a log.
        CorruptSessionError: A row that tower-llm wrote cannot be read.
        sqlite3.Error: The file is not a database, or stayed locked.
    """
    if not _patiently(connection, _is_ours, keep_waiting):
        _patiently(connection, _make_ours, keep_waiting)
    _patiently(connection, _use_write_ahead_log, keep_waiting)


def _patiently(
    connection: sqlite3.Connection,
    step: Callable[[sqlite3.Connection], T],
    keep_waiting: Callable[[], bool],
) -> T:
    """Run *step*, and run it again while the file is locked and *keep_waiting* returns True.

    SQLite's own busy timeout covers neither a change of the journal mode nor a read during the
    recovery from a crashed process.
    """
    while True:
        try:
            return step(connection)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or not keep_waiting():
                raise
            time.sleep(0.005)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _is_ours(connection: sqlite3.Connection) -> bool:
    connection.execute("BEGIN")
    return _recognise(connection)


def _make_ours(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    if not _recognise(connection):  # another process may have written the schema
        tower_llm = bool(_tables(connection))
        for statement in _SCHEMA:
            connection.execute(statement)
        if tower_llm:
            _take_over(connection)
        connection.execute("COMMIT")


def _recognise(connection: sqlite3.Connection) -> bool:
    """Return True if the file is ours, False if it is new or tower-llm's; refuse every other file.

    Raises:
        Refused: The file is another program's, or has a newer schema.
    """
    owner = _value(connection, "PRAGMA application_id")
    version = _value(connection, "PRAGMA user_version")
    if owner == APPLICATION_ID:
        if version != VERSION:
            msg = f"its schema is version {version}, this tower-memory knows {VERSION}: upgrade it"
            raise Refused(msg)
        return True

    tables = _tables(connection)
    if (owner, version) != (0, 0) or tables not in ({}, {"sessions": _TOWER_LLM}):
        msg = (
            f"it is another program's database (application_id {owner}, user_version {version}, "
            f"tables: {', '.join(tables) or 'none'}); choose another file"
        )
        raise Refused(msg)
    return False


def _take_over(connection: sqlite3.Connection) -> None:
    """Copy the rows of tower-llm's table; each item's JSON is copied unchanged.

    Raises:
        CorruptSessionError: A row has a bad session id, item or time.
    """
    codec: ItemCodec[Any] = ItemCodec(Any)
    rows = connection.execute(
        "SELECT id, session_id, CAST(item_data AS BLOB), created_at FROM sessions"
        " ORDER BY session_id, sequence_num"
    )

    for row, session_id, item, created_at in rows:
        try:
            check_text("session_id", session_id)
            codec.decode(item)
            nanoseconds = _nanoseconds(created_at)
        except (TypeError, ValueError) as error:
            raise CorruptSessionError(str(session_id), row=row, reason=str(error)) from error

        connection.execute(
            "INSERT OR IGNORE INTO memory_session (session_id) VALUES (?)", (session_id,)
        )
        connection.execute(
            "INSERT INTO memory_item (session, created_at, item)"
            " SELECT id, ?, ? FROM memory_session WHERE session_id = ?",
            (nanoseconds, item.decode(), session_id),
        )


def _nanoseconds(created_at: str) -> int:
    """Convert an RFC 3339 timestamp of up to nine decimals to nanoseconds since 1970, UTC."""
    match = _TIMESTAMP.fullmatch(created_at)
    if match is None:
        msg = f"created_at {created_at!r} is not an RFC 3339 timestamp"
        raise ValueError(msg)

    second, decimals, offset = match.groups()
    seconds = (datetime.fromisoformat(second + offset) - _EPOCH) // timedelta(seconds=1)
    nanoseconds = seconds * 10**9 + int((decimals or "").ljust(9, "0"))

    if abs(nanoseconds) >= 2**63:
        msg = f"created_at {created_at!r} is too far from 1970 for 64-bit nanoseconds"
        raise ValueError(msg)
    return nanoseconds


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    mode = _value(connection, "PRAGMA journal_mode = WAL")
    if mode not in ("wal", "memory"):
        msg = f"its file system does not allow a write-ahead log (journal mode {mode!r})"
        raise Refused(msg)
    _open_log(connection)


def set_synchronous(connection: sqlite3.Connection, synchronous: str) -> None:
    """Set when this connection syncs its writes to disk."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")


def only_read(connection: sqlite3.Connection) -> None:
    """Make this connection read-only."""
    connection.execute("PRAGMA query_only = on")
    _open_log(connection)


def _open_log(connection: sqlite3.Connection) -> None:
    """Open the write-ahead log now; SQLite opens it at a connection's first read."""
    _value(connection, "PRAGMA user_version")


def _value(connection: sqlite3.Connection, sql: str) -> Any:
    (value,) = connection.execute(sql).fetchone()
    return value


def _tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the columns of each table and view, except SQLite's own."""
    rows = connection.execute(
        "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c"
        " WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        " ORDER BY t.name, c.cid"
    )
    tables: dict[str, list[str]] = {}
    for table, column in rows:
        tables.setdefault(table, []).append(column)
    return tables
