"""The Postgres store.

A plain turn goes from here to `Database.append`, which queues it, and on the writer thread through
the next group commit (`group_commit`) to `append_turns` (`appends`). Every other write is a
function of `writes` or of its capability's module. A load goes to `reading`.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any, Final, final, overload

import psycopg
from anyio import fail_after
from psycopg.conninfo import conninfo_to_dict

from tower_memory._arguments import check_bool, check_int, check_seconds, check_text
from tower_memory._codec import join_array
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._store import check_load, check_session_id
from tower_memory._stores.postgres import catalog, journal, search, summaries, writes
from tower_memory._stores.postgres.appends import Append, Appended
from tower_memory._stores.postgres.database import Address
from tower_memory._stores.postgres.erasing import Erasing
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.postgres.turn_rows import new_turn
from tower_memory._stores.postgres.words import words_of
from tower_memory._stores.records import EncodedTurn, to_datetime
from tower_memory._stores.search_text import TextOf, check_text_of
from tower_memory._stores.session_cache import LastTurn, SessionCache
from tower_memory._stores.sql.cataloguing import Cataloguing
from tower_memory._stores.sql.committed import committed_turn
from tower_memory._stores.sql.journaling import Journaling
from tower_memory._stores.sql.reads import Wanted
from tower_memory._stores.sql.searching import Searching
from tower_memory._stores.sql.summarising import Summarising
from tower_memory._stores.turn_encoding import encoded
from tower_memory._turn import Turn, check_turn

_LONGEST_NAME: Final = 63
"""Number of bytes that Postgres keeps of a name."""


@final
class PostgresSessionStore(
    Cataloguing[Item], Erasing[Item], Journaling[Item], Searching[Item], Summarising[Item]
):
    """A store in a Postgres database.

    It keeps every promise of `SessionStore`, and has all capabilities: `SessionCatalog`,
    `SessionSearch`, `SessionErasure`, `TurnJournal` and `SessionSummaries`. When `append` returns,
    the turn is as durable as the server's ``synchronous_commit`` makes it, by default on its disk;
    if it fails or a process dies, the turn is whole or absent. The guide `tower_memory.postgres`
    tells of faults, of other engines that speak Postgres, and of erased bytes.

    Use the store as an async context manager, or `aclose` it at the end; it connects on first use.
    Connecting creates the tables if they are absent, also in several processes at the same time. A
    closed store may be opened again. An open store has two threads and two connections. It may be
    used in several event loops and threads at the same time. An open store that is
    garbage-collected closes with a `ResourceWarning`.

    >>> from tower_memory.postgres import PostgresSessionStore
    >>> store = PostgresSessionStore("postgresql://app@db.example.com/chat")
    >>> store
    PostgresSessionStore('postgresql://db.example.com/chat', schema='public')

    Args:
        conninfo: Connection string of libpq: a URL, or ``host=... dbname=...``. The parameters that
            it lacks come from libpq's environment variables, such as ``PGPASSWORD``. Errors never
            show it.
        item_type: Type of the items: any type that msgspec can decode, or ``Any`` for JSON values.
        patience: Maximum number of seconds that each operation waits for the server and for the
            locks of other programs; 0 tries once. Each step of a long read or erasure has this
            time anew. The caller gets an answer at most a second after it. The default is 5.
        hot_bytes: Maximum size of the session cache in bytes; 0 caches nothing. A load of a cached
            session reads only its new items, also those of other processes. Of one session, the
            cache keeps at most the newest items that take three quarters of it. The default is
            32 MiB.
        schema: Postgres schema that has the tables. It is created if it is absent.
        search_index: Add the words of each turn to the search index, in the commit of the turn, and
            those of all older turns when the store opens. A search then reads only the turns that
            it finds. Without it, a search reads all turns, or those of its sessions if they are at
            most 1,000. The hits are the same. Use the same value in all programs: every search
            reads the turns that a store without it has saved, until the next store with it opens.
            The opening logs its progress on the logger ``tower_memory``, and other programs can
            write meanwhile.
        text_of: Function that returns additional text of an item, which a search finds, or None. A
            search finds the text that the function returned when a turn was saved, so use the same
            function in all programs. If a turn was saved without such text and is not indexed, a
            search finds the text that the function returns now. It may be called on any thread. An
            error of the function is raised before anything is written.

    Raises:
        TypeError: A parameter has the wrong type, or msgspec cannot decode *item_type*.
        ValueError: libpq cannot read *conninfo*, *schema* cannot be the name of a schema, or
            *patience* or *hot_bytes* is negative.
        SessionError: The server cannot be reached or refuses, or the tables belong to another
            program or a newer version. Raised when the store opens, and by every operation.
        RuntimeError: An open store is used in a forked child.
    """

    _catalog = catalog
    _journal = journal
    _search = search
    _summaries = summaries

    @overload
    def __init__(
        self,
        conninfo: str,
        *,
        item_type: type[Item],
        patience: float = ...,
        hot_bytes: int = ...,
        schema: str = ...,
        search_index: bool = ...,
        text_of: TextOf[Item] | None = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: PostgresSessionStore[Any],
        conninfo: str,
        *,
        item_type: Any = ...,
        patience: float = ...,
        hot_bytes: int = ...,
        schema: str = ...,
        search_index: bool = ...,
        text_of: TextOf[Any] | None = ...,
    ) -> None: ...
    def __init__(
        self,
        conninfo: str,
        *,
        item_type: Any = Any,
        patience: float = 5.0,
        hot_bytes: int = 32 * 2**20,
        schema: str = "public",
        search_index: bool = False,
        text_of: TextOf[Any] | None = None,
    ) -> None:
        check_conninfo(conninfo)
        check_schema(schema)
        check_seconds("patience", patience)
        check_int("hot_bytes", hot_bytes, least=0)
        check_bool("search_index", search_index)
        check_text_of(text_of)

        super().__init__(
            Address(conninfo, schema),
            item_type=item_type,
            patience=patience,
            hot_bytes=hot_bytes,
            search_index=search_index,
            text_of=text_of,
        )

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        check_load(session_id, limit, before)
        database = await self._open()
        return await database.load(Wanted(session_id, limit, before, self._codec))

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        check_turn(turn)
        new = await encoded(turn, self._reader)
        row = new_turn(turn.turn_id, new, words=self._words(new))

        database = await self._open()
        if turn.replaces is not None or not new.items:
            append = partial(writes.append, turn=turn, new=row)
            return await database.write(turn.session_id, append, may_repeat=True)

        add_to_cache = partial(_add_to_cache, database.cache, self._codec.key, turn, new)
        appended = await database.append(Append(turn, row), add_to_cache)
        return appended.revision

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`).

        A call that is cancelled before it has begun removes nothing. Once it has begun, only native
        asyncio cancellation ends it; the item is then perhaps removed. If the connection is lost
        during the commit, the call raises `SessionError`, and the item is perhaps removed.
        """
        check_session_id(session_id)
        pop = partial(writes.pop, session_id=session_id, reader=self._reader)
        database = await self._open()
        with fail_after(None, shield=True):
            return await database.write(session_id, pop, may_repeat=False)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        check_session_id(session_id)
        await self._write(partial(writes.clear, session_id=session_id), session_id)

    def _words(self, new: EncodedTurn) -> str:
        """Return the hashes of a turn's search words, or `NOT_INDEXED` without a search index."""
        if not self._search_index:
            return NOT_INDEXED
        return words_of(join_array(new.items), new.added_text)


def check_conninfo(value: object) -> None:
    """Refuse *value* unless it is a connection string of libpq. The errors do not show it."""
    check_text("conninfo", value)
    try:
        parameters = conninfo_to_dict(str(value))
    except psycopg.Error:
        parameters = None  # libpq's own error may show a password
    if parameters is None:
        msg = (
            "conninfo must be a connection string such as postgresql://user@host/dbname, got a "
            f"text of {len(str(value))} characters that libpq cannot read"
        )
        raise ValueError(msg)

    # Errors show the host, the port and the database, which must not be parts of a password.
    ports = str(parameters.get("port") or "").split(",")
    hosts = str(parameters.get("host") or "").split(",")
    database = str(parameters.get("dbname") or "")
    has_numbers = all(port.isdecimal() for port in ports if port)
    is_nested = "://" in database or "=" in database  # a connection string as the database
    has_at = any("@" in host[1:] for host in hosts)  # @ begins a socket's name
    if "://" in str(value):
        has_at = has_at or "@" in database
    if has_at or is_nested or not has_numbers:
        msg = (
            "conninfo must have a host and a database without @ and =, and a numeric port; in a "
            "URL, percent-encode the characters @ : / ? # % of a password"
        )
        raise ValueError(msg)


def check_schema(value: object) -> None:
    """Refuse *value* unless it can be the name of a Postgres schema."""
    check_text("schema", value)
    if "\0" in str(value):
        msg = "schema must not contain a NUL character"
        raise ValueError(msg)
    if value == "$user":
        msg = "schema must be the name of a schema, got $user, which Postgres replaces by another"
        raise ValueError(msg)
    length = len(str(value).encode())
    if length > _LONGEST_NAME:  # the server cuts it, so two stores might share their tables
        msg = f"schema must have at most {_LONGEST_NAME} bytes of UTF-8, got {length}"
        raise ValueError(msg)


def _add_to_cache(
    cache: SessionCache, key: Hashable, turn: Turn[Any], new: EncodedTurn, appended: Appended
) -> None:
    """Add the turn to the session cache, if it was written."""
    after, before = appended.after, appended.before
    if after is None:
        return

    committed = committed_turn(
        turn,
        new,
        before=before and before.cache_version,
        after=after.cache_version,
        last=LastTurn(after.items - len(new.items), after.version, after.updated_at),
        created_at=to_datetime(after.updated_at * 1000),
    )
    cache.add(key, committed)
