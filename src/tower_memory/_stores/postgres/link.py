"""The connection of one worker thread: it opens when it is used, and again after it was lost.

1. A link connects when it is first used, and prepares the schema.
2. Each wait for the server ends at the deadline of the operation, but lasts at least `_LEAST_WAIT`
   if the server does not answer. The connection is then lost, because its state is unknown.
3. The user of a link drops a lost connection (`faults.is_lost`), and the next use opens a new one.
4. The errors of a connection have the text of `faults.text_of_fault`, also where they are chained
   to another error: the server's own text may show stored values.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, Final, TypeAlias, TypeVar, final

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from tower_memory._stores.clock import Deadline
from tower_memory._stores.postgres.faults import text_of_fault

Row: TypeAlias = tuple[Any, ...]
T = TypeVar("T")

LOCK_TIMEOUT: Final = 50
"""Milliseconds that a statement waits for the lock of another writer before it is tried again."""

_LEAST_WAIT: Final = 0.4
"""Minimum number of seconds of a wait for the server, even if the deadline has passed."""

_LONGEST_CONNECT: Final = 30.0
"""Maximum number of seconds of an attempt to connect."""

_NAME: Final = "tower-memory"
"""The name of our connections in the server's list of sessions, unless the user gives another."""


@final
class Connection(psycopg.Connection[Row]):
    """A connection whose waits end at a deadline (rule 2)."""

    deadline: Deadline

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """Wait for the server, at most until the deadline."""
        seconds = max(self.deadline.left(), _LEAST_WAIT)
        try:
            return super().wait(_until(gen, Deadline(seconds)), *args, **kwargs)
        except psycopg.Error as error:
            error.args = (text_of_fault(error),)
            raise


def _until(gen: PQGen[T], deadline: Deadline) -> PQGen[T]:
    """Do the steps of *gen*, which psycopg resumes at least ten times a second while it waits.

    Raises:
        psycopg.OperationalError: The server did not answer before the *deadline*.
    """
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and deadline.has_passed():
                break
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result

    msg = "the server did not answer in time"
    raise psycopg.OperationalError(msg)


@final
class Link:
    """The connection of one worker thread.

    Args:
        conninfo: The connection string of the server.
        schema: The Postgres schema that has the tables.
        prepare: Function that recognises or creates the tables, called with each new connection.
    """

    def __init__(
        self, conninfo: str, schema: str, prepare: Callable[[Connection, str], object]
    ) -> None:
        self._conninfo = conninfo
        self._host_count = _count_hosts(conninfo)
        self._schema = schema
        self._prepare = prepare
        self._connection: Connection | None = None

    def connection(self, deadline: Deadline) -> Connection:
        """Return the connection, whose waits end at *deadline*; open it if it is not open.

        Raises:
            psycopg.Error: The server cannot be reached, or refuses.
            Refused: The schema is refused.
        """
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._open(deadline)
        connection.deadline = deadline
        return connection

    @property
    def is_open(self) -> bool:
        """True if there is a connection that has met no fault."""
        return self._connection is not None and not self._connection.closed

    def drop(self) -> None:
        """Close the connection; the next use opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self, deadline: Deadline) -> Connection:
        """Open a connection and prepare the schema until *deadline*."""
        self.drop()
        # Each host has its share of the time, so the last one is tried, too.
        seconds = ceil(min(deadline.left() / self._host_count, _LONGEST_CONNECT))
        connection = Connection.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=seconds or 1,
            fallback_application_name=_NAME,
            client_encoding="utf8",  # whatever the encodings of the server and the environment are
        )
        connection.deadline = deadline

        try:
            settings = SQL("SET search_path = {}; SET lock_timeout = {}")
            connection.execute(settings.format(Identifier(self._schema), LOCK_TIMEOUT))
            self._prepare(connection, self._schema)
        except BaseException:
            connection.close()
            raise

        self._connection = connection
        return connection


def _count_hosts(conninfo: str) -> int:
    """Return the number of hosts that a connection string names, at least 1."""
    parameters = conninfo_to_dict(conninfo)
    hosts = parameters.get("host") or parameters.get("hostaddr") or ""
    return str(hosts).count(",") + 1
