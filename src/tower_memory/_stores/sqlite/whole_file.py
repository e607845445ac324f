"""Reading and writing a whole file in one transaction, on the thread of the caller.

The command uses this module to export, import and check files, which may take long. The take-over
of a file of openai-agents uses it, too. An interrupt ends the transaction, and then nothing is
written.

1. A reader sees the file as it was when it began. Later commits of others are kept out, so the log
   of the file grows until the reader ends.
2. A writer commits everything or nothing. Other processes wait for it as for any write.
3. The connection is the caller's own. A store on the same file notices its commit like that of
   another process.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import partial
from typing import Final

from tower_memory._errors import SessionError
from tower_memory._stores.clock import Deadline
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.schema import (
    Refused,
    is_of_openai_agents,
    make_read_only,
    prepare,
    set_synchronous,
)

PATIENCE: Final = 5.0
"""Maximum seconds to wait while another process has locked the file."""


@contextmanager
def read_whole(path: str) -> Generator[sqlite3.Connection]:
    """Yield a connection that reads the file *path* as it is now (rule 1).

    A file of an older schema is migrated first. A missing file is not created.

    Raises:
        SessionError: The file cannot be opened or read.
    """
    with _open(path, create=False) as connection:
        make_read_only(connection)
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM memory_tombstone").fetchone()  # begins to read
        yield connection


@contextmanager
def write_whole(path: str) -> Generator[sqlite3.Connection]:
    """Yield a connection in a transaction, which is committed at the end of the block (rule 2).

    A missing file is created.

    Raises:
        SessionError: The file cannot be opened or written.
    """
    with _open(path, create=True) as connection:
        set_synchronous(connection, "full")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def take_over(path: str) -> None:
    """Take over the file *path* if openai-agents wrote it; leave every other file as it is.

    Raises:
        SessionError: The file cannot be opened, read or written.
    """
    with _connect(path, create=False) as (connection, keep_waiting):
        if connection.run(partial(is_of_openai_agents, keep_waiting=keep_waiting)):
            connection.run(partial(prepare, keep_waiting=keep_waiting, takes_over=True))


@contextmanager
def _open(path: str, *, create: bool) -> Generator[Connection]:
    """Open and prepare the file *path*."""
    with _connect(path, create=create) as (connection, keep_waiting):
        connection.run(partial(prepare, keep_waiting=keep_waiting))
        yield connection


@contextmanager
def _connect(path: str, *, create: bool) -> Generator[tuple[Connection, Callable[[], bool]]]:
    """Open the file *path*; raise its errors as `SessionError`.

    Yield the connection, and a function that returns True while the connection may wait for a lock.
    """
    path = os.path.realpath(path)
    deadline = Deadline(PATIENCE)
    try:
        connection = Connection(path, create=create, timeout=PATIENCE, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _session_error(path, error) from error

    try:
        with closing(connection):
            yield connection, lambda: not deadline.has_passed()
    except (Refused, sqlite3.Error) as error:
        raise _session_error(path, error) from error


def _session_error(path: str, error: Exception) -> SessionError:
    reason = getattr(error, "strerror", None) or error
    return SessionError(f"{path}: {reason}")
