"""A SQLite connection that runs whole functions and checks that its file is in place.

1. Functions: aiosqlite passes the arguments of ``execute`` to its thread unchanged. Because
   ``execute`` also accepts a function here, aiosqlite's public API runs any function on the thread.
2. New files: this module creates a missing file, readable by its owner only. SQLite would create it
   readable by every user. A file that SQLite cannot open, or that another user or another name
   could change, is refused before anything is created (`check_path`).
3. Forks: a forked child does not open a file that was open at the fork. SQLite keeps the state of
   open files for the whole process, and the child inherits that state without the file locks.
4. Replaced files: if the file or one of its side files (write-ahead log, shared memory) is no
   longer at its path, every operation raises. Before the connection closes, it copies the log's
   content into the file that it has open, wherever that file is now, and removes the log.
   Otherwise SQLite would apply the log to the file that has taken its place.
5. Shared memory that was cut: reading beyond the end of a mapped file kills the process (SIGBUS).
   So the file gets its length back, filled with zeros, before an operation raises; SQLite then
   rebuilds it from the log. If the file is cut while an operation runs, nothing can catch it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, final

from tower_memory._stores.sqlite.new_file import IN_MEMORY, check_file, check_path, create_private

T = TypeVar("T")
_Identity: TypeAlias = tuple[int, int]

_open: list[tuple[str, int]] = []
"""The path of each open file, and the id of the process that opened it."""


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
            check_path(path)
            if create:
                create_private(path)
            check_file(path)
            self._main = _identity(path)
            path = f"{Path(path).as_uri()}?mode=rw"  # keeps SQLite from creating a file

        super().__init__(path, uri=True, **settings)
        if self._path:
            _open.append((self._path, self._process))

    def execute(self, operation: Any, parameters: Any = (), /) -> Any:
        if callable(operation):
            return _Result(operation(self, *parameters))
        return super().execute(operation, parameters)

    def run(self, operation: Callable[[Connection], T]) -> T:
        """Run *operation(connection)* if the file is in place, and return its result.

        Raises:
            sqlite3.OperationalError: The file or a side file was deleted, replaced or cut.
        """
        self.check_in_place()
        try:
            result = operation(self)
        except sqlite3.Error as error:
            raise self.explain(error) from error

        if self._path and not self._known:
            self._known = _files(self._path)._replace(main=self._main)
        return result

    def explain(self, error: BaseException) -> BaseException:
        """Return *error*, or the better explanation that the file is no longer in place."""
        if isinstance(error, sqlite3.Error):
            try:
                self.check_in_place()
            except (OSError, sqlite3.Error) as explanation:
                explanation.__cause__ = error
                return explanation
        return error

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

    def check_in_place(self) -> None:
        """Raise `sqlite3.OperationalError` if the file was deleted, replaced or cut (rule 4)."""
        if not self._path or self._known is None:
            return

        found = _files(self._path)
        if found[:3] != self._known[:3]:
            msg = "it, or a file beside it, was deleted or replaced while it was open"
            raise sqlite3.OperationalError(msg)

        if found.shared_size < self._known.shared_size:
            # Not through a file of Python's: closing that would drop this process's locks.
            os.truncate(f"{self._path}-shm", self._known.shared_size)
            msg = "its shared memory file was cut while it was open"
            raise sqlite3.OperationalError(msg)
        self._known = found


class _Files(NamedTuple):
    """The files at a database's path, each as device and inode; None for a missing file.

    Attributes:
        main: The database.
        log: The write-ahead log.
        shared: The shared memory.
        shared_size: Its size in bytes.
    """

    main: _Identity | None
    log: _Identity | None
    shared: _Identity | None
    shared_size: int


def _files(path: str) -> _Files:
    try:
        shared = os.stat(f"{path}-shm")  # noqa: PTH116 - as in `_identity`
    except FileNotFoundError:
        return _Files(_identity(path), _identity(f"{path}-wal"), None, 0)
    identity = shared.st_dev, shared.st_ino
    return _Files(_identity(path), _identity(f"{path}-wal"), identity, shared.st_size)


@final
@dataclass(frozen=True, slots=True)
class _Result:
    """A function's result, offered through the method by which aiosqlite fetches rows."""

    value: Any

    def fetchall(self) -> Any:
        return self.value


def _identity(path: str) -> _Identity | None:
    """Return the device and inode of the file at *path*, or None if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - twice as fast, and called for each operation
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
