"""A SQLite connection that runs whole functions and checks that its file is in place.

1. Functions: aiosqlite passes the arguments of ``execute`` to its thread unchanged. Because
   ``execute`` also accepts a function here, aiosqlite's public API runs any number of statements in
   one visit to the thread.
2. Permissions: this module creates a missing file, readable by its owner only. SQLite would create
   it readable by every user.
3. Forks: a forked child does not open a file that was open at the fork. SQLite keeps the state of
   open files for the whole process, and the child inherits that state without the file locks.
4. Replaced files: if the file or one of its side files (write-ahead log, shared memory) is no
   longer at its path, every operation raises. Before the connection closes, it copies the log's
   content into the file that it has open, wherever that file is now, and removes the log.
   Otherwise SQLite would apply the log to the file that has taken its place.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from errno import EACCES
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias, TypeVar, final

# When a process closes a file, it loses all its POSIX locks on that file. So no thread may open a
# new file before the thread that created it has closed it.
_creating = Lock()

T = TypeVar("T")
_Identity: TypeAlias = tuple[int, int]

_open: list[tuple[str, int]] = []
"""The path of each open file, and the id of the process that opened it."""

IN_MEMORY = ":memory:"
"""The path that SQLite reads as "a database in memory"."""


@final
class Connection(sqlite3.Connection):
    """A connection that also executes functions, and runs operations only on a file in place."""

    def __init__(self, path: str, *, create: bool = True, **settings: Any) -> None:
        self._process = os.getpid()
        if any(opened == path and by != self._process for opened, by in tuple(_open)):
            msg = "it was open when this process was forked; open it after, or spawn the process"
            raise sqlite3.ProgrammingError(msg)

        self._path = None if path == IN_MEMORY else path  # also None after closing
        self._known: _Files | None = None  # None until the first operation has opened all of them
        if self._path:
            if create:
                _create_private(path)
            _check_writable(path)
            self._main = _identity(path)
            path = f"{Path(path).as_uri()}?mode=rw"  # keeps SQLite from creating a file

        super().__init__(path, uri=True, **settings)
        if self._path:
            _open.append((self._path, self._process))

    def execute(self, operation: Any, parameters: Any = (), /) -> Any:
        if callable(operation):
            return _Result(operation(self, *parameters))
        return super().execute(operation, parameters)

    def run(self, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation(connection, *arguments)* if the file is in place, and return its result.

        Raises:
            sqlite3.OperationalError: The file or a side file was deleted or replaced (rule 4).
        """
        if operation is not Connection.detach:
            self._check_in_place()

        try:
            result = operation(self, *arguments)
        except sqlite3.Error:
            self._check_in_place()  # a replaced file is the better explanation
            raise

        if self._path and not self._known:
            self._known = _files(self._path)._replace(main=self._main)
        return result

    def detach(self) -> None:
        """Write the log into the open file if the file or its log is no longer at its path.

        Then remove the log that a moved file left at the old path (rule 4).

        Raises:
            sqlite3.Error: The log is still in use.
        """
        if not self._path or not self._known:
            return

        found = _files(self._path)
        moved = found.main != self._known.main
        if moved or not found.log:
            self.rollback()
            busy, *_ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                msg = "it was deleted or replaced, and another process still reads the old file"
                raise sqlite3.OperationalError(msg)

        if moved and found.log == self._known.log:
            Path(f"{self._path}-wal").unlink()
            Path(f"{self._path}-shm").unlink(missing_ok=True)

    def close(self) -> None:
        with suppress(OSError, sqlite3.Error):
            self.detach()
        super().close()
        if self._path:
            _open.remove((self._path, self._process))
            self._path = None

    def _check_in_place(self) -> None:
        if self._path and self._known not in (None, _files(self._path)):
            msg = "it, or a file beside it, was deleted or replaced while it was open"
            raise sqlite3.OperationalError(msg)


class _Files(NamedTuple):
    """The files at a database's path, each as device and inode; None for a missing file."""

    main: _Identity | None
    log: _Identity | None
    shared: _Identity | None


def _files(path: str) -> _Files:
    return _Files(_identity(path), _identity(f"{path}-wal"), _identity(f"{path}-shm"))


@final
@dataclass(frozen=True, slots=True)
class _Result:
    """A function's result, offered through the method by which aiosqlite fetches rows."""

    value: Any

    def fetchall(self) -> Any:
        return self.value


def _create_private(path: str) -> None:
    """Create a missing file, readable by its owner only. SQLite gives side files the same mode."""
    with _creating:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return


def _check_writable(path: str) -> None:
    """Raise if the file is not writable.

    SQLite would open it read-only, and the connection would stay read-only even after the file
    has become writable.
    """
    if _identity(path) and not os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        raise PermissionError(EACCES, os.strerror(EACCES), path)


def _identity(path: str) -> _Identity | None:
    """Return the device and inode of the file at *path*, or None if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - twice as fast, and called for each operation
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def holds_something(path: str) -> bool:
    """Return True if there is a file at *path* that is not empty."""
    file = Path(path)
    return file.is_file() and file.stat().st_size > 0
