"""The file: whose it is, and how it becomes ours.

1. A file is ours by its ``application_id``; its ``user_version`` says which schema it has.
2. An empty file is made ours, and so is one that tower-llm wrote: its rows are copied, its own
   table stays as it was. Anything else is refused and left untouched.
3. Whatever is created or taken over is one transaction: of several processes that open a new
   file at once, one makes it and the others find it made.

Rows are only ever added, taken off the end, or cleared, and ids are never used again
(AUTOINCREMENT). So a session's last id tells its whole content: it is the revision.
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

APPLICATION_ID = 0x746D656D  # "tmem"
VERSION = 1

_SCHEMA = (
    """
    CREATE TABLE memory_session (
        id INTEGER PRIMARY KEY,
        session_id TEXT NOT NULL UNIQUE
    )
    """,
    # created_at: nanoseconds since 1970, UTC. item: JSON. turn_id: on a turn's first row; the 16
    # bytes that a default one spells in hexadecimal, or any other as its text.
    """
    CREATE TABLE memory_item (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        turn_id,
        item TEXT NOT NULL
    )
    """,
    "CREATE INDEX memory_item_session ON memory_item (session)",
    """
    CREATE UNIQUE INDEX memory_item_turn ON memory_item (session, turn_id)
    WHERE turn_id IS NOT NULL
    """,
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

_TIMESTAMP = re.compile(r"(\S+:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TOWER_LLM = ["id", "session_id", "item_type", "item_data", "created_at", "sequence_num"]

T = TypeVar("T")


class Refused(Exception):
    """Raised when the file cannot become ours; says why."""


def is_busy(error: sqlite3.Error) -> bool:
    """Whether *error* is another's lock, which passes."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(connection: sqlite3.Connection, keep_waiting: Callable[[], bool]) -> None:
    """Make the open file ours where it may be; wait for whoever has it locked while told to.

    Raises:
        Refused: The file is somebody else's, or a newer version's.
        CorruptSessionError: A row that tower-llm wrote cannot be read.
    """
    if not _patiently(connection, _is_ours, keep_waiting):
        _patiently(connection, _make_ours, keep_waiting)
    _patiently(connection, _use_write_ahead_log, keep_waiting)


def _patiently(
    connection: sqlite3.Connection,
    step: Callable[[sqlite3.Connection], T],
    keep_waiting: Callable[[], bool],
) -> T:
    """Do *step*, again while the file is busy.

    SQLite's own busy timeout does not cover a change of journal mode, nor a read that meets the
    recovery of a crashed process.
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
    if not _recognise(connection):  # another process may have been faster
        tower_llm = bool(_tables(connection))
        for statement in _SCHEMA:
            connection.execute(statement)
        if tower_llm:
            _take_over(connection)
        connection.execute("COMMIT")


def _recognise(connection: sqlite3.Connection) -> bool:
    """True for a file that is ours, False for one that may become ours; others are refused."""
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
    """Copy the rows of tower-llm's table, items verbatim."""
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
    """The time that an RFC 3339 timestamp of up to nine decimals names, since 1970."""
    match = _TIMESTAMP.fullmatch(created_at)
    if match is None:
        msg = f"created_at {created_at!r} is no RFC 3339 timestamp"
        raise ValueError(msg)
    second, decimals, offset = match.groups()
    seconds = (datetime.fromisoformat(second + offset) - _EPOCH) // timedelta(seconds=1)
    nanoseconds = seconds * 10**9 + int((decimals or "").ljust(9, "0"))
    if abs(nanoseconds) >= 2**63:
        msg = f"created_at {created_at!r} is too far from now"
        raise ValueError(msg)
    return nanoseconds


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    mode = _value(connection, "PRAGMA journal_mode = WAL")
    if mode not in ("wal", "memory"):
        msg = f"its file system does not allow a write-ahead log (journal mode {mode!r})"
        raise Refused(msg)
    _open_log(connection)


def set_synchronous(connection: sqlite3.Connection, synchronous: str) -> None:
    """Say when this connection syncs."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")


def only_read(connection: sqlite3.Connection) -> None:
    """Let this connection write nothing."""
    connection.execute("PRAGMA query_only = on")
    _open_log(connection)


def _open_log(connection: sqlite3.Connection) -> None:
    """Have the connection open its write-ahead log now, which SQLite does for the first read."""
    _value(connection, "PRAGMA user_version")


def _value(connection: sqlite3.Connection, sql: str) -> Any:
    (value,) = connection.execute(sql).fetchone()
    return value


def _tables(connection: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table and view that is not SQLite's own."""
    rows = connection.execute(
        "SELECT t.name, c.name FROM sqlite_master t, pragma_table_info(t.name) c"
        " WHERE t.type IN ('table', 'view') AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        " ORDER BY t.name, c.cid"
    )
    tables: dict[str, list[str]] = {}
    for table, column in rows:
        tables.setdefault(table, []).append(column)
    return tables
