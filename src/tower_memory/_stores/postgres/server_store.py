"""A store's use of its database: opening it, and running operations on its threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Generator
from functools import partial
from threading import Lock
from typing import Any, Final, Self, TypeVar

from anyio.lowlevel import checkpoint_if_cancelled
from psycopg.conninfo import conninfo_to_dict

from tower_memory._items import Item
from tower_memory._stores.postgres.database import Address, Database
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.proposals import Walk, propose
from tower_memory._stores.postgres.search_index import add_words, find_ends
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.progress import log_progress
from tower_memory._stores.search_text import TextOf
from tower_memory._stores.sql.sql_store import SqlStore

T = TypeVar("T")

_PART_LENGTH: Final = 100
"""Number of turns that are added to the search index in one transaction."""

_IDENTITY: Final = ("host", "hostaddr", "port", "dbname", "service")
"""The parameters of a connection string that name the database."""


class ServerStore(SqlStore[Item]):
    """A store on a server, which the first operation connects to. See `PostgresSessionStore`."""

    def __init__(
        self,
        address: Address,
        *,
        item_type: Any,
        patience: float,
        hot_bytes: int,
        search_index: bool,
        text_of: TextOf[Any] | None,
    ) -> None:
        super().__init__(item_type=item_type, text_of=text_of)
        self.busy_timeout = patience  # the attribute that `SessionStore` names
        self._address = address
        self._hot_bytes = hot_bytes
        self._search_index = search_index
        self._database: Database | None = None
        self._lock = Lock()

    async def aclose(self) -> None:
        """Close the store after its operations in progress. Closing a closed store does nothing.

        If a timeout or another native cancellation ends the call, the store closes nevertheless.
        """
        with self._lock:
            database = self._database
            if database is not None:
                self._check_process(database)
                database.stop()
            self._database = None

        if database is not None:
            await database.wait_until_ended()

    async def __aenter__(self) -> Self:
        try:
            database = await self._open()
            await database.connect()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _open(self) -> Database:
        """Return the open database; if it is not open, start its threads and build the index."""
        if self._database is not None:
            self._check_process(self._database)
        await checkpoint_if_cancelled()  # so an already cancelled call changes nothing

        with self._lock:
            if self._database is None:
                self._database = Database(self._address, self.busy_timeout, self._hot_bytes)
            database = self._database

        if self._search_index and not database.is_indexed:
            await self._build_index(database)
            database.is_indexed = True
        return database

    async def _build_index(self, database: Database) -> None:
        """Add the words of all turns that are not in the search index; log the progress."""
        report = log_progress(self._address.name, "building the search index")
        ends = await database.read_once(find_ends)
        walk = Walk(has_few=True) if ends else None

        while ends and walk:
            find = partial(propose, words=[NOT_INDEXED], walk=walk)
            places, walk = await database.read_once(find)

            while places:
                part, places = places[:_PART_LENGTH], places[_PART_LENGTH:]
                add = partial(add_words, places=part, reader=self._reader)
                await database.write(None, add, may_repeat=True)

            if walk:
                newest, oldest = ends
                report(newest - walk.after[0], newest - oldest + 1)

    async def _read(self, operation: Callable[[Connection], T], session_id: str | None = None) -> T:
        database = await self._open()
        return await database.read_once(operation, session_id)

    async def _read_in_steps(
        self, operation: Callable[[Connection], Generator[None, None, T]]
    ) -> T:
        database = await self._open()
        return await database.read(operation)

    async def _write(self, operation: Callable[[Connection], T], session_id: str) -> T:
        database = await self._open()
        return await database.write(session_id, operation, may_repeat=True)

    async def _write_once(self, operation: Callable[[Connection], T], session_id: str) -> T:
        database = await self._open()
        return await database.write(session_id, operation, may_repeat=False)

    def _check_process(self, database: Database) -> None:
        """Raise `RuntimeError` in a forked child: the threads stayed in the parent process."""
        if database.process != os.getpid():
            msg = (
                f"the store on {self._address.name} was opened in the parent process; fork before "
                "it is opened, or spawn the child"
            )
            raise RuntimeError(msg)

    def _identity(self) -> tuple[object, ...]:
        parameters = conninfo_to_dict(self._address.conninfo)
        return (self._address.schema, *(parameters.get(name) for name in _IDENTITY))

    def __eq__(self, other: object) -> bool:
        """Return True if *other* is a store on the same tables, of any item type."""
        if not isinstance(other, ServerStore):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"PostgresSessionStore({self._address.name!r}, schema={self._address.schema!r})"

    def __del__(self) -> None:
        database = getattr(self, "_database", None)  # None if the constructor refused
        if database is None or database.process != os.getpid():
            return
        database.stop()
        msg = f"{self!r} was not closed: use `async with`, or `aclose` it"
        warnings.warn(msg, ResourceWarning, stacklevel=1, source=self)
