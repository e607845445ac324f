"""The preparation of a connection and of its file: a new file, ours, or one of a known program.

1. A file is ours if its ``application_id`` is ours; its ``user_version`` is the schema's version.
2. An empty file gets the tables of schema 2. So does a file that tower-llm wrote (`take_over`), a
   file of schema 1 (`migration`), and on request a file that openai-agents wrote. Every other file
   is refused and stays unchanged.
3. All of this is one transaction. If several processes open a file at the same time, one process
   prepares it, and the others wait and find it prepared. If the process is killed, the file is as
   it was before.
4. A new file has pages of 1 kB. An append then writes 9 kB to the write-ahead log instead of 25.
5. Every connection overwrites what it deletes with zeros, and keeps the log short.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, TypeVar

from tower_memory._stores.progress import Report, log_progress
from tower_memory._stores.sqlite.migration import migrate
from tower_memory._stores.sqlite.tables import INDEXES, TABLES
from tower_memory._stores.sqlite.take_over import (
    TABLES_OF_OPENAI_AGENTS,
    TABLES_OF_TOWER_LLM,
    take_over_openai_agents,
    take_over_tower_llm,
)

APPLICATION_ID: Final = 0x746D656D  # "tmem" in ASCII
VERSION: Final = 2
"""The version of the schema."""

_PAGE_SIZE: Final = 1024
"""Page size of a new file, in bytes."""

_CHECKPOINT_SIZE: Final = 4 * 2**20
"""Size in bytes of the write-ahead log from which on a commit copies it to the file."""

_LOG_SIZE: Final = 8 * 2**20
"""Size in bytes to which the log is cut after it was copied. A large commit may let it grow."""

T = TypeVar("T")


class Refused(Exception):
    """Raised when the file is refused; the message is the reason."""


_FILE_OF_OPENAI_AGENTS: Final = (
    "it is a file of openai-agents: open it with the SQLiteSession of "
    "tower_memory.integrations.openai_agents, which takes it over, or copy it to another file with "
    "the command tower-memory import"
)


class _Kind(Enum):
    """A file that is not refused."""

    NEW = auto()
    OURS = auto()
    OF_SCHEMA_1 = auto()
    OF_TOWER_LLM = auto()
    OF_OPENAI_AGENTS = auto()


def is_busy(error: sqlite3.Error) -> bool:
    """Return True if *error* comes from a lock of another connection, which may be released."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(
    connection: sqlite3.Connection,
    keep_waiting: Callable[[], bool],
    keep_going: Callable[[], bool] = lambda: True,
    report: Report | None = None,
    *,
    takes_over: bool = False,
) -> None:
    """Give the open file the schema (rule 2) and a write-ahead log.

    Args:
        connection: A connection in autocommit mode.
        keep_waiting: While the file is locked, the preparation is tried again as long as this
            function returns True.
        keep_going: A migration stops and is rolled back if this function returns False. A migration
            may take longer than its caller would wait for a lock.
        report: Reports the progress of a migration; None writes it to the log.
        takes_over: True takes over a file that openai-agents wrote. False refuses it, since
            programs that still use openai-agents' class would fail.

    Raises:
        Refused: The file is another program's, has a newer schema, or cannot have a log.
        CorruptSessionError: A row that tower-llm or openai-agents wrote cannot be read.
        Stopped: *keep_going* returned False.
        sqlite3.Error: The file is not a database, or stayed locked.
    """
    connection.execute("PRAGMA secure_delete = ON")  # also for the old tables of a migration

    def make_ours(connection: sqlite3.Connection) -> None:
        _make_ours(
            connection,
            keep_going,
            report or log_progress(_file_name(connection), "migrating to schema 2"),
            takes_over=takes_over,
        )

    kind = _retry_while_locked(connection, _kind_of_file, keep_waiting)
    if kind is not _Kind.OURS:
        _retry_while_locked(connection, make_ours, keep_waiting)
    _retry_while_locked(connection, _use_write_ahead_log, keep_waiting)


def _retry_while_locked(
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


def _kind_of_file(connection: sqlite3.Connection) -> _Kind:
    connection.execute("BEGIN")
    return _recognise(connection)


def is_of_openai_agents(connection: sqlite3.Connection, keep_waiting: Callable[[], bool]) -> bool:
    """Return True if openai-agents wrote the open file, and it is not taken over yet.

    Raises:
        Refused: The file is another program's, or has a newer schema.
        sqlite3.Error: The file is not a database, or stayed locked.
    """
    kind = _retry_while_locked(connection, _kind_of_file, keep_waiting)
    return kind is _Kind.OF_OPENAI_AGENTS


def _make_ours(
    connection: sqlite3.Connection,
    keep_going: Callable[[], bool],
    report: Report,
    *,
    takes_over: bool,
) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")  # has no effect on a file with pages
    connection.execute("BEGIN IMMEDIATE")
    kind = _recognise(connection)
    if kind is _Kind.OURS:  # another process has just prepared it
        return
    if kind is _Kind.OF_OPENAI_AGENTS and not takes_over:
        raise Refused(_FILE_OF_OPENAI_AGENTS)

    for statement in TABLES:
        connection.execute(statement)
    if kind is _Kind.OF_SCHEMA_1:
        migrate(connection, report, keep_going)
    elif kind is _Kind.OF_TOWER_LLM:
        take_over_tower_llm(connection)
    elif kind is _Kind.OF_OPENAI_AGENTS:
        take_over_openai_agents(connection)
    for statement in INDEXES:
        connection.execute(statement)

    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _recognise(connection: sqlite3.Connection) -> _Kind:
    """Return the kind of the file.

    Raises:
        Refused: The file is another program's, or has a newer schema.
    """
    owner = _value(connection, "PRAGMA application_id")
    version = _value(connection, "PRAGMA user_version")
    if owner == APPLICATION_ID:
        if version not in (1, VERSION):
            msg = f"its schema is version {version}, this tower-memory knows {VERSION}: upgrade it"
            raise Refused(msg)
        return _Kind.OURS if version == VERSION else _Kind.OF_SCHEMA_1

    tables = _tables(connection)
    if (owner, version) == (0, 0):
        if not tables:
            return _Kind.NEW
        if tables == TABLES_OF_TOWER_LLM:
            return _Kind.OF_TOWER_LLM
        if tables == TABLES_OF_OPENAI_AGENTS:
            return _Kind.OF_OPENAI_AGENTS

    msg = (
        f"it is another program's database (application_id {owner}, user_version {version}, "
        f"tables: {', '.join(tables) or 'none'}); choose another file"
    )
    raise Refused(msg)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    mode = _value(connection, "PRAGMA journal_mode = WAL")
    if mode not in ("wal", "memory"):
        msg = f"its file system does not allow a write-ahead log (journal mode {mode!r})"
        raise Refused(msg)
    _open_log(connection)
    _limit_log(connection)


def _limit_log(connection: sqlite3.Connection) -> None:
    """Keep the log short: the default would count pages, which have different sizes."""
    pages = _CHECKPOINT_SIZE // _value(connection, "PRAGMA page_size")
    connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")


def set_synchronous(connection: sqlite3.Connection, synchronous: str) -> None:
    """Set when this connection syncs its writes to disk."""
    connection.execute(f"PRAGMA synchronous = {synchronous}")


def make_read_only(connection: sqlite3.Connection) -> None:
    """Make this connection read-only."""
    connection.execute("PRAGMA query_only = on")
    _open_log(connection)


def _open_log(connection: sqlite3.Connection) -> None:
    """Open the write-ahead log now; SQLite opens it at a connection's first read."""
    _value(connection, "PRAGMA user_version")


def _file_name(connection: sqlite3.Connection) -> str:
    """Return the name of the connection's file; empty for a database in memory."""
    (_, _, path), *_ = connection.execute("PRAGMA database_list")
    return Path(path).name


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
