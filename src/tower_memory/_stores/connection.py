"""The connection: sqlite3's own, running whole functions, to a file that only its owner can read.

1. aiosqlite hands what it is told to execute through to its thread, untouched. A connection that
   also takes functions is its public way of running more than one statement there in one go.
2. The file is created here, before SQLite would create it readable by all.
3. A forked child opens no file that was open at the fork: SQLite keeps, for the whole process,
   what it knows of its open files, and the child would lack the locks that go with it.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from dataclasses import dataclass
from threading import Lock
from typing import Any, final

# Closing a file drops every lock that its process has on it (POSIX), so nobody may open a file
# that was just created until it is closed.
_creating = Lock()
_counting = Lock()

_open: Counter[tuple[str, int]] = Counter()
"""How often each file is open, and in which process."""

IN_MEMORY = ":memory:"
"""What SQLite takes for a path to no file."""


@final
class Connection(sqlite3.Connection):
    """A connection that executes functions, too: ``execute(load, arguments)``."""

    def __init__(self, path: str, **settings: Any) -> None:
        process = os.getpid()
        if any(open_path == path and opener != process for open_path, opener in +_open.copy()):
            msg = "it was open when this process was forked; open it after, or spawn the process"
            raise sqlite3.ProgrammingError(msg)
        self._counted = (path, process) if path != IN_MEMORY else None
        if self._counted:
            _create_private(path)
        super().__init__(path, **settings)
        if self._counted:
            with _counting:
                _open[self._counted] += 1

    def close(self) -> None:
        super().close()
        if self._counted:
            with _counting:
                _open[self._counted] -= 1
            self._counted = None

    def execute(self, operation: Any, parameters: Any = (), /) -> Any:
        if callable(operation):
            return _Result(operation(self, *parameters))
        return super().execute(operation, parameters)


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
