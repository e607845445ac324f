"""One open file in one event loop, and whoever shares it there.

1. One connection writes, another reads, so that loads do not wait behind commits: two workers,
   whatever the number of sessions and of stores on the file.
2. Whoever opens the same file in the same event loop shares what is open; the last closes it.
3. A connection that met a fault is not used again, as it would remember what has long been
   mended. What comes next finds new ones; but it makes no new file where one was.
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
from tower_memory._crossing import crossing
from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._stores import operations, schema
from tower_memory._stores.connection import Connection, holds_something
from tower_memory._stores.loads import HotSessions, Load, load
from tower_memory._stores.operations import Caller, Write, WriteQueue
from tower_memory._stores.worker import Worker, start_worker

Synchronous: TypeAlias = Literal["extra", "full", "normal", "off"]
T = TypeVar("T")

_READ_PATIENCE = 5.0
"""Seconds for a read to wait where it must, for the recovery of a process that crashed."""

_ASK_AGAIN = 0.02
"""Seconds after which a locked file is tried again."""

_FAULTS = (schema.Refused, OSError, sqlite3.Error, ValueError)
"""What may go wrong with a file; ValueError is aiosqlite's, of a connection that is closed."""

_PASSING = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CONSTRAINT,
)
"""The faults that leave a connection as it was."""


@final
class DatabaseFile(NamedTuple):
    """Which file; ``private`` tells in-memory databases, which have none, from each other."""

    path: str
    private: object = None


@final
@dataclass(slots=True)
class _Workers:
    """The connections to one file, what was read through them, whether they met a fault, and
    whether they are closed.
    """

    writer: Worker
    reader: Worker
    opened: AsyncExitStack
    hot: HotSessions = field(default_factory=HotSessions)
    in_doubt: bool = False
    ended: bool = False

    async def end(self) -> None:
        await self.opened.aclose()
        self.ended = True


@final
class Database:
    """A file that is open in one event loop of one process; to be had from `share`."""

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
        self._under_way = 0
        self._idle: Event | None = None  # for who waits for that

    def keep_at_most(self, hot_bytes: int) -> None:
        """Keep no more of sessions in memory than any of those who share this allows."""
        self._hot_bytes = min(self._hot_bytes, hot_bytes)

    def check(self) -> None:
        """Refuse to be used from where it was not opened."""
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
        """Load a session on the connection that reads (`load`)."""
        wanted = Load(session_id, limit, codec, Caller(_READ_PATIENCE), self._hot_bytes)

        def on(workers: _Workers) -> Awaitable[History[Item]]:
            return workers.reader.run(load, workers.hot, wanted)

        return await self._work(wanted.caller, session_id, on)

    async def write(
        self, session_id: str, operation: Callable[[sqlite3.Connection], T], patience: float
    ) -> T:
        """Commit *operation*, if the file is free in *patience* seconds."""
        write = Write(operation, patience)
        self._queue.append(write)

        def on(workers: _Workers) -> Awaitable[T]:
            return workers.writer.run(operations.settle, self._queue, write)

        try:
            return await self._work(write.caller, session_id, on)
        except BaseException:
            with suppress(ValueError, IndexError):  # it is not there, or the thread takes it now
                self._queue.remove(write)
            raise

    async def _work(
        self, caller: Caller, session_id: str, on: Callable[[_Workers], Awaitable[T]]
    ) -> T:
        """What comes of asking the workers, again where the file is locked."""
        self._under_way += 1
        try:
            while True:
                workers = await self._sound(caller)
                try:
                    return await on(workers)
                except operations.Locked:
                    await sleep(_ASK_AGAIN)
                except _FAULTS as error:
                    if self._leaves_doubt(error):
                        workers.in_doubt = True
                    raise
        except _FAULTS as error:
            msg = f"{self.file.path}: {_reason(error)}"
            raise SessionError(msg, session_id=session_id) from error
        finally:
            caller.gone = True  # what is still queued is not done once its caller was told
            self._under_way -= 1
            if self._idle and not self._under_way:
                self._idle.set()

    def _leaves_doubt(self, error: Exception) -> bool:
        """Whether what failed with *error* may fail for ever on this connection."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return self.file.private is None and code not in _PASSING

    async def _sound(self, caller: Caller) -> _Workers:
        """The workers; new ones in place of those in doubt."""
        if not self._workers.in_doubt:
            return self._workers
        async with self._shared.alone(caller):
            if self._workers.in_doubt:
                if not self._workers.ended:
                    await self._workers.writer.run(Connection.let_go)
                    await self._workers.end()
                self._workers = await _open(self.file, self.synchronous, caller, again=True)
            return self._workers

    async def give_back(self) -> None:
        """End one share. The last one closes the file, after what was asked of it before."""
        with fail_after(None, shield=True):
            await self._shared.leave()

    async def close(self) -> None:
        """End the workers, after what was asked of them before."""
        try:
            while self._under_way:
                self._idle = Event()
                await self._idle.wait()
        finally:
            await self._workers.end()


@final
class _Shared:
    """Who uses a file in this event loop, from before it is open."""

    def __init__(self, file: DatabaseFile) -> None:
        self.opening = Lock()
        self.database: Database | None = None
        self.users = 0
        self.file = file

    @asynccontextmanager
    async def alone(self, caller: Caller) -> AsyncGenerator[None]:
        """Open the file, which one does at a time; *caller* waits for it as for a lock."""
        try:
            self.opening.acquire_nowait()  # also when there is no time to wait
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
        """Be used by one less; the last one closes the file."""
        self.users -= 1
        if self.users == 0:
            del _open_here()[self.file]  # whoever comes now opens anew
            if self.database is not None:
                await self.database.close()


_open_files: RunVar[tuple[int, dict[DatabaseFile, _Shared]]] = RunVar("tower_memory_open_files")


def _open_here() -> dict[DatabaseFile, _Shared]:
    """What is open in this event loop. A forked child has its parent's loop, but not its files."""
    process, files = _open_files.get((0, {}))
    if process != os.getpid():
        files = {}
        _open_files.set((os.getpid(), files))
    return files


async def share(
    file: DatabaseFile, synchronous: Synchronous, hot_bytes: int, caller: Caller
) -> Database:
    """Open *file*, or share it with those who have it open in this event loop.

    Raises:
        SessionError: It cannot be opened while *caller* waits, is not ours, or is open with
            another value of *synchronous*.
    """
    shared = _open_here().setdefault(file, _Shared(file))
    shared.users += 1
    try:
        async with shared.alone(caller):
            database = shared.database or Database(
                shared, synchronous, hot_bytes, await _open(file, synchronous, caller)
            )
            shared.database = database
        _check_synchronous(database, synchronous)
        database.keep_at_most(hot_bytes)
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
    file: DatabaseFile, synchronous: Synchronous, caller: Caller, *, again: bool = False
) -> _Workers:
    if again and not holds_something(file.path):
        msg = "it was deleted or emptied while it was open; put it back, or close the store first"
        raise schema.Refused(msg)
    async with AsyncExitStack() as opened:
        cross = crossing(opened)
        writer = await start_worker(
            cross, file.path, operations.LOCK_SLICE, opened, create=not again
        )
        await _prepare(writer, caller)
        await writer.run(schema.set_synchronous, synchronous)
        reader = writer  # an in-memory database belongs to its connection
        if file.private is None:
            reader = await start_worker(cross, file.path, _READ_PATIENCE, opened, create=False)
            await reader.run(schema.only_read)
        return _Workers(writer, reader, opened.pop_all())


async def _prepare(writer: Worker, caller: Caller) -> None:
    try:
        await writer.run(schema.prepare, caller.waits)
    except BaseException:
        caller.gone = True  # so that the thread does not wait on
        raise


def _reason(error: BaseException) -> object:
    return getattr(error, "strerror", None) or error
