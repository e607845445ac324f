"""A connection on a thread of its own, to be asked from asyncio and from trio.

1. aiosqlite speaks asyncio. On trio the same calls cross to an asyncio loop on one more thread.
2. What is asked of a worker is done in that order, each a whole function on its thread.
3. The way to the thread and back costs more than most of what is asked. So what is asked while
   another is on the way goes along, and what was done on one visit is told of at once. Whoever
   finds nobody on the way goes; what comes of it is told by the thread, so that nobody depends on
   who went.
4. A worker left running keeps no process alive.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, TypeVar, final

import aiosqlite
import anyio
from anyio import Event
from anyio.lowlevel import current_token

from tower_memory._crossing import Cross, call_soon
from tower_memory._stores.connection import IN_MEMORY, Connection

T = TypeVar("T")


@final
@dataclass(eq=False, slots=True)
class _Job:
    """What is asked of a worker, and in the end what came of it."""

    operation: Callable[..., Any]
    arguments: tuple[Any, ...]
    called: Event | None  # None where whoever asked for it goes
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    def do(self, connection: Connection) -> None:
        try:
            self.result = connection.run(self.operation, *self.arguments)
        except BaseException as error:  # noqa: BLE001 - it is raised where this was asked for
            self.error = error
        self.is_done = True

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


@final
class Worker:
    """An open connection; to be had from `start_worker`."""

    def __init__(self, cross: Cross, connection: aiosqlite.Connection) -> None:
        self._cross = cross
        self._connection = connection
        self._loop = current_token()
        self._jobs: deque[_Job] = deque()
        self._on_the_way = False

    async def run(self, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation*, which takes the connection first, whole on the worker's thread."""
        called = Event() if self._on_the_way else None
        job = _Job(operation, arguments, called)
        self._jobs.append(job)
        if called and self._on_the_way:  # the thread may have taken up the jobs since
            await called.wait()
        if not job.is_done:
            job.called = None
            await self._go()
        result: T = job.outcome()
        return result

    async def _go(self) -> None:
        self._on_the_way = True
        try:
            await self._cross(self._connection.execute_fetchall, self._visit)
        except BaseException:
            self._on_the_way = False
            _set_all(job.called for job in tuple(self._jobs))  # if nobody went, another has to
            raise

    def _visit(self, connection: Connection) -> None:
        """Do all that is asked for by now, on the worker's thread."""
        self._on_the_way = False
        done: list[_Job] = []
        while self._jobs:
            job = self._jobs.popleft()
            job.do(connection)
            done.append(job)
        if called := [job.called for job in done if job.called]:
            call_soon(self._loop, partial(_set_all, called))

    async def end(self) -> None:
        """Close the connection and end the thread, after what was asked for before is done."""
        with anyio.fail_after(None, shield=True):
            await self._cross(_close, self._connection)


def _set_all(events: Iterable[Event | None]) -> None:
    for event in events:
        if event is not None:
            event.set()


async def start_worker(
    cross: Cross, path: str, busy_timeout: float, opened: AsyncExitStack, *, create: bool
) -> Worker:
    """Connect to the file at *path*, made if *create* and need be; *opened* is left to end it.

    Raises:
        OSError: The file cannot be created.
        sqlite3.Error: It cannot be opened.
    """
    made: list[aiosqlite.Connection] = []
    failures: list[Exception] = []

    def factory(path: str, **settings: Any) -> sqlite3.Connection:
        # aiosqlite does not wait for its thread when this raises, so it never does.
        try:
            return Connection(path, create=create, **settings)
        except (OSError, sqlite3.Error) as error:
            failures.append(error)
            return Connection(IN_MEMORY)

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
    # Shielded, as aiosqlite does not wait for its thread when this is cancelled either.
    with anyio.fail_after(None, shield=True):
        await cross(_start, connection)
    worker = Worker(cross, connection)
    opened.push_async_callback(worker.end)
    for failure in failures:
        raise failure
    return worker


async def _start(connection: aiosqlite.Connection) -> None:
    # In a task of its own, as aiosqlite, natively cancelled while it connects, forgets what it
    # has opened by then.
    starting = asyncio.ensure_future(_connect(connection))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        await _close(connection)
        raise


async def _connect(connection: aiosqlite.Connection) -> None:
    await connection


async def _close(connection: aiosqlite.Connection) -> None:
    # In a task of its own, as aiosqlite, natively cancelled while it closes, leaves to fail what
    # is yet to be done.
    await asyncio.shield(asyncio.ensure_future(connection.close()))
