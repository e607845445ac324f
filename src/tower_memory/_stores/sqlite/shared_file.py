"""A file in one event loop, shared by the stores that use it there.

1. The file closes once no store uses it and no operation is in progress.
2. Opening, reopening and closing happen on the keeper thread (`Connections`); callers only wait.
   Each change of state here is made without awaiting. Therefore a cancellation, at any point, ends
   the wait of its own caller and nothing else.
3. After an error of SQLite or the system that is not in `_TRANSIENT`, the connections are not used
   again, because they could keep the fault after the file is restored. The next operation opens
   new connections, but never a new file.
"""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import Future
from typing import final

from anyio import CancelScope, move_on_after
from anyio.lowlevel import current_token

from tower_memory._errors import SessionError
from tower_memory._portal import has_ended, wait_until_done
from tower_memory._stores.clock import Deadline
from tower_memory._stores.sqlite import schema
from tower_memory._stores.sqlite.connections import Connections, DatabaseFile, Synchronous

FAULTS = (schema.Refused, OSError, sqlite3.Error)
"""The errors of a file."""

_TRANSIENT = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CONSTRAINT,
)
"""SQLite error codes after which a connection stays usable."""


@final
class SharedFile:
    """A file in one event loop of one process.

    Args:
        file: The file.
        synchronous: When SQLite syncs to disk.
        hot_bytes: Maximum size of the session cache in bytes.
        files: The shared files of this event loop. The file removes itself when its last user
            leaves, so the next user opens it anew.

    Attributes:
        users: The keys of the stores that use the file.
        in_progress: Number of operations, including those that wait for the file to open.
        process: Id of the process that the file belongs to.
        loop: The event loop that the file belongs to.
        connections: The newest connections, perhaps not open yet.
    """

    def __init__(
        self,
        file: DatabaseFile,
        synchronous: Synchronous,
        hot_bytes: int,
        files: dict[DatabaseFile, SharedFile],
    ) -> None:
        self.file = file
        self.synchronous: Synchronous = synchronous
        self.hot_bytes = hot_bytes
        self.users: set[object] = set()
        self.in_progress = 0
        self.process = os.getpid()
        self.loop = current_token()
        self.connections: Connections | None = None

        self._files = files
        self._last_open: Connections | None = None  # the newest connections that were open
        self._waits: list[Deadline] = []  # of the callers that wait for the file to open
        self._is_closing: Future[None] = Future()

    def check(self) -> None:
        """Raise `RuntimeError` unless this process and event loop opened the file."""
        if self.process != os.getpid():
            self._refuse(
                "was opened in the parent process; fork before it is opened, or spawn the child"
            )

        if self.loop != current_token():
            self._refuse(
                "was left open when its event loop ended; close it with aclose(), or wrap it in a "
                "tower_memory.bridges.ThreadedStore, which serves every event loop"
                if has_ended(self.loop)
                else "is open in another event loop; close it there, or make a store of your own "
                "here"
            )

    def check_closing(self) -> None:
        """Raise `RuntimeError` unless the file may be closed here.

        Its own event loop may close it and, once this has ended, every other event loop.
        """
        if self.process != os.getpid() or not has_ended(self.loop):
            self.check()

    def _refuse(self, reason: str) -> None:
        msg = f"the store on {self.file.path} {reason}"
        raise RuntimeError(msg)

    async def open(self, patience: float) -> None:
        """Wait at most *patience* seconds until the file is open.

        Raises:
            SessionError: The file cannot be opened.
        """
        try:
            await self.usable_connections(patience)
        except FAULTS as error:
            raise self.session_error(error, "cannot open ") from error

    def lower_hot_bytes(self, hot_bytes: int) -> None:
        """Lower the limit of the session cache to *hot_bytes*; it never rises."""
        self.hot_bytes = min(self.hot_bytes, hot_bytes)
        if self.connections is not None:
            self.connections.cache.max_bytes = self.hot_bytes

    def leave(self, user: object) -> None:
        """Remove one user. The last one closes the file after the operations in progress."""
        self.users.discard(user)
        if not self.users and self._files.get(self.file) is self:
            del self._files[self.file]
        if self.in_progress and has_ended(self.loop):
            self.in_progress = 0  # those operations never go on
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """Begin to close the file if no store uses it and no operation is in progress."""
        if self.users or self.in_progress or self._is_closing.done():
            return

        newest, last_open = self.connections, self._last_open
        if newest is not None:
            newest.stop()
            if last_open is not None:
                # Not before: the newest connections may be about to retire the last ones.
                newest.ended.add_done_callback(lambda _: last_open.stop())
        self._is_closing.set_result(None)

    async def wait_until_closed(self) -> None:
        """Wait until the file is closed, even if the caller's scope is cancelled.

        Raises:
            SessionError: SQLite could not close the file in order.
        """
        with CancelScope(shield=True):
            await wait_until_done(self._is_closing)
            for connections in (self.connections, self._last_open):
                if connections is not None:
                    await wait_until_done(connections.ended)
                    if error := connections.ended.exception():
                        raise self.session_error(error) from error

    def _usable(self) -> Connections | None:
        """Return the open connections, or None if new ones must be opened."""
        newest = self._last_open
        is_usable = newest is not None and newest is self.connections and not newest.needs_reopen
        return newest if is_usable else None

    async def usable_connections(self, patience: float) -> Connections:
        """Return open connections; open new ones if there are none, or after a fault (rule 3).

        The wait for new ones takes at most *patience* seconds.
        """
        if usable := self._usable():
            return usable

        deadline = Deadline(patience)
        self._waits.append(deadline)
        try:
            while True:
                connections = self._opening_connections()
                await self._wait_for_opening(connections, deadline)
                error = connections.opened.exception()
                if error is None:
                    self._last_open = connections
                    return connections
                # Try again if the file was locked for too long for other callers only.
                if not _is_busy(error) or deadline.has_passed():
                    raise error
        finally:
            self._waits.remove(deadline)

    def _opening_connections(self) -> Connections:
        """Return the newest connections, after beginning to open new ones if these have failed."""
        newest = self.connections
        if newest is None or newest.needs_reopen or newest.has_failed():
            newest = Connections(
                self.file,
                self.synchronous,
                keep_waiting=self._has_patient_caller,
                keep_going=lambda: bool(self._waits),  # a migration outlasts the patience
                hot_bytes=self.hot_bytes,
                previous=self._last_open,
            )
            newest.open()
            self.connections = newest

        return newest

    def _has_patient_caller(self) -> bool:
        """Return True while a caller has patience left; called on worker threads."""
        return not all(deadline.has_passed() for deadline in tuple(self._waits))

    async def _wait_for_opening(self, connections: Connections, deadline: Deadline) -> None:
        """Wait until the opening has ended; refuse if only other callers have patience left."""
        with move_on_after(deadline.left()):
            await wait_until_done(connections.opened)
            return

        if any(not other.has_passed() for other in self._waits if other is not deadline):
            msg = "others are still opening it, as it is locked"
            raise schema.Refused(msg)
        await wait_until_done(connections.opened)  # it ends soon, as no caller has patience left

    def note_fault(self, connections: Connections, error: BaseException) -> None:
        """Use *connections* no longer if *error* may have left them unusable (rule 3)."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        is_lasting = code not in _TRANSIENT and not isinstance(error, schema.Refused)
        if self.file.private is None and is_lasting:
            connections.needs_reopen = True

    def session_error(
        self, error: BaseException, prefix: str = "", session_id: str | None = None
    ) -> SessionError:
        """Return a fault of the file as a `SessionError`, which names its path."""
        reason = getattr(error, "strerror", None) or error  # the system's text of an `OSError`
        return SessionError(f"{prefix}{self.file.path}: {reason}", session_id=session_id)


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and schema.is_busy(error)
