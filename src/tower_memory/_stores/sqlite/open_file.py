"""An open file, as one store uses it.

1. Stores that use the same file in the same event loop share its connections (`SharedFile`).
2. The first operation opens the file. If all operations of a store that wait for this give up, the
   store's use ends, and nothing stays open.
3. A file that is garbage-collected before it is closed warns and closes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar, final

from anyio import fail_after
from anyio.lowlevel import RunVar

from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._portal import call_soon
from tower_memory._stores.sqlite.connections import (
    READ_TIMEOUT,
    Connections,
    DatabaseFile,
    Synchronous,
)
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.group_commit import Write
from tower_memory._stores.sqlite.reads import Wanted, load
from tower_memory._stores.sqlite.shared_file import SharedFile

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

    async def load(self, wanted: Wanted[Item], patience: float) -> History[Item]:
        """Load the *wanted* items of a session."""

        def run_on(connections: Connections) -> Awaitable[History[Item]]:
            def load_in_steps(connection: Connection) -> Generator[None, None, History[Item]]:
                return load(connection, connections.cache, wanted)

            return connections.reader.run_in_steps(
                partial(Connection.run_in_steps, operation=load_in_steps)
            )

        async with self._operation(patience):
            return await self._shared.work(READ_TIMEOUT, wanted.session_id, run_on)

    async def read(self, operation: Callable[[Connection], T], patience: float) -> T:
        """Run *operation* on the connection that reads, and return its result."""

        def run_on(connections: Connections) -> Awaitable[T]:
            return connections.reader.run(partial(Connection.run, operation=operation))

        async with self._operation(patience):
            return await self._shared.work(READ_TIMEOUT, None, run_on)

    async def write(
        self,
        session_id: str | None,
        operation: Callable[[Connection], T],
        patience: float,
        *,
        after_commit: Callable[[Connections, Connection, T], object] | None = None,
        shield: bool = False,
    ) -> T:
        """Commit *operation* and return its result.

        Args:
            session_id: The session, which errors name; None for several sessions.
            operation: Function that writes.
            patience: Maximum seconds to wait while another process has locked the file, before and
                again after the file is open.
            after_commit: Function of the connections, the writing connection and the result,
                called after the commit; or None.
            shield: Whether the caller waits for the commit even if its scope is cancelled.
        """

        def run_on(connections: Connections) -> Awaitable[T]:
            after = None if after_commit is None else partial(after_commit, connections)
            return connections.writer.run(Write(operation, patience, after))

        async with self._operation(patience):
            with fail_after(None, shield=shield):
                return await self._shared.work(patience, session_id, run_on)

    async def run_on_writer(self, operation: Callable[[Connection], T], patience: float) -> T:
        """Run *operation* on the connection that writes, outside of transactions."""

        def run_on(connections: Connections) -> Awaitable[T]:
            return connections.writer.run(partial(Connection.run, operation=operation))

        async with self._operation(patience):
            return await self._shared.work(patience, None, run_on)

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

    shared.lower_hot_bytes(hot_bytes)
    return OpenFile(shared)
