"""The SQLite store, and one session of it as a handle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Generic, Self, final, get_args, overload

from anyio import Event, fail_after
from anyio.lowlevel import checkpoint_if_cancelled

from tower_memory._arguments import check_choice, check_int, check_seconds, check_text
from tower_memory._codec import ItemCodec
from tower_memory._handle import check_handle
from tower_memory._history import History
from tower_memory._items import Item, Message, to_messages
from tower_memory._store import check_load, check_session_id
from tower_memory._stores import operations
from tower_memory._stores.connection import IN_MEMORY
from tower_memory._stores.database import Database, DatabaseFile, Synchronous, acquire_database
from tower_memory._stores.operations import Caller
from tower_memory._turn import Turn, check_items


@final
class SqliteSessionStore(Generic[Item]):
    """A store in an SQLite file.

    It keeps every promise of `SessionStore`. With the default *synchronous*, a turn is synced to
    disk when `append` returns; if it fails or the process dies, the turn is whole or absent.

    Use the store as an async context manager, or `aclose` it at the end; it opens on first use. A
    closed store may be opened again, also in another event loop. All stores and sessions on a file
    in one event loop share two worker threads and connections (on trio, a portal's thread as well).

    A new file is readable by its owner only. A file of tower-llm is taken over; tower-llm's table
    stays unchanged. Any other program's file is refused. If the open file is deleted, replaced or
    damaged, or the disk is full, operations raise `SessionError` and create no new file. The same
    store works again when the file is restored. Close all programs on it before you restore it.

    >>> import anyio
    >>> from tower_memory import SqliteSessionStore, Turn
    >>> async def main() -> None:
    ...     async with SqliteSessionStore.in_memory() as store:  # or SqliteSessionStore("chat.db")
    ...         await store.append(Turn("user_123", [{"role": "user", "content": "Hi"}]))
    ...         print(await store.load("user_123"))
    >>> anyio.run(main)
    History([{'role': 'user', 'content': 'Hi'}], revision=1)

    Args:
        path: Path of the file, resolved in the constructor, with its symbolic links.
        item_type: Type of the items: any type that msgspec can decode, or ``Any`` for JSON values.
        busy_timeout: Maximum number of seconds that opening the file, and each write, waits
            while another process has locked it; 0 tries once. The default is 5.
        synchronous: When SQLite syncs to disk. ``"full"``, the default, and ``"extra"``: before a
            save returns. ``"normal"``: now and then; a power cut may lose the newest turns, but
            tears none. ``"off"``: never; a power cut may destroy the whole file.
        hot_bytes: Maximum size of the session cache in bytes; 0 caches nothing. A load of a cached
            session reads only its new items. The stores on one file share one cache, and the
            smallest of their values applies. The default is 32 MiB.

    Raises:
        TypeError: A parameter has the wrong type, or msgspec cannot decode *item_type*.
        ValueError: *path* is empty or contains a NUL character, *busy_timeout* or *hot_bytes* is
            negative, or *synchronous* is none of the four.
        SessionError: The file cannot be opened, is refused, or is open in this event loop with
            another value of *synchronous*. Raised when the store opens.
        RuntimeError: An open store is used in another event loop or thread, or in a forked child.
    """

    @overload
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        item_type: type[Item],
        busy_timeout: float = ...,
        synchronous: Synchronous = ...,
        hot_bytes: int = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: SqliteSessionStore[Any],
        path: str | os.PathLike[str],
        *,
        item_type: Any = ...,
        busy_timeout: float = ...,
        synchronous: Synchronous = ...,
        hot_bytes: int = ...,
    ) -> None: ...
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        item_type: Any = Any,
        busy_timeout: float = 5.0,
        synchronous: Synchronous = "full",
        hot_bytes: int = 32 * 2**20,
    ) -> None:
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        check_text("path", name)
        if "\0" in name:
            msg = f"path must not hold a NUL character, got {name!r}"
            raise ValueError(msg)

        check_seconds("busy_timeout", busy_timeout)
        check_choice("synchronous", synchronous, get_args(Synchronous))
        check_int("hot_bytes", hot_bytes, least=0)

        self.item_type = item_type
        self.busy_timeout = busy_timeout
        self._hot_bytes = hot_bytes
        self._synchronous: Synchronous = synchronous
        self._file = (
            DatabaseFile(name, private=object())
            if name == IN_MEMORY
            else DatabaseFile(os.path.realpath(name))
        )
        self._codec: ItemCodec[Item] = ItemCodec(item_type)
        self._database: Database | None = None
        self._opening: Event | None = None

    @classmethod
    def in_memory(cls, *, item_type: Any = Any) -> SqliteSessionStore[Any]:
        """Return a store in a private in-memory database, which is lost when it is closed."""
        return cls(IN_MEMORY, item_type=item_type)

    def session(self, session_id: str) -> SqliteSession[Item]:
        """Return a handle for one session. Closing the handle leaves this store open."""
        return SqliteSession(session_id, self)

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """Return the newest *limit* items, oldest first; None returns all (`SessionStore.load`)."""
        check_load(session_id, limit)
        database = await self._opened()
        return await database.load(session_id, limit, self._codec)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        encoded = self._codec.encode(turn.items, turn.session_id)
        append = partial(operations.append, turn=turn, encoded=encoded)
        database = await self._opened()
        return await database.write(turn.session_id, append, self.busy_timeout)

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`).

        A call that is cancelled before it has begun removes nothing. After that, only native
        asyncio cancellation ends it: the item is then perhaps removed.
        """
        check_session_id(session_id)
        pop = partial(operations.pop, session_id=session_id, codec=self._codec)
        database = await self._opened()
        with fail_after(None, shield=True):
            return await database.write(session_id, pop, self.busy_timeout)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        check_session_id(session_id)
        clear = partial(operations.clear, session_id=session_id)
        database = await self._opened()
        await database.write(session_id, clear, self.busy_timeout)

    async def aclose(self) -> None:
        """Close the store after its operations in progress. Closing a closed store does nothing."""
        if self._opening is not None:
            await self._opening.wait()
        if self._database is not None:
            self._database.check()
            database, self._database = self._database, None
            await database.release()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _opened(self) -> Database:
        if self._database is not None:
            self._database.check()
        await checkpoint_if_cancelled()  # so an already cancelled call changes nothing
        return self._database or await self._open()

    async def _open(self) -> Database:
        caller = Caller(self.busy_timeout)
        while (database := self._database) is None:
            if self._opening is not None:  # by another task
                await self._opening.wait()
                continue

            opening = self._opening = Event()
            try:
                self._database = await acquire_database(
                    self._file, self._synchronous, self._hot_bytes, caller
                )
            finally:
                self._opening = None
                opening.set()
        return database

    def __eq__(self, other: object) -> bool:
        """Return True if *other* is a store on the same file, of any item type."""
        return isinstance(other, SqliteSessionStore) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)

    def __repr__(self) -> str:
        return f"SqliteSessionStore({self._file.path!r})"


@final
class SqliteSession(Generic[Item]):
    """One session in an SQLite file, as a handle.

    It satisfies openai-agents' ``Session``: ``Runner.run(agent, "Hi", session=session)`` takes it.
    Its methods keep the promises of `SessionStore` and raise its errors. It opens on first use.
    Close it: `aclose` or ``async with``. Handles on a file in one event loop share its threads.

    >>> import anyio
    >>> from tower_memory import SqliteSession
    >>> async def main() -> None:
    ...     async with SqliteSession.in_memory("user_123") as session:  # or ("user_123", "chat.db")
    ...         await session.add_items([{"role": "user", "content": "Hi"}])
    ...         print(await session.get_messages())
    >>> anyio.run(main)
    [Message(role='user', content='Hi', name=None, tool_call_id=None, tool_calls=None)]

    Args:
        session_id: Id of the session: any text but the empty one.
        path: Path of the file, as for `SqliteSessionStore`; or a store, which `aclose` leaves open.
        item_type: Type of the items, as for `SqliteSessionStore`; a given store keeps its own.

    Attributes:
        session_settings: openai-agents' settings of the session, or None. Its ``limit`` is the
            default of `get_items` and `get_messages`.

    Raises:
        TypeError: *session_id* or *path* has the wrong type, or msgspec cannot decode *item_type*.
        ValueError: *session_id* or *path* is empty or not valid Unicode, or they look swapped.
    """

    @overload
    def __init__(self, session_id: str, path: SqliteSessionStore[Item]) -> None: ...
    @overload
    def __init__(
        self, session_id: str, path: str | os.PathLike[str], *, item_type: type[Item]
    ) -> None: ...
    @overload
    def __init__(
        self: SqliteSession[Any],
        session_id: str,
        path: str | os.PathLike[str],
        *,
        item_type: Any = ...,
    ) -> None: ...
    def __init__(
        self,
        session_id: str,
        path: str | os.PathLike[str] | SqliteSessionStore[Item],
        *,
        item_type: Any = Any,
    ) -> None:
        check_handle(session_id, path)
        self.session_id: str = session_id
        self.session_settings: Any = None
        self._owns_store = not isinstance(path, SqliteSessionStore)
        self._store: SqliteSessionStore[Item] = (
            path
            if isinstance(path, SqliteSessionStore)
            else SqliteSessionStore(path, item_type=item_type)
        )

    @classmethod
    def in_memory(cls, session_id: str, *, item_type: Any = Any) -> SqliteSession[Any]:
        """Return a session in a private in-memory database, which is lost when it is closed."""
        return cls(session_id, IN_MEMORY, item_type=item_type)

    async def get_items(self, limit: int | None = None) -> list[Item]:
        """Return the newest *limit* items, oldest first (`SessionStore.load`).

        None means the limit of ``session_settings`` or, without such a limit, all items.
        """
        if limit is None:
            limit = _limit_of(self.session_settings)
        return list(await self._store.load(self.session_id, limit=limit))

    async def add_items(self, items: Iterable[Item]) -> None:
        """Add *items* in order as one turn, all or none (`SessionStore.append`)."""
        check_items(items)
        await self._store.append(Turn(self.session_id, tuple(items)))

    async def pop_item(self) -> Item | None:
        """Remove and return the newest item; None if there is none (`SqliteSessionStore.pop`)."""
        return await self._store.pop(self.session_id)

    async def clear_session(self) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        await self._store.clear(self.session_id)

    async def get_messages(self, limit: int | None = None) -> list[Message]:
        """Return the messages among the newest *limit* items, oldest first (see `get_items`).

        Chat messages and run items become `Message`; items that are no messages are left out.
        """
        return to_messages(await self.get_items(limit))

    async def aclose(self) -> None:
        """Close the handle, and its file unless a store was given. Closing twice does nothing."""
        if self._owns_store:
            await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"SqliteSession({self.session_id!r}, {self._store!r})"


def _limit_of(settings: Any) -> int | None:
    """Return the limit in openai-agents' settings, which are an object or a mapping."""
    if isinstance(settings, Mapping):
        return settings.get("limit")
    return getattr(settings, "limit", None)
