"""The connection: sqlite3's own, running whole functions, to a file that only its owner can read.

1. aiosqlite hands what it is told to execute through to its thread, untouched. A connection that
   also takes functions is its public way of running more than one statement there in one go.
2. The file is created here, before SQLite would create it readable by all.
3. A forked child opens no file that was open at the fork: SQLite keeps, for the whole process,
   what it knows of its open files, and the child would lack the locks that go with it.
4. What is done to a file that is no longer at its path is not done: it raises. Before such a file
   is let go, what its write-ahead log holds goes into it, wherever it is now, and the log is
   removed: SQLite would take it for that of whatever stands in its place.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from errno import EACCES
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, final

# Closing a file drops every lock that its process has on it (POSIX), so nobody may open a file
# that was just created until it is closed.
_creating = Lock()
_counting = Lock()

_Identity: TypeAlias = tuple[int, int]

_open: Counter[tuple[str, int]] = Counter()
"""How often each file is open, and in which process."""

IN_MEMORY = ":memory:"
"""What SQLite takes for a path to no file."""


@final
class Connection(sqlite3.Connection):
    """A connection that executes functions, too: ``execute(load, arguments)``."""

    def __init__(self, path: str, **settings: Any) -> None:
        self._process = os.getpid()
        if any(opened == path and by != self._process for opened, by in +_open.copy()):
            msg = "it was open when this process was forked; open it after, or spawn the process"
            raise sqlite3.ProgrammingError(msg)
        self._path = None if path == IN_MEMORY else path  # None once closed, too
        self._log: _Identity | None = None  # until this connection has it open
        if self._path:
            _create_private(path)
            _check_writable(path)
        super().__init__(path, **settings)
        if self._path:
            self._file = _identity(path)
            with _counting:
                _open[path, self._process] += 1

    def execute(self, operation: Any, parameters: Any = (), /) -> Any:
        if callable(operation):
            if self._log:
                self._check_in_place()
            try:
                return _Result(operation(self, *parameters))
            finally:  # where it failed, this may be why
                self._check_in_place()
        return super().execute(operation, parameters)

    def close(self) -> None:
        with suppress(OSError, sqlite3.Error):
            self._part_if_moved()
        super().close()
        if self._path:
            with _counting:
                _open[self._path, self._process] -= 1
            self._path = None

    def _check_in_place(self) -> None:
        if self._path:
            log = _identity(self._path + "-wal")
            self._log = self._log or log
            if (_identity(self._path), log) != (self._file, self._log):
                msg = "it, or its write-ahead log, was deleted or replaced while it was open"
                raise sqlite3.OperationalError(msg)

    def _part_if_moved(self) -> None:
        if self._path and self._log and _identity(self._path) != self._file:
            busy, *_ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy and _identity(self._path + "-wal") == self._log:
                Path(self._path + "-wal").unlink()
                Path(self._path + "-shm").unlink()


@final
@dataclass(frozen=True, slots=True)
class _Result:
    """What a function returned, where aiosqlite looks for rows."""

    value: Any

    def fetchall(self) -> Any:
        return self.value


def _create_private(path: str) -> None:
    """Create the file readable by its owner only. SQLite gives its side files the same mode."""
    with _creating:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return


def _check_writable(path: str) -> None:
    """Refuse a file that SQLite would open for reading only, and keep so once it may be written."""
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(EACCES, os.strerror(EACCES), path)


def _identity(path: str) -> _Identity | None:
    """Which file is at *path*, or None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - twice as fast, and asked for each operation
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def holds_something(path: str) -> bool:
    """Whether there is a file at *path* that is not empty."""
    file = Path(path)
    return file.is_file() and file.stat().st_size > 0
