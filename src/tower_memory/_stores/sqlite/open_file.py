"""An open file, as one store uses it.

1. Stores that use the same file in the same event loop share its connections (`SharedFile`).
2. The first operation opens the file. If all operations of a store that wait for this give up, the
   store's use ends, and nothing stays open.
3. A file that is garbage-collected before it is closed warns and closes.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar, final

from anyio import fail_after
from anyio.lowlevel import RunVar

from tower_memory._codec import ItemCodec
from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._portal import call_soon
from tower_memory._stores.sqlite import writes
from tower_memory._stores.sqlite.connections import (
    READ_TIMEOUT,
    Connections,
    DatabaseFile,
    Synchronous,
)
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.reads import Load, load
from tower_memory._stores.sqlite.shared_file import SharedFile
from tower_memory._stores.sqlite.writes import Caller, Write, WriteQueue
from tower_memory._stores.worker_thread import RetryLater

T = TypeVar("T")


@final
class OpenFile:
    """One store's use of a file in one event loop; `acquire` returns it.

    Each operation opens the file first, if it is not open. It waits at most *patience* seconds
    while another process has locked the file.

    Attributes:
        is_open: True once the file was open for this use.
        is_closed: True once the use has ended.
    """

    def __init__(self, shared: SharedFile) -> None:
        self.is_open = False
        self.is_closed = False
        self._shared = shared
        self._key = object()
        self._in_progress = 0
        shared.users.add(self._key)

    def check(self) -> None:
        """Raise `RuntimeError` unless this process and event loop opened the file."""
        self._shared.check()

    def check_closing(self) -> None:
        """Raise `RuntimeError` if the file was opened elsewhere, as `close` does."""
        self._shared.check_closing()

    async def ready(self, patience: float) -> None:
        """Wait until the file is open.

        Raises:
            SessionError: The file cannot be opened.
        """
        async with self._operation(patience):
            pass

    async def load(
        self, session_id: str, limit: int | None, codec: ItemCodec[Item], patience: float
    ) -> History[Item]:
        """Load the newest *limit* items of a session; None loads all."""
        async with self._operation(patience):
            caller = Caller(READ_TIMEOUT)
            wanted = Load(session_id, limit, codec, caller, self._shared.hot_bytes)

            def run_on(connections: Connections) -> Awaitable[History[Item]]:
                operation = partial(load, hot=connections.hot, wanted=wanted)
                return connections.reader.run(partial(Connection.run, operation=operation))

            return await self._shared.work(caller, session_id, run_on)

    async def write(
        self,
        session_id: str,
        operation: Callable[[sqlite3.Connection], T],
        patience: float,
        *,
        shield: bool = False,
    ) -> T:
        """Commit *operation* and return its result.

        Args:
            session_id: The session.
            operation: Function that writes to the session.
            patience: Maximum seconds to wait while another process has locked the file, before and
                again after the file is open.
            shield: Whether the caller waits for the commit even if its scope is cancelled.
        """
        queue = self._shared.queue
        async with self._operation(patience):
            write = Write(operation, patience)
            settle = partial(_settle, queue=queue, write=write)

            def run_on(connections: Connections) -> Awaitable[T]:
                return connections.writer.run(partial(Connection.run, operation=settle))

            queue.append(write)
            try:
                with fail_after(None, shield=shield):
                    return await self._shared.work(write.caller, session_id, run_on)
            finally:
                with suppress(ValueError, IndexError):  # the thread has usually taken it
                    queue.remove(write)

    async def close(self) -> None:
        """End the use. The last use closes the file after the operations in progress.

        If the caller is cancelled natively, the file closes nevertheless.

        Raises:
            RuntimeError: The file was opened in another process, or in another event loop that has
                not ended.
        """
        self.check_closing()
        self._end()
        if not self._shared.users:
            await self._shared.wait_until_closed()

    @asynccontextmanager
    async def _operation(self, patience: float) -> AsyncGenerator[None]:
        """Open the file if it is not open, and keep it open meanwhile."""
        shared = self._shared
        self._in_progress += 1
        shared.in_progress += 1
        try:
            if not self.is_open:
                await shared.open(patience)
                self.is_open = True
            yield
        finally:
            self._in_progress -= 1
            shared.in_progress -= 1
            if not self.is_open and not self._in_progress:
                self._end()
            shared.close_if_unused()
            if not self.is_open and not shared.users:
                await shared.wait_until_closed()

    def _end(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._shared.leave(self._key)

    def __del__(self) -> None:
        shared = self._shared
        if self.is_closed or shared.process != os.getpid():
            return

        leave = partial(shared.leave, self._key)
        if not call_soon(shared.loop, leave):
            leave()

        msg = f"a store on {shared.file.path} was not closed: use `async with`, or `aclose` it"
        warnings.warn(msg, ResourceWarning, stacklevel=1, source=self)


_open_files: RunVar[tuple[int, dict[DatabaseFile, SharedFile]]] = RunVar("tower_memory_open_files")


def _open_in_this_loop() -> dict[DatabaseFile, SharedFile]:
    """Return the files open in this event loop: in a forked child, none of the parent's."""
    process, files = _open_files.get((0, {}))
    if process != os.getpid():
        files = {}
        _open_files.set((os.getpid(), files))
    return files


def acquire(file: DatabaseFile, synchronous: Synchronous, hot_bytes: int) -> OpenFile:
    """Return a new use of *file* in the running event loop; its first operation opens the file.

    The session cache takes at most the smallest *hot_bytes* of all uses. It never rises while the
    file is open.

    Raises:
        SessionError: The file is open with another value of *synchronous*.
    """
    files = _open_in_this_loop()
    shared = files.get(file)
    if shared is None:
        shared = files[file] = SharedFile(file, synchronous, hot_bytes, files)

    if shared.synchronous != synchronous:
        path, found = file.path, shared.synchronous
        msg = f"{path} is open here with synchronous={found!r}, not {synchronous!r}; use the same"
        raise SessionError(msg)

    shared.hot_bytes = min(shared.hot_bytes, hot_bytes)
    return OpenFile(shared)


def _settle(connection: sqlite3.Connection, queue: WriteQueue, write: Write) -> Any:
    """Commit the queue and return the outcome of *write*."""
    try:
        return writes.settle(connection, queue, write)
    except writes.Locked:
        raise RetryLater from None
