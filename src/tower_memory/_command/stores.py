"""The file of the command, opened as a store."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tower_memory import SqliteSessionStore
from tower_memory._command.errors import CommandError
from tower_memory._command.progress import show_progress
from tower_memory._stores.sqlite.whole_file import PATIENCE


class Opened(NamedTuple):
    """An open store, and the portal to the event loop in which it lives."""

    portal: BlockingPortal
    store: SqliteSessionStore[Any]


def check_exists(path: str) -> None:
    """Refuse a path without a file, which opening would create.

    Raises:
        CommandError: There is no file at *path*.
    """
    if not Path(path).exists():
        msg = f"there is no file {path}; give the file of the conversations with --db"
        raise CommandError(msg)


@contextmanager
def open_store(path: str) -> Generator[Opened]:
    """Open the store at *path*, and close it at the end; a missing file is created."""
    with start_blocking_portal() as portal, ExitStack() as resources:
        opening = portal.wrap_async_context_manager(SqliteSessionStore(path, busy_timeout=PATIENCE))
        with show_progress(sys.stderr):
            store = resources.enter_context(opening)
        yield Opened(portal, store)


@contextmanager
def open_existing(path: str) -> Generator[Opened]:
    """Open the store at *path*, which must exist.

    Raises:
        CommandError: There is no file at *path*.
    """
    check_exists(path)
    with open_store(path) as opened:
        yield opened
