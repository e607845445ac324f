"""Using a database on the thread of the caller: for the command, whose work may take long.

An interrupt ends the transaction in progress, which is then rolled back.

1. A snapshot shows all sessions as they were at one moment, although other connections commit
   meanwhile. An engine that distributes the sessions may promise this for each session only.
2. A write is one transaction. After a passing fault, it is made again (`Write`).
3. The server has `PATIENCE` seconds for each answer, so a server that never answers is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, TypeVar

import psycopg

from tower_memory._stores.clock import Deadline
from tower_memory._stores.jobs import RetryLater
from tower_memory._stores.postgres import faults, schema
from tower_memory._stores.postgres.database import Address
from tower_memory._stores.postgres.group_commit import Write
from tower_memory._stores.postgres.link import Connection, Link

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds that the server has for an answer, and that a write waits for other writers."""

_RETRY_DELAY: Final = 0.02
"""Seconds before a write is made again after a fault."""

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@contextmanager
def connected(address: Address, *, create: bool) -> Generator[Link]:
    """Yield a link to the database; create its tables only if *create* is True.

    Raises:
        SessionError: The server cannot be reached or fails, or the tables are missing or refused.
    """
    link = Link(*address, schema.prepare if create else schema.check_prepared)
    try:
        link.connection(Deadline(PATIENCE))
        yield link
    except psycopg.Error as error:
        raise address.error(faults.text_of_fault(error)) from error
    except schema.Refused as error:
        raise address.error(str(error)) from error
    finally:
        link.drop()


@contextmanager
def snapshot(link: Link) -> Generator[Connection]:
    """Yield a connection that reads one snapshot (rule 1)."""
    connection = link.connection(Deadline(PATIENCE))
    connection.execute(_SNAPSHOT)
    yield connection  # `connected` drops the link, which ends the transaction


def commit(link: Link, session_id: str, operation: Callable[[Connection], T]) -> T:
    """Change a session in a transaction, and return the result of *operation* (rule 2)."""
    write = Write(operation, session_id, Deadline(PATIENCE), may_repeat=True)
    while True:
        try:
            return write(link)
        except RetryLater:
            time.sleep(_RETRY_DELAY)


def begin_answer(connection: Connection) -> None:
    """Give the server the time of rule 3 for its next answer."""
    connection.deadline = Deadline(PATIENCE)
