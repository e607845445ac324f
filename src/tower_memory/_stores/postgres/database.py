"""The two threads of an open Postgres store: the writer thread and the reader thread.

1. Each thread owns one connection (`Link`). So a store has two connections for any number of
   sessions and tasks, and loads do not wait for commits.
2. The threads belong to no event loop: each caller gets its outcome in its own loop. Both are
   daemons, so a store that is never closed keeps no process alive.
3. A caller waits at most its patience and `_GRACE` for an answer, even if its operation cannot
   begin, or the server never answers. Each step of a long read gets the patience anew.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from threading import Thread
from typing import Final, NamedTuple, TypeVar, final

import psycopg
from anyio import CancelScope
from psycopg.conninfo import conninfo_to_dict

from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._portal import wait_until_done
from tower_memory._stores.clock import Patience
from tower_memory._stores.jobs import NoAnswer, RetryLater
from tower_memory._stores.postgres import faults, schema
from tower_memory._stores.postgres.appends import Append, Appended
from tower_memory._stores.postgres.group_commit import QueuedAppend, Write, run_batch
from tower_memory._stores.postgres.heads import RecentHeads
from tower_memory._stores.postgres.link import Connection, Link
from tower_memory._stores.postgres.reading import Load, Read, find_versions
from tower_memory._stores.session_cache import SessionCache
from tower_memory._stores.sql.reads import Wanted
from tower_memory._stores.worker_thread import WorkerThread

T = TypeVar("T")

_GRACE: Final = 0.75
"""Seconds that a caller waits beyond its patience, so that the threads can report a fault."""


class Address(NamedTuple):
    """The place of the tables.

    Attributes:
        conninfo: The connection string of the database.
        schema: The Postgres schema that has the tables.
    """

    conninfo: str
    schema: str

    def __repr__(self) -> str:
        return f"Address({self.name!r}, {self.schema!r})"  # the connection string has the password

    @property
    def name(self) -> str:
        """The host and the database, for errors: no password, no user."""
        parameters = conninfo_to_dict(self.conninfo)
        host = parameters.get("host") or parameters.get("hostaddr") or "localhost"
        return f"postgresql://{host}/{parameters.get('dbname') or ''}"

    def error(self, reason: str, session_id: str | None = None) -> SessionError:
        """Return the error of an operation on the database, for a *reason*."""
        return SessionError(f"{self.name}: {reason}", session_id=session_id)


@final
class Database:
    """The threads of one open store.

    Args:
        address: The place of the tables.
        patience: Seconds that each operation, or each step of it, waits for the server and for
            other writers.
        hot_bytes: Maximum size of the session cache in bytes.

    Attributes:
        cache: The session cache.
        process: Id of the process that has the threads.
        is_indexed: True once this store has added all turns to the search index.
    """

    def __init__(self, address: Address, patience: float, hot_bytes: int) -> None:
        self.cache = SessionCache(hot_bytes)
        self.process = os.getpid()
        self.is_indexed = False
        self._address = address
        self._patience = patience
        self._recent = RecentHeads()
        self._writer: WorkerThread[Link] = WorkerThread(run_batch)
        self._reader: WorkerThread[Link] = WorkerThread(before_steps=find_versions)
        self._ended = [self._start(self._writer, "writer"), self._start(self._reader, "reader")]

    async def connect(self) -> None:
        """Let both threads open their connections, within one patience.

        Raises:
            SessionError: The server cannot be reached, or refuses.
        """
        patience = Patience(self._patience, _GRACE)
        write = Write(_do_nothing, None, patience.deadline, may_repeat=True)
        await self._answer(self._writer.run(write, patience=patience), None)
        read = Read(_in_one_step(_do_nothing), patience)
        await self._answer(self._reader.run_in_steps(read, patience=patience), None)

    async def load(self, wanted: Wanted[Item]) -> History[Item]:
        """Load the *wanted* items of a session."""
        patience = Patience(self._patience, _GRACE)
        load = Load(wanted, self.cache, patience)
        running = self._reader.run_in_steps(load, patience=patience)
        return await self._answer(running, wanted.session_id)

    async def read(
        self,
        operation: Callable[[Connection], Generator[None, None, T]],
        session_id: str | None = None,
    ) -> T:
        """Run the steps of *operation* on the reader thread, between other operations.

        Errors name *session_id*; None for several sessions.
        """
        patience = Patience(self._patience, _GRACE)
        running = self._reader.run_in_steps(Read(operation, patience), patience=patience)
        return await self._answer(running, session_id)

    async def read_once(
        self, operation: Callable[[Connection], T], session_id: str | None = None
    ) -> T:
        """Run *operation* on the reader thread, in one step, and return its result."""
        return await self.read(_in_one_step(operation), session_id)

    async def append(self, append: Append, after_commit: Callable[[Appended], object]) -> Appended:
        """Append a plain turn together with other turns; see `appends`.

        The writer thread calls *after_commit* with the outcome.
        """
        patience = Patience(self._patience, _GRACE)
        queued = QueuedAppend(append, patience.deadline, self._recent, after_commit)
        running = self._writer.run(queued, patience=patience)
        return await self._answer(running, append.turn.session_id)

    async def write(
        self,
        session_id: str | None,
        operation: Callable[[Connection], T],
        *,
        may_repeat: bool,
    ) -> T:
        """Run *operation* on the writer thread, in a transaction of its own; see `Write`.

        Return its result. Errors name *session_id*; None for several sessions.
        """
        patience = Patience(self._patience, _GRACE)
        write = Write(operation, session_id, patience.deadline, may_repeat=may_repeat)
        return await self._answer(self._writer.run(write, patience=patience), session_id)

    def stop(self) -> None:
        """Let the threads end after all operations that were queued before."""
        self._writer.stop()
        self._reader.stop()

    async def wait_until_ended(self) -> None:
        """Wait until both threads have ended, even if the caller's scope is cancelled."""
        with CancelScope(shield=True):
            for ended in self._ended:
                await wait_until_done(ended)

    async def _answer(self, running: Awaitable[T], session_id: str | None) -> T:
        """Return the outcome of an operation; raise `SessionError` for a fault of the server."""
        try:
            return await running
        except psycopg.Error as error:
            raise self._address.error(faults.text_of_fault(error), session_id) from error
        except (schema.Refused, OSError) as error:
            raise self._address.error(str(error), session_id) from error
        except NoAnswer as error:
            text = f"the server gave no answer within {self._patience:g} seconds; try again"
            raise self._address.error(text, session_id) from error
        except RetryLater as error:
            text = "the store was closed before the operation could succeed"
            raise self._address.error(text, session_id) from error

    def _start(self, worker: WorkerThread[Link], name: str) -> Future[None]:
        """Start the thread of *worker*; return a future that is done once it has ended."""
        link, ended = Link(*self._address, schema.prepare), Future[None]()

        def run() -> None:
            try:
                worker.serve(link)
            finally:
                link.drop()
                ended.set_result(None)

        try:
            Thread(target=run, name=f"tower-memory {name}", daemon=True).start()
        except RuntimeError as error:  # such as too many threads
            self.stop()  # the other thread
            raise SessionError(str(error)) from error
        return ended


def _in_one_step(
    operation: Callable[[Connection], T],
) -> Callable[[Connection], Generator[None, None, T]]:
    """Return *operation* as an operation in steps, with a single step."""

    def steps(connection: Connection) -> Generator[None, None, T]:
        yield from ()
        return operation(connection)

    return steps


def _do_nothing(_connection: Connection) -> None:
    """Do nothing on the connection: the link has opened it."""
