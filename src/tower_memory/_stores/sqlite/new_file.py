"""The checks of a path before SQLite opens it, and the creation of a missing file.

Every check comes before the file is created, so a refused path leaves nothing behind.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from errno import EACCES
from pathlib import Path
from threading import Lock
from typing import Final

from tower_memory._arguments import check_text

IN_MEMORY: Final = ":memory:"
"""The path that SQLite reads as "a database in memory"."""

_LONGEST_SUFFIX: Final = len("-journal")
"""Bytes that SQLite adds to the path for a file beside the database."""

_MAX_PATH: Final = 512 - _LONGEST_SUFFIX
"""Maximum bytes of a path, by the limit of 512 bytes in SQLite's code for POSIX systems."""

# When a process closes a file, it loses all its POSIX locks on that file. So no thread may open a
# new file before the thread that created it has closed it.
_creating = Lock()


def _renew_lock() -> None:
    """Make a new lock in a forked child: the thread that held the old one is not there."""
    global _creating  # noqa: PLW0603 - the lock is one for the whole process
    _creating = Lock()


os.register_at_fork(after_in_child=_renew_lock)


def check_path(path: str) -> None:
    """Refuse a path that is too long for SQLite or for the file system.

    Raises:
        sqlite3.OperationalError: The path is too long.
    """
    length = len(os.fsencode(path))
    if length > _MAX_PATH:
        msg = f"its path has {length} bytes, and SQLite opens at most {_MAX_PATH}; shorten it"
        raise sqlite3.OperationalError(msg)

    folder, name = os.path.split(path)
    with suppress(OSError):  # opening the file tells what is wrong with the folder
        most = os.pathconf(folder, "PC_NAME_MAX") - _LONGEST_SUFFIX
        if (length := len(os.fsencode(name))) > most:
            msg = f"its name has {length} bytes, and SQLite opens at most {most} here; shorten it"
            raise sqlite3.OperationalError(msg)


def create_private(path: str) -> None:
    """Create a missing file, readable by its owner only. SQLite gives side files the same mode."""
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def check_file(path: str) -> None:
    """Refuse a file that another user prepared, that has other names, or that is not writable.

    SQLite would open a file that is not writable read-only, and the connection would stay read-only
    even after the file has become writable.

    Raises:
        sqlite3.OperationalError: The file has several hard links, or is empty and another user's.
        PermissionError: The file is not writable.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - as elsewhere in this package
    except FileNotFoundError:
        return

    if found.st_nlink > 1 and not Path(path).is_dir():
        msg = (
            f"it has {found.st_nlink} hard links, and a program that opens it under another name "
            "would not see this program's log; remove the others, or open a copy of it"
        )
        raise sqlite3.OperationalError(msg)

    if found.st_size == 0 and found.st_uid != os.geteuid():
        msg = (
            f"it is empty and belongs to the user with id {found.st_uid}, who would own all that "
            "is written; delete it, or make it your own with chown"
        )
        raise sqlite3.OperationalError(msg)

    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(EACCES, os.strerror(EACCES), path)


def has_content(path: str) -> bool:
    """Return True if there is a file at *path* that is not empty."""
    file = Path(path)
    return file.is_file() and file.stat().st_size > 0


def checked_path(path: str | os.PathLike[str]) -> str:
    """Return *path* as text, or raise if no file can have it."""
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    check_text("path", name)
    if "\0" in name:
        msg = f"path must not hold a NUL character, got {name!r}"
        raise ValueError(msg)
    return name


def checked_target(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a backup, or raise if no file can have it."""
    name = checked_path(path)
    if name == IN_MEMORY:
        msg = f"path must be the path of a new file, got {name!r}"
        raise ValueError(msg)
    return os.path.abspath(name)  # noqa: PTH100 - a final symbolic link is not followed
