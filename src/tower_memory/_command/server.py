"""A Postgres database as the place of the command's conversations.

Of the command, only this module needs psycopg.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, final

from tower_memory._stores.postgres import stored
from tower_memory._stores.postgres.database import Address
from tower_memory._stores.postgres.direct import connected, snapshot
from tower_memory._stores.postgres.importing import import_entries
from tower_memory._stores.postgres.store import check_conninfo
from tower_memory._stores.sql.importing import Entry, Imported
from tower_memory._stores.sql.stored import Snapshot
from tower_memory.postgres import PostgresSessionStore


@final
class Server:
    """The tables of a Postgres database; see `Database`.

    Args:
        url: The URL of the database.
        schema: The Postgres schema that has the tables.
    """

    after_erasure = "how the last bytes leave the server: see help(tower_memory.postgres)"
    after_failed_import = "import it again to add the rest"

    def __init__(self, url: str, schema: str) -> None:
        check_conninfo(url)
        self._address = Address(url, schema)
        self.name = self._address.name

    def check_exists(self) -> None:
        """See `Database.check_exists`."""
        with connected(self._address, create=False):
            pass

    def store(self) -> PostgresSessionStore[Any]:
        """See `Database.store`."""
        return PostgresSessionStore(self._address.conninfo, schema=self._address.schema)

    @contextmanager
    def read(self) -> Generator[Snapshot]:
        """See `Database.read`."""
        with connected(self._address, create=False) as link, snapshot(link) as connection:
            yield Snapshot(stored, connection)

    def write(self, entries: Iterable[Entry]) -> Imported:
        """See `Database.write`. A transaction writes each session."""
        with connected(self._address, create=True) as link:
            return import_entries(link, entries)
