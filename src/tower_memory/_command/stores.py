"""The place of the command's conversations: an SQLite file, or a Postgres database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
)
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, final

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tower_memory import (
    SessionCatalog,
    SessionErasure,
    SessionSearch,
    SessionStore,
    SqliteSessionStore,
)
from tower_memory._command.errors import CommandError
from tower_memory._command.options import is_server
from tower_memory._command.progress import show_progress
from tower_memory._stores.sql.importing import Entry, Imported
from tower_memory._stores.sql.stored import Snapshot
from tower_memory._stores.sqlite import stored
from tower_memory._stores.sqlite.importing import import_entries
from tower_memory._stores.sqlite.whole_file import PATIENCE, read_whole, write_whole

T = TypeVar("T")


class Store(SessionStore[Any], SessionCatalog, SessionSearch, SessionErasure, Protocol):
    """A store with the capabilities that the command uses."""


class Database(Protocol):
    """The place of the conversations: an SQLite file, or the tables of a Postgres database.

    Attributes:
        name: The name for people, without a password.
        after_erasure: Advice after an erasure: how the last bytes are removed.
        after_failed_import: End of the error of an import that failed while it wrote.
    """

    @property
    def name(self) -> str: ...
    @property
    def after_erasure(self) -> str: ...
    @property
    def after_failed_import(self) -> str: ...

    def check_exists(self) -> None:
        """Refuse a place without conversations, which opening would create.

        Raises:
            CommandError: There is no file.
            SessionError: The database has no tables, or cannot be reached.
        """
        ...

    def store(self) -> AbstractAsyncContextManager[Store]:
        """Return the store, which is not open yet."""
        ...

    def read(self) -> AbstractContextManager[Snapshot]:
        """Open a snapshot of all sessions, for reading; create no file and no tables."""
        ...

    def write(self, entries: Iterable[Entry]) -> Imported:
        """Write the sessions and turns of an import; create a missing file or missing tables."""
        ...


@final
class File:
    """An SQLite file; see `Database`."""

    after_erasure = "`tower-memory scrub` removes the last bytes from the file"
    after_failed_import = "nothing was imported"

    def __init__(self, path: str) -> None:
        self.name = path

    def check_exists(self) -> None:
        """See `Database.check_exists`."""
        if not Path(self.name).exists():
            msg = f"there is no file {self.name}; give the file of the conversations with --db"
            raise CommandError(msg)

    def store(self) -> SqliteSessionStore[Any]:
        """See `Database.store`."""
        return SqliteSessionStore(self.name, busy_timeout=PATIENCE)

    @contextmanager
    def read(self) -> Generator[Snapshot]:
        """See `Database.read`."""
        self.check_exists()
        with read_whole(self.name) as connection:
            yield Snapshot(stored, connection)

    def write(self, entries: Iterable[Entry]) -> Imported:
        """See `Database.write`. One transaction writes all."""
        with write_whole(self.name) as connection:
            return import_entries(connection, entries)


def database_of(options: argparse.Namespace) -> Database:
    """Return the place that ``--db`` names.

    Raises:
        CommandError: It is a Postgres database, and psycopg is not installed.
        ValueError: libpq cannot read the URL.
    """
    if not is_server(options.db):
        return File(options.db)

    try:
        from tower_memory._command.server import Server  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        msg = "a Postgres database needs psycopg: pip install 'tower-memory[postgres]'"
        raise CommandError(msg) from error
    return Server(options.db, options.schema)


def file_of(options: argparse.Namespace, instead: str) -> File:
    """Return the SQLite file that ``--db`` names, which must exist.

    *instead* says what to do for a Postgres database.

    Raises:
        CommandError: It is a Postgres database, or there is no such file.
    """
    if is_server(options.db):
        msg = f"{options.command} is for SQLite files; on Postgres, {instead}"
        raise CommandError(msg)
    file = File(options.db)
    file.check_exists()
    return file


class Opened(NamedTuple):
    """An open store, the portal to its event loop, and the name of the place for people."""

    portal: BlockingPortal
    store: Store
    name: str


@contextmanager
def enter(opening: AbstractAsyncContextManager[T]) -> Generator[tuple[BlockingPortal, T]]:
    """Open a store in an event loop of its own, and close it at the end."""
    with start_blocking_portal() as portal, ExitStack() as resources:
        with show_progress(sys.stderr):
            store = resources.enter_context(portal.wrap_async_context_manager(opening))
        yield portal, store


@contextmanager
def open_store(database: Database) -> Generator[Opened]:
    """Open the store, and close it at the end; create a missing file or missing tables."""
    with enter(database.store()) as (portal, store):
        yield Opened(portal, store, database.name)


@contextmanager
def open_existing(database: Database) -> Generator[Opened]:
    """Open the store, which must exist; see `Database.check_exists`."""
    database.check_exists()
    with open_store(database) as opened:
        yield opened
