"""One open file in one event loop: its two connections, their threads, and the way to them.

1. One connection writes, another reads, so that loads do not wait behind commits. Each has a
   thread of its own, whatever the number of sessions and of stores on the file.
2. aiosqlite speaks asyncio. On trio the same calls run in an asyncio loop on one more thread.
3. Whoever opens the same file in the same event loop shares what is open; the last closes it.
4. What is left open keeps no process alive.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from threading import Thread
from typing import Any, Literal, TypeAlias, TypeVar, final

import aiosqlite
import anyio
from anyio import Lock, fail_after
from anyio.from_thread import BlockingPortal
from anyio.lowlevel import RunVar, current_token

from tower_memory._errors import SessionError
from tower_memory._stores import operations, schema
from tower_memory._stores.connection import Connection
from tower_memory._stores.operations import Caller, PendingTurn, TurnQueue

_READ_PATIENCE = 5.0
"""Seconds for a read to wait where it must, for the recovery of a process that crashed."""

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
        shared: _Shared,
        file: DatabaseFile,
        synchronous: Synchronous,
        *,
        connections: AsyncExitStack,
        cross: Cross,
        writer: aiosqlite.Connection,
        reader: aiosqlite.Connection,
    ) -> None:
        self._shared = shared
        self.synchronous = synchronous
        self.file = file
        self._connections = connections
        self._cross = cross
        self._writer = writer
        self._reader = reader
        self._queue: TurnQueue = deque()
        self._process = os.getpid()

    def check(self) -> None:
        """Refuse to be used from where it was not opened."""
        if self._process != os.getpid():
            msg = "was opened in the parent process; make a store of your own in a forked child"
        elif self._shared is not _open_here().get(self.file):
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
        except (sqlite3.Error, ValueError) as error:  # aiosqlite's, of a connection that is closed
            msg = f"{self.file.path}: {error}"
            raise SessionError(msg, session_id=session_id) from error
        except BaseException:
            caller.gone = True
            raise

    async def give_back(self) -> None:
        """End one share. The last one closes the file, after what was asked of it before."""
        with fail_after(None, shield=True):
            await self._shared.leave()

    async def close(self) -> None:
        """Close the connections and end their threads."""
        await self._connections.aclose()


@final
class _Shared:
    """Who uses a file in this event loop, from before it is open."""

    def __init__(self, file: DatabaseFile) -> None:
        self.opening = Lock()
        self.database: Database | None = None
        self.users = 0
        self._file = file

    async def leave(self) -> None:
        """Be used by one less; the last one closes the file."""
        self.users -= 1
        if self.users == 0:
            del _open_here()[self._file]  # whoever comes now opens anew
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


async def share(file: DatabaseFile, synchronous: Synchronous, patience: float) -> Database:
    """Open *file*, or share it with those who have it open in this event loop.

    Raises:
        SessionError: It cannot be opened in *patience* seconds, is not ours, or is open with
            another value of *synchronous*.
    """
    caller = Caller(patience)
    shared = _open_here().setdefault(file, _Shared(file))
    shared.users += 1
    try:
        async with shared.opening:
            if shared.database is None:
                shared.database = await _open(file, synchronous, caller, shared)
        _check_synchronous(shared.database, synchronous)
    except BaseException:
        caller.gone = True
        with fail_after(None, shield=True):
            await shared.leave()
        raise
    return shared.database


def _check_synchronous(database: Database, wanted: Synchronous) -> None:
    if database.synchronous != wanted:
        path, found = database.file.path, database.synchronous
        msg = f"{path} is open here with synchronous={found!r}, not {wanted!r}; use the same"
        raise SessionError(msg)


async def _open(
    file: DatabaseFile, synchronous: Synchronous, caller: Caller, shared: _Shared
) -> Database:
    try:
        async with AsyncExitStack() as opened:
            cross = _crossing(opened)
            writer = await _connect(cross, file.path, operations.LOCK_SLICE, opened)
            await _prepare(cross, writer, caller)
            await _run(cross, writer, schema.pragma, f"synchronous = {synchronous}")
            reader = writer  # an in-memory database belongs to its connection
            if file.private is None:
                reader = await _connect(cross, file.path, _READ_PATIENCE, opened)
                await _run(cross, reader, schema.pragma, "query_only = on")
            return Database(
                shared,
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


async def _prepare(cross: Cross, writer: aiosqlite.Connection, caller: Caller) -> None:
    try:
        await _run(cross, writer, schema.prepare, caller.waits)
    except BaseException:
        caller.gone = True  # so that the thread does not wait on
        raise


def _crossing(opened: AsyncExitStack) -> Cross:
    """The way from this event loop to an asyncio loop: none to go on asyncio, else a portal.

    Not anyio's ``start_blocking_portal``: a generator, which left open would wait, as the process
    exits, for a thread that is no more.
    """
    if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
        return _stay
    started: Future[BlockingPortal] = Future()
    thread = Thread(target=anyio.run, args=(_serve, started), daemon=True)
    thread.start()
    portal = started.result()

    async def stop() -> None:
        await portal.call_async(portal.stop)
        thread.join()

    opened.push_async_callback(stop)
    return portal.call_async


async def _serve(started: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        started.set_result(portal)
        await portal.sleep_until_stopped()


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
            return Connection(":memory:")

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
    # Shielded, as half a start would leave a thread behind. It waits for no lock.
    with fail_after(None, shield=True):
        await cross(_start, connection)
    opened.push_async_callback(_end, cross, connection)
    for failure in failures:
        raise failure
    return connection


async def _start(connection: aiosqlite.Connection) -> None:
    await connection


async def _end(cross: Cross, connection: aiosqlite.Connection) -> None:
    with fail_after(None, shield=True):
        try:
            await _run(cross, connection, schema.nothing)  # until what was asked for before is done
        finally:  # as aiosqlite, cancelled while closing, would leave that to fail
            await cross(connection.close)


async def _run(
    cross: Cross,
    connection: aiosqlite.Connection,
    operation: Callable[..., T],
    *arguments: object,
) -> T:
    """Run *operation*, which takes the connection first, whole on the connection's thread."""
    result: T = await cross(connection.execute_fetchall, operation, arguments)
    return result
