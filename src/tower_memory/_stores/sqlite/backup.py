"""A copy of a database in a new file, written on a thread while others use the database.

1. The copy is of one moment: a read transaction keeps later commits out of it. It has a connection
   of its own, so loads through the reader's connection see these commits.
2. The copy is written under a temporary name beside its path, synced, and then renamed. So a file
   at the path is whole. The temporary file is removed after a failure or a cancellation.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from errno import EEXIST
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

from tower_memory._errors import SessionError
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.new_file import check_path, create_private
from tower_memory._stores.sqlite.schema import make_read_only

_STEP: Final = 256
"""Number of pages that are copied between two calls of *keep_going*."""


def back_up(file: str, path: str, keep_going: Callable[[], bool]) -> None:
    """Copy the database *file* to the new file *path*.

    Raises:
        SessionError: As for `copy_to`, or *file* cannot be read.
    """
    with _named(path), closing(Connection(file, create=False, isolation_level=None)) as source:
        source.run(make_read_only)
        source.run(partial(copy_to, path=path, keep_going=keep_going))


def copy_to(source: sqlite3.Connection, path: str, keep_going: Callable[[], bool]) -> None:
    """Copy the database of the connection *source* to the new file *path*.

    Raises:
        SessionError: The copy cannot be written, *path* exists, or *keep_going* returned False.
    """
    temporary = Path(path).with_name(f".{token_hex(8)}.tmp")
    with _named(path):
        check_path(path)
        _refuse_existing(path)

        try:
            create_private(str(temporary))
            _copy_pages(source, temporary, keep_going)
            _sync(temporary)
            _refuse_existing(path)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)

        _sync(temporary.parent)


def _copy_pages(
    source: sqlite3.Connection, temporary: Path, keep_going: Callable[[], bool]
) -> None:
    def check(_status: int, _remaining: int, _total: int) -> None:
        if not keep_going():
            msg = "the caller was cancelled"
            raise sqlite3.OperationalError(msg)

    target = sqlite3.connect(f"{temporary.as_uri()}?mode=rw", uri=True, isolation_level=None)
    with closing(target):
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")  # the whole file is synced at the end
        source.execute("BEGIN")
        try:
            source.execute("PRAGMA user_version").fetchone()  # begins to read (rule 1)
            source.backup(target, pages=_STEP, progress=check)
        finally:
            source.execute("ROLLBACK")


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise FileExistsError(EEXIST, "it exists; choose the path of a new file", path)


def _sync(path: Path) -> None:
    """Write a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named(path: str) -> Generator[None]:
    """Raise errors of the database or the copy as `SessionError`, which names the *path*."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"cannot write a backup to {path}: {reason}"
        raise SessionError(msg) from error
