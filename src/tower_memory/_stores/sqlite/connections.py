"""The connections of an open file, and the threads that they live on.

1. A file has two connections, for any number of sessions and stores. One writes and the other
   reads, so loads do not wait for commits. An in-memory database has a single connection.
2. Each connection runs its jobs on aiosqlite's thread, in one long call of aiosqlite's public API.
3. aiosqlite needs an asyncio loop. The keeper is a thread with such a loop: it opens the
   connections, waits while they serve, and closes them. No task of a user ever awaits aiosqlite, so
   no cancellation reaches it, and the connections depend on no event loop but the keeper's.
4. All threads are daemons: connections that are never closed keep no process alive. Threads inherit
   this from the keeper.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from threading import Thread
from typing import Any, Literal, NamedTuple, TypeAlias, final

import aiosqlite

from tower_memory._portal import wait_until_done
from tower_memory._stores.session_cache import SessionCache
from tower_memory._stores.sqlite import group_commit, schema
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.new_file import IN_MEMORY, has_content
from tower_memory._stores.worker_thread import WorkerThread

Synchronous: TypeAlias = Literal["extra", "full", "normal"]

READ_TIMEOUT = 5.0
"""Maximum seconds that a read waits for a lock; only the recovery from a crash holds one."""


@final
class DatabaseFile(NamedTuple):
    """The identity of a database: a path or, in memory, a *private* object."""

    path: str
    private: object = None

    @classmethod
    def at(cls, name: str) -> DatabaseFile:
        """Return the file at the path *name*, or a new database in memory for ``":memory:"``."""
        if name == IN_MEMORY:
            return cls(name, private=object())
        return cls(os.path.realpath(name))


@final
class Connections:
    """The connections of one file, from their opening to their closing.

    Args:
        file: The file.
        synchronous: When the writing connection syncs its writes to disk.
        keep_waiting: Called on a worker thread while the file is locked. Once it returns False, the
            opening fails.
        keep_going: Called on a worker thread during a long opening. Once it returns False, the
            opening fails.
        hot_bytes: Maximum size of the session cache in bytes.
        previous: Connections to the same file that met a fault. They are closed first, and the file
            must still exist. None creates a missing file.

    Attributes:
        writer: Worker thread of the connection that writes.
        reader: Worker thread of the connection that reads; the writer itself for an in-memory
            database, which belongs to its connection.
        cache: The session cache. It is dropped with the connections, because the next ones may be
            to another file.
        opened: Done once both connections are open, or with the error of a failed opening. An
            opening that fails leaves no connection.
        ended: Done once everything is closed, or with the error of the closing.
        needs_reopen: True after a fault: no new job may use these connections.
    """

    def __init__(
        self,
        file: DatabaseFile,
        synchronous: Synchronous,
        *,
        keep_waiting: Callable[[], bool],
        keep_going: Callable[[], bool],
        hot_bytes: int,
        previous: Connections | None,
    ) -> None:
        self.writer = WorkerThread(
            group_commit.run_batch, check=Connection.check_in_place, explain=Connection.explain
        )
        self.reader = (
            WorkerThread(check=Connection.check_in_place, explain=Connection.explain)
            if file.private is None
            else self.writer
        )
        self.cache = SessionCache(hot_bytes)

        self.opened: Future[None] = Future()
        self.ended: Future[None] = Future()
        self.needs_reopen = False

        self._file = file
        self._synchronous: Synchronous = synchronous
        self._keep_waiting = keep_waiting
        self._keep_going = keep_going
        self._previous = previous

    def open(self) -> None:
        """Begin to open the connections, on the keeper thread."""
        keeper = Thread(target=self._run_keeper, name="tower-memory keeper", daemon=True)
        try:
            keeper.start()
        except RuntimeError as error:  # such as too many threads
            self._fail(error)

    def has_failed(self) -> bool:
        """Return True if the connections could not be opened."""
        return self.opened.done() and self.opened.exception() is not None

    def stop(self) -> None:
        """Let the connections close, after all jobs that were queued before."""
        self.writer.stop()
        self.reader.stop()

    async def retire(self) -> None:
        """Close the connections after a fault, and leave nothing to a file that replaced theirs.

        Raises:
            sqlite3.Error: Another process still reads the old file. The call may be repeated.
        """
        if not self.ended.done():
            await self.writer.run(Connection.detach, needs_check=False)
            self.stop()
            await wait_until_done(self.ended)

    def _run_keeper(self) -> None:
        # Not asyncio.run: if the loop cannot be made, its coroutine would never be awaited.
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._keep())
        except BaseException as error:  # noqa: BLE001 - the futures raise it to all callers
            self._fail(error)
        else:
            self.ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """Report *error* as that of the opening or, after the opening, of the closing."""
        if isinstance(error, RuntimeError):
            refused = schema.Refused(str(error))
            refused.__cause__ = error
            error = refused

        if self.opened.done():
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)
            self.opened.set_exception(error)

    async def _keep(self) -> None:
        """Open the connections, let them serve, and close them."""
        if self._previous is not None:
            await self._previous.retire()
            if not has_content(self._file.path):
                msg = (
                    "it was deleted or emptied while it was open; put it back, or close the store "
                    "first"
                )
                raise schema.Refused(msg)

        create = self._previous is None
        self._previous = None
        async with _connected(self._file.path, group_commit.LOCK_SLICE, create=create) as writer:
            prepare = partial(
                schema.prepare, keep_waiting=self._keep_waiting, keep_going=self._keep_going
            )
            await _call(writer, prepare)
            await _call(writer, partial(schema.set_synchronous, synchronous=self._synchronous))

            if self.reader is self.writer:
                self.opened.set_result(None)
                await _serve(writer, self.writer)
                return

            async with _connected(self._file.path, READ_TIMEOUT, create=False) as reader:
                await _call(reader, schema.make_read_only)
                self.opened.set_result(None)
                await asyncio.gather(_serve(writer, self.writer), _serve(reader, self.reader))


async def _call(
    connection: aiosqlite.Connection, operation: Callable[[Connection], object]
) -> None:
    """Run *operation(connection)* on the connection's thread, if its file is in place."""
    await connection.execute_fetchall(partial(Connection.run, operation=operation))


async def _serve(connection: aiosqlite.Connection, worker: WorkerThread[Connection]) -> None:
    """Let the connection's thread run the jobs of *worker* until the worker is stopped."""
    await connection.execute_fetchall(worker.serve)


@asynccontextmanager
async def _connected(
    path: str, busy_timeout: float, *, create: bool
) -> AsyncGenerator[aiosqlite.Connection]:
    """Connect to the file at *path*, and close the connection at the end.

    Args:
        path: The file.
        busy_timeout: Seconds that a statement waits for the lock of another process.
        create: True to create a missing file; False to refuse it.

    Raises:
        OSError: The file cannot be created.
        sqlite3.Error: The file cannot be opened.
        RuntimeError: No thread can be started.
    """
    failures: list[Exception] = []

    def factory(path: str, **settings: Any) -> sqlite3.Connection:
        # Never raises: after a failure here, aiosqlite would not wait for its thread to end.
        try:
            return Connection(path, create=create, **settings)
        except (OSError, sqlite3.Error) as error:
            failures.append(error)
            return Connection(IN_MEMORY)

    connection = aiosqlite.connect(
        path, timeout=busy_timeout, isolation_level=None, factory=factory
    )
    async with connection:
        for failure in failures:
            raise failure
        yield connection
