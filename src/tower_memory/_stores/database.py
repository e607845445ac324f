"""One open file in one event loop: its two connections, their threads, and the way to them.

1. One connection writes, another reads, so that loads do not wait behind commits. Each has a
   thread of its own, whatever the number of sessions and of stores on the file.
2. aiosqlite speaks asyncio. On trio the same calls run in an asyncio loop on one more thread.
3. Whoever opens the same file in the same event loop shares what is open; the last closes it.
4. What is left open keeps no process alive.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Literal, TypeAlias, TypeVar, final

import aiosqlite
from anyio import Lock, fail_after
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import EventLoopToken, RunVar, current_token

from tower_memory._errors import SessionError
from tower_memory._stores import operations, schema
from tower_memory._stores.connection import Connection
from tower_memory._stores.operations import Caller, PendingTurn, TurnQueue

Synchronous: TypeAlias = Literal["extra", "full", "normal", "off"]
Cross: TypeAlias = Callable[..., Awaitable[Any]]
T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """Which file to open, and how. ``private`` tells in-memory databases from each other."""

    path: str
    busy_timeout: float
    synchronous: Synchronous
    private: object = None


@final
class Database:
    """An open `DatabaseFile`; to be had from `lease`."""

    __slots__ = ("_cross", "_file", "_opened", "_queue", "_reader", "_writer")

    def __init__(
        self,
        file: DatabaseFile,
        cross: Cross,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
        opened: AsyncExitStack,
    ) -> None:
        self._file = file
        self._cross = cross
        self._writer = writer
        self._reader = reader
        self._opened = opened
        self._queue: TurnQueue = deque()

    @classmethod
    async def open(cls, file: DatabaseFile) -> Database:
        """Open *file* and make it ours, or raise and leave nothing open."""
        try:
            async with AsyncExitStack() as opened:
                cross = _crossing(opened)
                writer = await _connect(cross, file.path, operations.LOCK_SLICE, opened)
                await _run(cross, writer, schema.prepare, file.busy_timeout)
                await _run(cross, writer, schema.pragma, f"synchronous = {file.synchronous}")
                reader = writer  # an in-memory database belongs to its connection
                if file.private is None:
                    reader = await _connect(cross, file.path, file.busy_timeout, opened)
                    await _run(cross, reader, schema.pragma, "query_only = on")
                return cls(file, cross, writer, reader, opened.pop_all())
        except schema.Refused as refused:
            reason: object = refused
            cause: Exception = refused
        except OSError as error:
            reason, cause = error.strerror, error
        except sqlite3.Error as error:
            reason, cause = error, error
        msg = f"cannot open {file.path}: {reason}"
        raise SessionError(msg) from cause

    async def close(self) -> None:
        """Close the file, after whatever was asked of it before."""
        await self._opened.aclose()

    async def read(self, session_id: str, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation* on the connection that reads."""
        return await self._work(self._reader, Caller(), session_id, operation, *arguments)

    async def write(self, session_id: str, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation* on the connection that writes."""
        return await self._work(self._writer, Caller(), session_id, operation, *arguments)

    async def commit(self, pending: PendingTurn) -> int:
        """Queue *pending* and have it settled."""
        self._queue.append(pending)
        return await self._work(
            self._writer,
            pending.caller,
            pending.turn.session_id,
            operations.settle,
            self._queue,
            pending,
        )

    async def _work(
        self,
        connection: aiosqlite.Connection,
        caller: Caller,
        session_id: str,
        operation: Callable[..., T],
        *arguments: object,
    ) -> T:
        try:
            return await _run(self._cross, connection, operation, caller, *arguments)
        except sqlite3.Error as error:
            msg = f"{operation.__name__} failed on {self._file.path}: {error}"
            raise SessionError(msg, session_id=session_id) from error
        except BaseException:
            caller.gone = True
            raise


@final
@dataclass(slots=True)
class _Shared:
    """What the leases of one file in one event loop have in common."""

    lock: Lock = field(default_factory=Lock)
    database: Database | None = None
    leases: int = 0


_open_files: RunVar[dict[DatabaseFile, _Shared]] = RunVar("tower_memory_open_files")


@final
@dataclass(frozen=True, slots=True)
class Lease:
    """The right to use an open database, in the event loop and the process that opened it."""

    database: Database
    _file: DatabaseFile
    _loop: EventLoopToken
    _process: int

    def check(self) -> None:
        """Refuse to be used from anywhere else."""
        if self._process != os.getpid():
            msg = "was opened in the parent process; make a store of your own in a forked child"
        elif self._loop != current_token():
            msg = "is open in another event loop; close it there, or make a store of your own here"
        else:
            return
        msg = f"the store on {self._file.path} {msg}"
        raise RuntimeError(msg)

    async def release(self) -> None:
        """Give it back. The last one closes the file."""
        with fail_after(None, shield=True):
            await _give_back(self._file)


async def lease(file: DatabaseFile) -> Lease:
    """Open *file*, or share it with those who have it open in this event loop.

    Raises:
        SessionError: It cannot be opened, or is not ours.
    """
    files = _open_files.get(None)
    if files is None:
        files = {}
        _open_files.set(files)
    shared = files.setdefault(file, _Shared())
    shared.leases += 1
    try:
        # Shielded, as half an opening would leave a thread behind.
        with fail_after(None, shield=True):
            async with shared.lock:
                database = shared.database or await Database.open(file)
                shared.database = database
    except BaseException:
        await _give_back(file)
        raise
    return Lease(database, file, current_token(), os.getpid())


async def _give_back(file: DatabaseFile) -> None:
    files = _open_files.get()
    shared = files[file]
    shared.leases -= 1
    if shared.leases == 0:
        del files[file]  # whoever comes now opens anew
        if shared.database is not None:
            await shared.database.close()


def _crossing(opened: AsyncExitStack) -> Cross:
    """The way from this event loop to an asyncio loop: none to go on asyncio, else a portal."""
    if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
        return _stay
    portal_open = ExitStack()
    portal = portal_open.enter_context(start_blocking_portal("asyncio"))
    # A portal left to the garbage collector at exit waits for a thread that is no more.
    atexit.register(portal_open.close)
    opened.callback(portal_open.close)
    opened.callback(atexit.unregister, portal_open.close)
    return portal.call_async


async def _stay(function: Callable[..., Awaitable[T]], *arguments: object) -> T:
    return await function(*arguments)


async def _connect(
    cross: Cross, path: str, busy_timeout: float, opened: AsyncExitStack
) -> aiosqlite.Connection:
    made: list[aiosqlite.Connection] = []
    failures: list[Exception] = []

    def factory(path: str, **settings: Any) -> sqlite3.Connection:
        # aiosqlite does not wait for its thread when this raises, so it never does.
        try:
            return Connection(path, **settings)
        except (OSError, sqlite3.Error) as error:
            failures.append(error)
            return sqlite3.Connection(":memory:")

    def make() -> None:
        made.append(
            aiosqlite.connect(path, timeout=busy_timeout, isolation_level=None, factory=factory)
        )

    # A thread is a daemon if the one that made it is; aiosqlite makes one that is not, and a
    # connection left open would keep the process from exiting.
    maker = Thread(target=make, daemon=True)
    maker.start()
    maker.join()
    (connection,) = made
    await cross(_start, connection)
    opened.push_async_callback(cross, connection.close)
    for failure in failures:
        raise failure
    return connection


async def _start(connection: aiosqlite.Connection) -> None:
    await connection


async def _run(
    cross: Cross,
    connection: aiosqlite.Connection,
    operation: Callable[..., T],
    *arguments: object,
) -> T:
    """Run *operation*, which takes the connection first, whole on the connection's thread."""
    result: T = await cross(connection.execute_fetchall, operation, arguments)
    return result
