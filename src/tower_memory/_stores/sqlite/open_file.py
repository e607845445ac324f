"""An open file, as one store uses it.

1. Stores that use the same file in the same event loop share its connections (`SharedFile`).
2. The first operation opens the file. If all operations of a store that wait for this give up, the
   store's use ends, and nothing stays open.
3. A file that is garbage-collected before it is closed warns and closes.
4. Every operation runs whole on a worker thread: a write in the next group commit (`group_commit`,
   which calls the functions of `writes`), a load in steps (`load`). This module waits for the
   result, and repeats the operation on new connections if the old ones were closed before it ran.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from functools import partial
from threading import Event, Thread
from typing import TypeVar, final

from anyio import fail_after
from anyio.lowlevel import RunVar

from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._portal import call_soon, wait_until_done
from tower_memory._stores.jobs import RetryLater
from tower_memory._stores.sql.reads import Wanted
from tower_memory._stores.sqlite.backup import back_up, copy_to
from tower_memory._stores.sqlite.connections import Connections, DatabaseFile, Synchronous
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.group_commit import Write
from tower_memory._stores.sqlite.rows import load
from tower_memory._stores.sqlite.shared_file import FAULTS, SharedFile

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
        await self._run(_do_nothing, patience, None)

    async def in_steps(
        self, steps: Callable[[], Awaitable[T]], patience: float, session_id: str | None = None
    ) -> T:
        """Run *steps*, which uses the file several times; the file closes only after its end."""
        return await self._run(lambda _: steps(), patience, session_id)

    async def load(self, wanted: Wanted[Item], patience: float) -> History[Item]:
        """Load the *wanted* items of a session."""

        def run_on(connections: Connections) -> Awaitable[History[Item]]:
            steps = partial(load, cache=connections.cache, wanted=wanted)
            return connections.reader.run_in_steps(steps, loop=self._shared.loop)

        return await self._run(run_on, patience, wanted.session_id)

    async def read(
        self, operation: Callable[[Connection], T], patience: float, session_id: str | None = None
    ) -> T:
        """Run *operation* on the connection that reads, and return its result.

        Errors name *session_id*; None for several sessions.
        """
        return await self._run(
            lambda connections: connections.reader.run(operation), patience, session_id
        )

    async def read_in_steps(
        self, operation: Callable[[Connection], Generator[None, None, T]], patience: float
    ) -> T:
        """Run the steps of *operation* on the connection that reads, between other operations."""

        def run_on(connections: Connections) -> Awaitable[T]:
            return connections.reader.run_in_steps(operation, loop=self._shared.loop)

        return await self._run(run_on, patience, None)

    async def write(
        self,
        session_id: str | None,
        operation: Callable[[Connection], T],
        patience: float,
        *,
        after_commit: Callable[[Connections, Connection, T], object] | None = None,
    ) -> T:
        """Run *operation* in the next group commit and return its result.

        Args:
            session_id: The session, which errors name; None for several sessions.
            operation: Function of the writing connection, such as one of `writes`.
            patience: Maximum seconds to wait while another process has locked the file, before and
                again after the file is open.
            after_commit: Function of the connections, the writing connection and the result,
                called after the commit; or None.
        """

        def run_on(connections: Connections) -> Awaitable[T]:
            after = None if after_commit is None else partial(after_commit, connections)
            write = Write(operation, patience, after)
            return connections.writer.run(write, loop=self._shared.loop)

        return await self._run(run_on, patience, session_id)

    async def run_on_writer(self, operation: Callable[[Connection], T], patience: float) -> T:
        """Run *operation* on the connection that writes, outside of transactions."""
        return await self._run(
            lambda connections: connections.writer.run(operation), patience, None
        )

    async def backup(self, path: str, patience: float) -> None:
        """Copy the database to the new file *path*, on a thread of its own.

        Raises:
            SessionError: The copy cannot be written, or *path* exists.
        """
        file, is_stopped = self._shared.file, Event()

        def keep_going() -> bool:
            return not is_stopped.is_set()

        def run_on(connections: Connections) -> Awaitable[None]:
            if file.private is None:
                copying = partial(back_up, file.path, path, keep_going)
                return _run_in_thread(copying, is_stopped)
            return connections.writer.run(partial(copy_to, path=path, keep_going=keep_going))

        await self._run(run_on, patience, None)

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

    async def _run(
        self,
        run_on: Callable[[Connections], Awaitable[T]],
        patience: float,
        session_id: str | None,
    ) -> T:
        """Run an operation on the connections; open the file first, and keep it open meanwhile."""
        shared = self._shared
        self._in_progress += 1
        shared.in_progress += 1
        try:
            if not self.is_open:
                await shared.open(patience)
                self.is_open = True
            return await self._run_on_usable(run_on, patience, session_id)

        finally:
            self._in_progress -= 1
            shared.in_progress -= 1
            if not self.is_open and not self._in_progress:
                self._end()
            shared.close_if_unused()
            if not self.is_open and not shared.users and not shared.in_progress:
                await shared.wait_until_closed()

    async def _run_on_usable(
        self,
        run_on: Callable[[Connections], Awaitable[T]],
        patience: float,
        session_id: str | None,
    ) -> T:
        """Run an operation on connections that are opened again after a fault.

        Raises:
            SessionError: The operation failed, or the file stayed locked.
        """
        shared = self._shared
        try:
            while True:
                connections = await shared.usable_connections(patience)
                try:
                    return await run_on(connections)
                except RetryLater:
                    continue  # the connections were closed before the operation could run
                except FAULTS as error:
                    shared.note_fault(connections, error)
                    raise

        except FAULTS as error:
            raise shared.session_error(error, session_id=session_id) from error

    def _end(self) -> None:
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


async def _do_nothing(_connections: Connections) -> None:
    """Do nothing with the open connections."""


async def _run_in_thread(operation: Callable[[], None], is_stopped: Event) -> None:
    """Run *operation* in a daemon thread; if cancelled, set *is_stopped* and wait for its end.

    Raises:
        SessionError: No thread can be started, or the operation failed.
    """
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            operation()
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    try:
        Thread(target=run, name="tower-memory backup", daemon=True).start()
    except RuntimeError as error:  # such as too many threads
        raise SessionError(str(error)) from error

    try:
        await wait_until_done(outcome)
    except BaseException:
        is_stopped.set()
        with fail_after(None, shield=True):
            await wait_until_done(outcome)
        raise
    outcome.result()
