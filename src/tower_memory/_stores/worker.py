"""A connection on a thread of its own, to be asked from asyncio and from trio.

1. aiosqlite speaks asyncio. On trio the same calls cross to an asyncio loop on one more thread.
2. What is asked of a worker is done in that order, each a whole function on its thread.
3. A worker left running keeps no process alive.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar, final

import aiosqlite
import anyio

from tower_memory._crossing import Cross
from tower_memory._stores.connection import IN_MEMORY, Connection

T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class Worker:
    """An open connection; to be had from `start_worker`."""

    _cross: Cross
    _connection: aiosqlite.Connection

    async def run(self, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation*, which takes the connection first, whole on the worker's thread."""
        result: T = await self._cross(self._connection.execute_fetchall, operation, arguments)
        return result

    async def end(self) -> None:
        """Close the connection and end the thread, after what was asked for before is done."""
        with anyio.fail_after(None, shield=True):
            await self._cross(_close, self._connection)


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
