"""An open database file, which all stores on this file in one event loop share.

1. An open file has two workers, for any number of sessions and stores. One writes and the other
   reads, so loads do not wait for commits. An in-memory database has a single worker.
2. Stores that open the same file in the same event loop share its database. The last store closes
   it.
3. After a fault that is not in `_TRANSIENT`, the connections are not used again, as they could
   keep it after the file is restored. The next operation opens new ones, but never a new file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, TypeVar, final

from anyio import Event, Lock, WouldBlock, fail_after, sleep
from anyio.lowlevel import RunVar, current_token

from tower_memory._codec import ItemCodec
from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._portal import open_portal
from tower_memory._stores.sqlite import schema, writes
from tower_memory._stores.sqlite.file_guard import Connection, holds_something
from tower_memory._stores.sqlite.reads import HotSessions, Load, load
from tower_memory._stores.sqlite.worker_thread import Worker, start_worker
from tower_memory._stores.sqlite.writes import Caller, Write, WriteQueue

Synchronous: TypeAlias = Literal["extra", "full", "normal", "off"]
T = TypeVar("T")

_READ_TIMEOUT = 5.0
"""Maximum seconds that a read waits for a lock: only while SQLite recovers from a crash."""

_RETRY_DELAY = 0.02
"""Seconds before an operation on a locked file is tried again."""

_FAULTS = (schema.Refused, OSError, sqlite3.Error, ValueError)
"""The errors of a file; aiosqlite raises ValueError if a connection is closed."""

_TRANSIENT = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CONSTRAINT,
)
"""The SQLite error codes after which a connection stays usable."""


@final
class DatabaseFile(NamedTuple):
    """The identity of a database: a path or, in memory, a *private* object."""

    path: str
    private: object = None


@final
@dataclass(slots=True)
class _Workers:
    """The workers that write to and read from one file, and the reader's session cache."""

    writer: Worker
    reader: Worker  # the writer itself for a database in memory
    opened: AsyncExitStack  # ends both workers
    hot: HotSessions = field(default_factory=HotSessions)
    needs_reopen: bool = False  # True after a fault (rule 3)
    ended: bool = False

    async def end(self) -> None:
        await self.opened.aclose()
        self.ended = True


@final
class Database:
    """A file that is open in one event loop of one process; `acquire_database` returns it."""

    def __init__(
        self, shared: _Shared, synchronous: Synchronous, hot_bytes: int, workers: _Workers
    ) -> None:
        self.file = shared.file
        self.synchronous: Synchronous = synchronous
        self._hot_bytes = hot_bytes
        self._shared = shared
        self._workers = workers
        self._queue = WriteQueue()
        self._process = os.getpid()
        self._loop = current_token()
        self._in_progress = 0
        self._idle: Event | None = None  # set when no operation is in progress

    def lower_hot_bytes(self, hot_bytes: int) -> None:
        """Lower the session cache's limit to *hot_bytes*. It never rises while the file is open."""
        self._hot_bytes = min(self._hot_bytes, hot_bytes)

    def check(self) -> None:
        """Raise `RuntimeError` unless this process and event loop opened the file."""
        if self._process != os.getpid():
            msg = "was opened in the parent process; fork before it is opened, or spawn the child"
        elif self._loop != current_token():
            msg = "is open in another event loop; close it there, or make a store of your own here"
        else:
            return

        msg = f"the store on {self.file.path} {msg}"
        raise RuntimeError(msg)

    async def load(
        self, session_id: str, limit: int | None, codec: ItemCodec[Item]
    ) -> History[Item]:
        """Load the newest *limit* items of a session; None loads all."""
        wanted = Load(session_id, limit, codec, Caller(_READ_TIMEOUT), self._hot_bytes)

        def run_on(workers: _Workers) -> Awaitable[History[Item]]:
            return workers.reader.run(load, workers.hot, wanted)

        return await self._work(wanted.caller, session_id, run_on)

    async def write(
        self, session_id: str, operation: Callable[[sqlite3.Connection], T], patience: float
    ) -> T:
        """Commit *operation* and return its result.

        It raises `SessionError` if another process locks the file for over *patience* seconds.
        """
        write = Write(operation, patience)
        self._queue.append(write)

        def run_on(workers: _Workers) -> Awaitable[T]:
            return workers.writer.run(writes.settle, self._queue, write)

        try:
            return await self._work(write.caller, session_id, run_on)
        except BaseException:
            with suppress(ValueError, IndexError):  # the thread has taken it already
                self._queue.remove(write)
            raise

    async def _work(
        self, caller: Caller, session_id: str, run_on: Callable[[_Workers], Awaitable[T]]
    ) -> T:
        """Run an operation on the workers and return its result; retry while the file is locked.

        Raises:
            SessionError: The operation failed, or the file stayed locked.
        """
        self._in_progress += 1
        try:
            while True:
                workers = await self._usable_workers(caller)
                try:
                    return await run_on(workers)
                except writes.Locked:
                    await sleep(_RETRY_DELAY)
                except _FAULTS as error:
                    if self._must_reopen(error):
                        workers.needs_reopen = True
                    raise
        except _FAULTS as error:
            msg = f"{self.file.path}: {_reason(error)}"
            raise SessionError(msg, session_id=session_id) from error
        finally:
            caller.gone = True  # the thread skips the operation if it is still queued
            self._in_progress -= 1
            if self._idle and not self._in_progress:
                self._idle.set()

    def _must_reopen(self, error: Exception) -> bool:
        """Return True if *error* may have left the connection unusable."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return self.file.private is None and code not in _TRANSIENT

    async def _usable_workers(self, caller: Caller) -> _Workers:
        """Return the workers; open new workers first if a fault requires it (rule 3)."""
        if not self._workers.needs_reopen:
            return self._workers

        async with self._shared.exclusively(caller):
            if self._workers.needs_reopen:
                if not self._workers.ended:
                    await self._workers.writer.run(Connection.detach)
                    await self._workers.end()
                self._workers = await _open(self.file, self.synchronous, caller, reopening=True)
            return self._workers

    async def release(self) -> None:
        """End one store's use. The last store closes the file after the operations in progress."""
        with fail_after(None, shield=True):
            await self._shared.leave()

    async def close(self) -> None:
        """Wait for the operations in progress, then end the workers."""
        try:
            while self._in_progress:
                self._idle = Event()
                await self._idle.wait()
        finally:
            await self._workers.end()


@final
class _Shared:
    """A file in this event loop, and the number of stores that use it or are opening it."""

    def __init__(self, file: DatabaseFile) -> None:
        self.opening = Lock()
        self.database: Database | None = None  # None until the file is open
        self.users = 0
        self.file = file

    @asynccontextmanager
    async def exclusively(self, caller: Caller) -> AsyncGenerator[None]:
        """Let one task at a time open the file; refuse if *caller*'s deadline passes before."""
        try:
            self.opening.acquire_nowait()  # works with a timeout of 0, too
        except WouldBlock:
            try:
                with fail_after(caller.left()):
                    await self.opening.acquire()
            except TimeoutError:
                msg = "others are still opening it, as it is locked"
                raise schema.Refused(msg) from None
        try:
            yield
        finally:
            self.opening.release()

    async def leave(self) -> None:
        """Remove one user; close the file if it was the last."""
        self.users -= 1
        if self.users == 0:
            del _open_in_this_loop()[self.file]  # the next store opens the file again
            if self.database is not None:
                await self.database.close()


_open_files: RunVar[tuple[int, dict[DatabaseFile, _Shared]]] = RunVar("tower_memory_open_files")


def _open_in_this_loop() -> dict[DatabaseFile, _Shared]:
    """Return the files open in this event loop: in a forked child, none of the parent's."""
    process, files = _open_files.get((0, {}))
    if process != os.getpid():
        files = {}
        _open_files.set((os.getpid(), files))
    return files


async def acquire_database(
    file: DatabaseFile, synchronous: Synchronous, hot_bytes: int, caller: Caller
) -> Database:
    """Open *file*, or share it if it is open in this event loop; `Database.release` ends the use.

    Raises:
        SessionError: The file cannot be opened before the deadline of *caller*, is not a
            tower-memory file, or is open with another value of *synchronous*.
    """
    shared = _open_in_this_loop().setdefault(file, _Shared(file))
    shared.users += 1

    try:
        async with shared.exclusively(caller):
            database = shared.database or Database(
                shared, synchronous, hot_bytes, await _open(file, synchronous, caller)
            )
            shared.database = database
        _check_synchronous(database, synchronous)
        database.lower_hot_bytes(hot_bytes)
    except BaseException as error:
        with fail_after(None, shield=True):
            await shared.leave()
        if isinstance(error, _FAULTS):
            msg = f"cannot open {file.path}: {_reason(error)}"
            raise SessionError(msg) from error
        raise

    return database


def _check_synchronous(database: Database, wanted: Synchronous) -> None:
    if database.synchronous != wanted:
        path, found = database.file.path, database.synchronous
        msg = f"{path} is open here with synchronous={found!r}, not {wanted!r}; use the same"
        raise SessionError(msg)


async def _open(
    file: DatabaseFile, synchronous: Synchronous, caller: Caller, *, reopening: bool = False
) -> _Workers:
    """Open both connections to *file*; if *reopening*, refuse a missing file (rule 3)."""
    if reopening and not holds_something(file.path):
        msg = "it was deleted or emptied while it was open; put it back, or close the store first"
        raise schema.Refused(msg)

    async with AsyncExitStack() as opened:
        cross = open_portal(opened)
        writer = await start_worker(
            cross, file.path, writes.LOCK_SLICE, opened, create=not reopening
        )
        await _prepare(writer, caller)
        await writer.run(schema.set_synchronous, synchronous)

        reader = writer  # an in-memory database belongs to its connection
        if file.private is None:
            reader = await start_worker(cross, file.path, _READ_TIMEOUT, opened, create=False)
            await reader.run(schema.only_read)

        return _Workers(writer, reader, opened.pop_all())


async def _prepare(writer: Worker, caller: Caller) -> None:
    try:
        await writer.run(schema.prepare, caller.waits)
    except BaseException:
        caller.gone = True  # so that the thread stops waiting
        raise


def _reason(error: BaseException) -> object:
    """Return the system's text of an `OSError`, otherwise the error."""
    return getattr(error, "strerror", None) or error
