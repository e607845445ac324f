"""A worker thread that owns one database connection and runs jobs on it.

Its callers run on asyncio or trio.

1. aiosqlite needs an asyncio loop. On trio, aiosqlite is called through a portal to an asyncio
   loop on one more thread.
2. A worker runs its jobs in the order of the calls. Each job is one function that runs on the
   thread without interruption.
3. A dispatch sends the thread to the queue once. Switching threads costs more than most jobs, so
   the thread runs all queued jobs in one dispatch and reports their results together. A caller
   dispatches only if no dispatch is in progress; otherwise it appends its job and waits. The
   thread itself reports every result, so a cancelled dispatcher delays no other caller.
4. The thread is a daemon: a worker that is never ended does not keep the process alive.
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

from tower_memory._portal import PortalCall, call_soon
from tower_memory._stores.sqlite.file_guard import IN_MEMORY, Connection

T = TypeVar("T")


@final
@dataclass(eq=False, slots=True)
class _Job:
    """A queued call of *operation(connection, *arguments)* and, once done, its result or error.

    Attributes:
        wake_up: Set when the job is done, or when a dispatch failed before the job was done.
            None if the caller makes the dispatch itself, and so does not wait for the event.
    """

    operation: Callable[..., Any]
    arguments: tuple[Any, ...]
    wake_up: Event | None
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        try:
            self.result = connection.run(self.operation, *self.arguments)
        except BaseException as error:  # noqa: BLE001 - outcome() raises it to the caller
            self.error = error
        self.is_done = True

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


@final
class Worker:
    """An open connection and its thread; `start_worker` makes it."""

    def __init__(self, cross: PortalCall, connection: aiosqlite.Connection) -> None:
        self._cross = cross
        self._connection = connection
        self._loop = current_token()
        self._jobs: deque[_Job] = deque()
        self._dispatching = False

    async def run(self, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation(connection, *arguments)* on the worker thread and return its result.

        Cancelling the caller does not interrupt the operation. An operation may look at its caller
        and stop early, as a load does.
        """
        wake_up = Event() if self._dispatching else None
        job = _Job(operation, arguments, wake_up)
        self._jobs.append(job)

        # Look again: the thread may have drained the queue between the first look and the append,
        # and would then miss this job.
        if wake_up and self._dispatching:
            await wake_up.wait()

        if not job.is_done:
            job.wake_up = None
            await self._dispatch()

        result: T = job.outcome()
        return result

    async def _dispatch(self) -> None:
        self._dispatching = True
        try:
            await self._cross(self._connection.execute_fetchall, self._drain)
        except BaseException:
            # Perhaps the call did not reach the thread: let each waiting caller dispatch its job.
            self._dispatching = False
            _set_all(job.wake_up for job in tuple(self._jobs))
            raise

    def _drain(self, connection: Connection) -> None:
        """Run all queued jobs and wake their callers; called on the worker thread."""
        self._dispatching = False
        done: list[_Job] = []
        while self._jobs:
            job = self._jobs.popleft()
            job.run(connection)
            done.append(job)

        if wake_ups := [job.wake_up for job in done if job.wake_up]:
            call_soon(self._loop, partial(_set_all, wake_ups))

    async def end(self) -> None:
        """Run the jobs that were queued before, then close the connection and end the thread."""
        with anyio.fail_after(None, shield=True):
            await self._cross(_close, self._connection)


def _set_all(events: Iterable[Event | None]) -> None:
    for event in events:
        if event is not None:
            event.set()


async def start_worker(
    cross: PortalCall, path: str, busy_timeout: float, opened: AsyncExitStack, *, create: bool
) -> Worker:
    """Connect to the file at *path* and return its worker.

    Args:
        cross: Calls a coroutine function on an asyncio loop (rule 1).
        path: The file.
        busy_timeout: Seconds that a statement waits for the lock of another process.
        opened: The exit stack that will end the worker.
        create: Whether to create a missing file; otherwise it is an error.

    Raises:
        OSError: The file cannot be created.
        sqlite3.Error: The file cannot be opened.
    """
    made: list[aiosqlite.Connection] = []
    failures: list[Exception] = []

    def factory(path: str, **settings: Any) -> sqlite3.Connection:
        # Never raises: after a failure here, aiosqlite would not wait for its thread to end.
        try:
            return Connection(path, create=create, **settings)
        except (OSError, sqlite3.Error) as error:
            failures.append(error)
            return Connection(IN_MEMORY)

    def make() -> None:
        made.append(
            aiosqlite.connect(path, timeout=busy_timeout, isolation_level=None, factory=factory)
        )

    # aiosqlite's thread must be a daemon, or an unclosed connection would keep the process alive.
    # A thread inherits this from the thread that makes it, so a daemon thread makes it.
    maker = Thread(target=make, daemon=True)
    maker.start()
    maker.join()
    (connection,) = made

    # Shielded, because after a cancellation aiosqlite would not wait for its thread to end.
    with anyio.fail_after(None, shield=True):
        await cross(_start, connection)
    worker = Worker(cross, connection)
    opened.push_async_callback(worker.end)

    for failure in failures:
        raise failure
    return worker


async def _start(connection: aiosqlite.Connection) -> None:
    # A task of its own, because native cancellation during the connect would make aiosqlite lose
    # the connection that it has already opened.
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
    # A task of its own, because native cancellation during the close would make aiosqlite fail
    # the jobs that are still queued.
    await asyncio.shield(asyncio.ensure_future(connection.close()))
