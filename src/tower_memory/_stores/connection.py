"""The connection: sqlite3's own, running whole functions, to a file that only its owner can read.

1. aiosqlite hands what it is told to execute through to its thread, untouched. A connection that
   also takes functions is its public way of running more than one statement there in one go.
2. The file is created here, before SQLite would create it readable by all.
3. A forked child opens no file that was open at the fork: SQLite keeps, for the whole process,
   what it knows of its open files, and the child would lack the locks that go with it.
4. Nothing is done to a file that is no longer at its path, or whose side files are not: it raises.
   Before it is let go, what its write-ahead log holds goes into it, wherever it is now, and the log
   is removed: SQLite would take it for that of whatever stands in its place.
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

# Closing a file drops every lock that its process has on it (POSIX), so nobody may open a file
# that was just created until it is closed.
_creating = Lock()

T = TypeVar("T")
_Identity: TypeAlias = tuple[int, int]

_open: list[tuple[str, int]] = []
"""The files that are open, each with the process that opened it."""

IN_MEMORY = ":memory:"
"""What SQLite takes for a path to no file."""


@final
class Connection(sqlite3.Connection):
    """A connection that executes functions, too, and runs what needs the file to be in place."""

    def __init__(self, path: str, *, create: bool = True, **settings: Any) -> None:
        self._process = os.getpid()
        if any(opened == path and by != self._process for opened, by in tuple(_open)):
            msg = "it was open when this process was forked; open it after, or spawn the process"
            raise sqlite3.ProgrammingError(msg)
        self._path = None if path == IN_MEMORY else path  # None once closed, too
        self._known: _Files | None = None  # until this connection has all of them open
        if self._path:
            if create:
                _create_private(path)
            _check_writable(path)
            self._main = _identity(path)
            path = f"{Path(path).as_uri()}?mode=rw"  # SQLite makes no file
        super().__init__(path, uri=True, **settings)
        if self._path:
            _open.append((self._path, self._process))

    def execute(self, operation: Any, parameters: Any = (), /) -> Any:
        if callable(operation):
            return _Result(operation(self, *parameters))
        return super().execute(operation, parameters)

    def run(self, operation: Callable[..., T], *arguments: object) -> T:
        """Run *operation*, which takes this connection first, if the file is in place."""
        if operation is not Connection.let_go:
            self._check_in_place()
        try:
            result = operation(self, *arguments)
        except sqlite3.Error:
            self._check_in_place()  # which may be why
            raise
        if self._path and not self._known:
            self._known = _files(self._path)._replace(main=self._main)
        return result

    def let_go(self) -> None:
        """Leave nothing behind of a file that is no longer at its path (rule 4).

        Raises:
            sqlite3.Error: Its log is still in use.
        """
        if not self._path or not self._known:
            return
        found = _files(self._path)
        moved = found.main != self._known.main
        if moved or not found.log:
            self.rollback()
            busy, *_ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                msg = "it was deleted or replaced, and another process still reads what was there"
                raise sqlite3.OperationalError(msg)
        if moved and found.log == self._known.log:
            Path(f"{self._path}-wal").unlink()
            Path(f"{self._path}-shm").unlink(missing_ok=True)

    def close(self) -> None:
        with suppress(OSError, sqlite3.Error):
            self.let_go()
        super().close()
        if self._path:
            _open.remove((self._path, self._process))
            self._path = None

    def _check_in_place(self) -> None:
        if self._path and self._known not in (None, _files(self._path)):
            msg = "it, or a file beside it, was deleted or replaced while it was open"
            raise sqlite3.OperationalError(msg)


class _Files(NamedTuple):
    """Which files are at a database's path: device and inode, or None where there is none."""

    main: _Identity | None
    log: _Identity | None
    shared: _Identity | None


def _files(path: str) -> _Files:
    return _Files(_identity(path), _identity(f"{path}-wal"), _identity(f"{path}-shm"))


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
    if _identity(path) and not os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    ):
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
