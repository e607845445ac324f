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
from anyio.lowlevel import RunVar, current_token

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
    """Which file; ``private`` tells in-memory databases, which have none, from each other."""

    path: str
    private: object = None


@final
class Database:
    """A file that is open in one event loop of one process; to be had from `share`."""

    def __init__(
        self,
        file: DatabaseFile,
        synchronous: Synchronous,
        *,
        connections: AsyncExitStack,
        cross: Cross,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
    ) -> None:
        self.synchronous = synchronous
        self.file = file
        self._connections = connections
        self._cross = cross
        self._writer = writer
        self._reader = reader
        self._queue: TurnQueue = deque()
        self._loop = current_token()
        self._process = os.getpid()

    def check(self) -> None:
        """Refuse to be used from where it was not opened."""
        if self._process != os.getpid():
            msg = "was opened in the parent process; make a store of your own in a forked child"
        elif self._loop != current_token():
            msg = "is open in another event loop; close it there, or make a store of your own here"
        else:
            return
        msg = f"the store on {self.file.path} {msg}"
        raise RuntimeError(msg)

    async def read(self, session_id: str, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation* on the connection that reads."""
        caller = Caller()
        return await self._work(self._reader, caller, session_id, operation, caller, *arguments)

    async def write(
        self, patience: float, session_id: str, operation: Callable[..., T], *arguments: object
    ) -> T:
        """Run *operation* on the connection that writes, if it is free in *patience* seconds."""
        caller = Caller(patience)
        return await self._work(self._writer, caller, session_id, operation, caller, *arguments)

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
            return await _run(self._cross, connection, operation, *arguments)
        except sqlite3.Error as error:
            msg = f"{self.file.path}: {error}"
            raise SessionError(msg, session_id=session_id) from error
        except BaseException:
            caller.gone = True
            raise

    async def give_back(self) -> None:
        """End one share. The last one closes the file, after what was asked of it before."""
        with fail_after(None, shield=True):
            await _leave(self.file)

    async def close(self) -> None:
        """Close the connections and end their threads."""
        await self._connections.aclose()


@final
@dataclass(slots=True)
class _Shared:
    """Who uses a file here, from before it is open."""

    opening: Lock = field(default_factory=Lock)
    database: Database | None = None
    users: int = 0


_open_files: RunVar[dict[tuple[DatabaseFile, int], _Shared]] = RunVar("tower_memory_open_files")


def _files_open_here() -> dict[tuple[DatabaseFile, int], _Shared]:
    """Those of this event loop; a forked child has its parent's loop and must not have these."""
    files = _open_files.get(None)
    if files is None:
        files = {}
        _open_files.set(files)
    return files


async def share(file: DatabaseFile, synchronous: Synchronous, patience: float) -> Database:
    """Open *file*, or share it with those who have it open in this event loop.

    Raises:
        SessionError: It cannot be opened in *patience* seconds, is not ours, or is open with
            another value of *synchronous*.
    """
    shared = _files_open_here().setdefault((file, os.getpid()), _Shared())
    shared.users += 1
    try:
        # Shielded, as half an opening would leave a thread behind.
        with fail_after(None, shield=True):
            async with shared.opening:
                database = shared.database or await _open(file, synchronous, patience)
                shared.database = database
        _check_synchronous(database, synchronous)
    except BaseException:
        await _leave(file)
        raise
    return database


def _check_synchronous(database: Database, wanted: Synchronous) -> None:
    if database.synchronous != wanted:
        path, found = database.file.path, database.synchronous
        msg = f"{path} is open here with synchronous={found!r}, not {wanted!r}; use the same"
        raise SessionError(msg)


async def _leave(file: DatabaseFile) -> None:
    files = _files_open_here()
    key = (file, os.getpid())
    shared = files[key]
    shared.users -= 1
    if shared.users == 0:
        del files[key]  # whoever comes now opens anew
        if shared.database is not None:
            await shared.database.close()


async def _open(file: DatabaseFile, synchronous: Synchronous, patience: float) -> Database:
    try:
        async with AsyncExitStack() as opened:
            cross = _crossing(opened)
            writer = await _connect(cross, file.path, operations.LOCK_SLICE, opened)
            await _run(cross, writer, schema.prepare, patience)
            await _run(cross, writer, schema.pragma, f"synchronous = {synchronous}")
            reader = writer  # an in-memory database belongs to its connection
            if file.private is None:
                reader = await _connect(cross, file.path, patience, opened)
                await _run(cross, reader, schema.pragma, "query_only = on")
            return Database(
                file,
                synchronous,
                connections=opened.pop_all(),
                cross=cross,
                writer=writer,
                reader=reader,
            )
    except (schema.Refused, OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        msg = f"cannot open {file.path}: {reason}"
        raise SessionError(msg) from error


def _crossing(opened: AsyncExitStack) -> Cross:
    """The way from this event loop to an asyncio loop: none to go on asyncio, else a portal."""
    if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
        return _stay
    portal_open = ExitStack()
    portal = portal_open.enter_context(start_blocking_portal("asyncio"))
    process = os.getpid()

    def close() -> None:
        if process == os.getpid():  # a forked child does not have the portal's thread
            portal_open.close()

    # A portal left to the garbage collector at exit waits for a thread that is no more.
    atexit.register(close)
    opened.callback(close)
    opened.callback(atexit.unregister, close)
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
