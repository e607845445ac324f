"""Sessions in an SQLite file: the store, and one session of it as a handle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Generic, Self, final, get_args, overload

from anyio import Event, fail_after
from anyio.lowlevel import checkpoint_if_cancelled

from tower_memory._arguments import check_choice, check_seconds, check_text, check_whole
from tower_memory._codec import ItemCodec
from tower_memory._history import History
from tower_memory._items import Item, Message, to_messages
from tower_memory._sessions import Turn, check_items, check_load
from tower_memory._stores import operations
from tower_memory._stores.connection import IN_MEMORY
from tower_memory._stores.database import Database, DatabaseFile, Synchronous, share
from tower_memory._stores.operations import Caller


@final
class SqliteSessionStore(Generic[Item]):
    """Sessions in an SQLite file, kept with every promise of `SessionStore`, and durably: when
    `append` returns, the turn has been synced to disk.

    An async context manager; also usable without, opening on first use, closed with `aclose`.
    Once closed it may be opened again, from another event loop too. The file is created readable
    by its owner only; one that tower-llm wrote is taken over, its own table left as it was; any
    other file is refused. However many sessions, handles and stores use one file in an event
    loop, they share two threads and their connections (three threads on trio).

    What happens to the file while it is open (deleted, replaced, damaged, the disk full) raises,
    and no new file is made in its place. Once it is mended, put back, or another file of ours put
    there, the same store goes on with what is there.

    >>> import anyio
    >>> async def main():
    ...     async with SqliteSessionStore.in_memory() as store:
    ...         await store.append(Turn("user_123", [{"role": "user", "content": "Hi"}]))
    ...         return await store.load("user_123")
    >>> anyio.run(main)
    History([{'role': 'user', 'content': 'Hi'}], revision=1)

    Args:
        path: The file; relative to the folder that is current now.
        item_type: What the items are: any type msgspec decodes; ``Any`` for JSON values.
        busy_timeout: Seconds to wait for another process's lock before a write is given up.
        synchronous: When SQLite syncs. ``"full"`` and ``"extra"``: before a save returns.
            ``"normal"``: now and then; a power cut may take the last saves, and tears none.
            ``"off"``: never; a power cut may take the whole file.
        hot_bytes: Bytes that the sessions in use may take in memory, so that of each only what is
            new is read; 0 keeps none. Stores that share a file share these, and the least of
            what they allow is what counts.

    Raises:
        TypeError: *path* is no path, or a parameter is of another type.
        ValueError: *path* is empty, *busy_timeout* or *hot_bytes* is negative, or *synchronous*
            is none of the four.
        SessionError: When it opens: the file cannot be opened, is not ours, or is open in this
            event loop with another value of *synchronous*.
        RuntimeError: When it is used, while open, from another event loop, thread or a forked
            child. A forked child cannot open the file anew either (`SessionError`).
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
        check_whole("hot_bytes", hot_bytes, least=0)
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
    def in_memory(cls, *, item_type: Any = Any) -> Self:
        """A store in a database of its own that is gone when it is closed."""
        return cls(IN_MEMORY, item_type=item_type)

    def session(self, session_id: str) -> SqliteSession[Item]:
        """One session of this store as a handle. Closing the handle leaves the store open."""
        return SqliteSession(session_id, self)

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """See `SessionStore.load`."""
        check_load(session_id, limit)
        database = await self._opened()
        return await database.load(session_id, limit, self._codec)

    async def append(self, turn: Turn[Item]) -> int:
        """See `SessionStore.append`."""
        encoded = self._codec.encode(turn.items, turn.session_id)
        append = partial(operations.append, turn=turn, encoded=encoded)
        database = await self._opened()
        return await database.write(turn.session_id, append, self.busy_timeout)

    async def pop(self, session_id: str) -> Item | None:
        """See `SessionStore.pop`.

        Cancelled before it is begun, it takes nothing; after that, it is not cancelled, except
        natively on asyncio.
        """
        check_text("session_id", session_id)
        pop = partial(operations.pop, session_id=session_id, codec=self._codec)
        database = await self._opened()
        with fail_after(None, shield=True):
            return await database.write(session_id, pop, self.busy_timeout)

    async def clear(self, session_id: str) -> None:
        """See `SessionStore.clear`."""
        check_text("session_id", session_id)
        clear = partial(operations.clear, session_id=session_id)
        database = await self._opened()
        await database.write(session_id, clear, self.busy_timeout)

    async def aclose(self) -> None:
        """Close the store, after what was asked of it before; closing twice is closing once."""
        if self._opening is not None:
            await self._opening.wait()
        if self._database is not None:
            self._database.check()
            database, self._database = self._database, None
            await database.give_back()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _opened(self) -> Database:
        if self._database is not None:
            self._database.check()
        await checkpoint_if_cancelled()  # whoever is cancelled by now has done nothing
        return self._database or await self._open()

    async def _open(self) -> Database:
        caller = Caller(self.busy_timeout)
        while (database := self._database) is None:
            if self._opening is not None:  # by another task
                await self._opening.wait()
                continue
            opening = self._opening = Event()
            try:
                self._database = await share(self._file, self._synchronous, self._hot_bytes, caller)
            finally:
                self._opening = None
                opening.set()
        return database

    def __eq__(self, other: object) -> bool:
        """Stores on one file are equal: their sessions are the same sessions."""
        return isinstance(other, SqliteSessionStore) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)

    def __repr__(self) -> str:
        return f"SqliteSessionStore({self._file.path!r})"


@final
class SqliteSession(Generic[Item]):
    """One conversation in an SQLite file, as a handle.

    An async context manager; also usable without, opening on first use, closed with `aclose`.
    Handles on one file in one event loop share what is open. It satisfies openai-agents'
    ``Session`` and can be given to ``Runner.run(session=...)``.

    >>> import anyio
    >>> async def main():
    ...     async with SqliteSession.in_memory("user_123") as session:
    ...         await session.add_items([{"role": "user", "content": "Hi"}])
    ...         return await session.get_messages()
    >>> anyio.run(main)
    [Message(role='user', content='Hi', name=None, tool_call_id=None, tool_calls=None)]

    Args:
        session_id: The session; any text but the empty one.
        path: The file, as for `SqliteSessionStore`; or a store, which the handle leaves open.
        item_type: What the items are, as for `SqliteSessionStore`.

    Attributes:
        session_settings: What openai-agents keeps with a session, or None. Its ``limit`` is the
            limit where none is given.
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
        check_text("session_id", session_id)
        self.session_id: str = session_id
        self.session_settings: Any = None
        self._owns_store = not isinstance(path, SqliteSessionStore)
        self._store: SqliteSessionStore[Item] = (
            path
            if isinstance(path, SqliteSessionStore)
            else SqliteSessionStore(path, item_type=item_type)
        )

    @classmethod
    def in_memory(cls, session_id: str, *, item_type: Any = Any) -> Self:
        """A session in a database of its own that is gone when it is closed."""
        return cls(session_id, IN_MEMORY, item_type=item_type)

    async def get_items(self, limit: int | None = None) -> list[Item]:
        """See `SessionStore.load`. Without *limit*, the limit of ``session_settings`` holds."""
        if limit is None:
            limit = _limit_of(self.session_settings)
        return list(await self._store.load(self.session_id, limit=limit))

    async def add_items(self, items: Iterable[Item]) -> None:
        """Add *items*, all or none, in order: a turn, as in `SessionStore.append`."""
        check_items(items)
        await self._store.append(Turn(self.session_id, tuple(items)))

    async def pop_item(self) -> Item | None:
        """See `SessionStore.pop`."""
        return await self._store.pop(self.session_id)

    async def clear_session(self) -> None:
        """See `SessionStore.clear`."""
        await self._store.clear(self.session_id)

    async def get_messages(self, limit: int | None = None) -> list[Message]:
        """The messages among the newest *limit* items, oldest first; among all of them without.

        Chat messages and run items become `Message`; what is no message is left out.
        """
        return to_messages(await self.get_items(limit))

    async def aclose(self) -> None:
        """Close the handle; closing twice is closing once."""
        if self._owns_store:
            await self._store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"SqliteSession({self.session_id!r}, {self._store!r})"


def _limit_of(settings: Any) -> int | None:
    """The limit in openai-agents' settings, which are an object or a mapping."""
    if isinstance(settings, Mapping):
        return settings.get("limit")
    return getattr(settings, "limit", None)
