"""The SQLite store."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, final, get_args, overload

from anyio.lowlevel import checkpoint_if_cancelled

from tower_memory._arguments import check_choice, check_int, check_seconds, check_text
from tower_memory._codec import ItemCodec
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._store import check_load, check_session_id
from tower_memory._stores.sqlite import writes
from tower_memory._stores.sqlite.connections import DatabaseFile, Synchronous
from tower_memory._stores.sqlite.new_file import IN_MEMORY
from tower_memory._stores.sqlite.open_file import OpenFile, acquire
from tower_memory._turn import Turn

if TYPE_CHECKING:
    from tower_memory._stores.sqlite.session import SqliteSession


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
            tears none.
        hot_bytes: Maximum size of the session cache in bytes; 0 caches nothing. A load of a cached
            session reads only its new items. The stores on one file share one cache, and the
            smallest of their values applies. The default is 32 MiB.

    Raises:
        TypeError: A parameter has the wrong type, or msgspec cannot decode *item_type*.
        ValueError: *path* is empty or contains a NUL character, *busy_timeout* or *hot_bytes* is
            negative, or *synchronous* is none of the three.
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
        self._opened: OpenFile | None = None

    @classmethod
    def in_memory(cls, *, item_type: Any = Any) -> SqliteSessionStore[Any]:
        """Return a store in a private in-memory database, which is lost when it is closed."""
        return cls(IN_MEMORY, item_type=item_type)

    def session(self, session_id: str) -> SqliteSession[Item]:
        """Return a handle for one session. Closing the handle leaves this store open."""
        from tower_memory._stores.sqlite.session import (  # noqa: PLC0415 - it imports this module
            SqliteSession,
        )

        return SqliteSession(session_id, self)

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """Return the newest *limit* items, oldest first; None returns all (`SessionStore.load`)."""
        check_load(session_id, limit)
        file = await self._open_file()
        return await file.load(session_id, limit, self._codec, self.busy_timeout)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        encoded = self._codec.encode(turn.items, turn.session_id)
        append = partial(writes.append, turn=turn, encoded=encoded)
        file = await self._open_file()
        return await file.write(turn.session_id, append, self.busy_timeout)

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`).

        A call that is cancelled before it has begun removes nothing. After that, only native
        asyncio cancellation ends it: the item is then perhaps removed.
        """
        check_session_id(session_id)
        pop = partial(writes.pop, session_id=session_id, codec=self._codec)
        file = await self._open_file()
        return await file.write(session_id, pop, self.busy_timeout, shield=True)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        check_session_id(session_id)
        clear = partial(writes.clear, session_id=session_id)
        file = await self._open_file()
        await file.write(session_id, clear, self.busy_timeout)

    async def aclose(self) -> None:
        """Close the store after its operations in progress. Closing a closed store does nothing.

        If a timeout or another native cancellation ends the call, the store closes nevertheless. A
        store that was left open when its event loop ended may be closed from any event loop.
        """
        file = self._opened
        if file is not None and not file.is_closed:
            file.check_closing()
            self._opened = None
            await file.close()

    async def __aenter__(self) -> Self:
        file = await self._open_file()
        await file.ready(self.busy_timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _open_file(self) -> OpenFile:
        """Return the file, which the first operation on it opens."""
        if self._opened is not None and not self._opened.is_closed:
            self._opened.check()
        await checkpoint_if_cancelled()  # so an already cancelled call changes nothing
        if self._opened is None or self._opened.is_closed:
            self._opened = acquire(self._file, self._synchronous, self._hot_bytes)
        return self._opened

    def __eq__(self, other: object) -> bool:
        """Return True if *other* is a store on the same file, of any item type."""
        return isinstance(other, SqliteSessionStore) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)

    def __repr__(self) -> str:
        return f"SqliteSessionStore({self._file.path!r})"
