"""The SQLite store.

A write goes from here to `OpenFile.write` (`open_file`), which queues it, and on the worker thread
through the next group commit (`group_commit`) to a function of `writes`. A load goes to
`sql/reads`.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, final, get_args, overload

from anyio import fail_after

from tower_memory._arguments import check_bool, check_choice, check_int, check_seconds
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._store import check_load, check_session_id
from tower_memory._stores.search_text import TextOf, check_text_of
from tower_memory._stores.sql.cataloguing import Cataloguing
from tower_memory._stores.sql.journaling import Journaling
from tower_memory._stores.sql.reads import Wanted
from tower_memory._stores.sql.searching import Searching
from tower_memory._stores.sql.summarising import Summarising
from tower_memory._stores.sqlite import catalog, journal, search, summaries, writes
from tower_memory._stores.sqlite.connections import Connections, DatabaseFile, Synchronous
from tower_memory._stores.sqlite.erasing import Erasing, empty_log
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.new_file import IN_MEMORY, checked_path, checked_target
from tower_memory._stores.sqlite.writes import Appended
from tower_memory._stores.turn_encoding import encoded
from tower_memory._turn import Turn, check_turn

if TYPE_CHECKING:
    from tower_memory._stores.sqlite.session import SqliteSession


@final
class SqliteSessionStore(
    Cataloguing[Item], Searching[Item], Erasing[Item], Journaling[Item], Summarising[Item]
):
    """A store in an SQLite file.

    It keeps every promise of `SessionStore`, and has all capabilities: `SessionCatalog`,
    `SessionSearch`, `SessionErasure`, `TurnJournal` and `SessionSummaries`. With the default
    *synchronous*, a turn is synced to disk when `append` returns; if it fails or the process dies,
    the turn is whole or absent.

    Use the store as an async context manager, or `aclose` it at the end; it opens on first use. A
    closed store may be opened again, also in another event loop. All stores and sessions on a file
    in one event loop share three threads and two connections. An open store that is
    garbage-collected closes with a `ResourceWarning`.

    A new file is readable by its owner only. Opening a file of schema 1, which earlier versions of
    this library wrote, migrates it in one transaction: killed at any moment, the file is of one
    schema or the other. The migration needs free disk space of about three times the file, and logs
    its progress on the logger ``tower_memory``; other processes wait at most their *busy_timeout*.
    Earlier versions can then no longer open the file. A file of tower-llm is taken over;
    tower-llm's table stays unchanged, except for sessions that are erased. Any other program's
    file is refused, and so is an empty file of another user. A file of openai-agents is refused
    until `tower_memory.integrations.openai_agents` has taken it over.

    `erase` removes whole sessions, and `scrub` the last bytes of removed content.

    If the open file is deleted, replaced or damaged, or the disk is full, operations raise
    `SessionError` and create no new file. The same store works again when the file is restored.
    Close all programs on it before you restore it. One damage cannot be caught: if the ``-shm``
    file is cut while an operation runs, the system kills the process.

    Copy an open file with `backup` only. A program that opens and closes its own database file, as
    a copy does, loses its locks on it (a rule of POSIX), and turns of other processes may be lost.

    A file has one name. SQLite keeps its log beside that name, so programs that use two names of
    one file do not see each other's turns, and lose them. A file with several hard links is
    therefore refused. The store cannot detect a single file that is mounted into a container, as
    with ``docker run -v $PWD/chat.db:/data/chat.db``: mount its folder instead.

    >>> import anyio
    >>> from tower_memory import SqliteSessionStore, Turn
    >>> async def main() -> None:
    ...     async with SqliteSessionStore.in_memory() as store:  # or SqliteSessionStore("chat.db")
    ...         await store.append(Turn("user_123", [{"role": "user", "content": "Hi"}]))
    ...         print(list(await store.load("user_123")))
    >>> anyio.run(main)
    [{'role': 'user', 'content': 'Hi'}]

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
            smallest of their values applies. Of one session, the cache keeps at most the newest
            items that take three quarters of it. The default is 32 MiB.
        search_index: Build a search index, unless the file has one, when the store opens. A search
            then reads only the turns that it finds; without an index, it reads all turns. The
            index belongs to the file: once it exists, every store maintains it, in the commit of
            each turn. The building logs its progress on the logger ``tower_memory``, and other
            processes can write meanwhile. It needs SQLite's FTS5; without it, opening the store
            raises `SessionError`. The hits are the same with and without an index.
        text_of: Function that returns additional text of an item, which a search finds, or None.
            An index keeps the text that the function returned when a turn was saved, so use the
            same function in all programs. It may be called on any thread. An error of the function
            is raised before anything is written.

    Raises:
        TypeError: A parameter has the wrong type, or msgspec cannot decode *item_type*.
        ValueError: *path* is empty or contains a NUL character, *busy_timeout* or *hot_bytes* is
            negative, or *synchronous* is none of the three.
        SessionError: The file cannot be opened, is refused, or is open in this event loop with
            another value of *synchronous*. Raised when the store opens.
        RuntimeError: An open store is used in another event loop or thread, or in a forked child.
            A store that was left open when its event loop ended works again after `aclose`.
    """

    _catalog = catalog
    _search = search
    _journal = journal
    _summaries = summaries

    @overload
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        item_type: type[Item],
        busy_timeout: float = ...,
        synchronous: Synchronous = ...,
        hot_bytes: int = ...,
        search_index: bool = ...,
        text_of: TextOf[Item] | None = ...,
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
        search_index: bool = ...,
        text_of: TextOf[Any] | None = ...,
    ) -> None: ...
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        item_type: Any = Any,
        busy_timeout: float = 5.0,
        synchronous: Synchronous = "full",
        hot_bytes: int = 32 * 2**20,
        search_index: bool = False,
        text_of: TextOf[Any] | None = None,
    ) -> None:
        name = checked_path(path)
        check_seconds("busy_timeout", busy_timeout)
        check_choice("synchronous", synchronous, get_args(Synchronous))
        check_int("hot_bytes", hot_bytes, least=0)
        check_bool("search_index", search_index)
        check_text_of(text_of)

        super().__init__(
            DatabaseFile.at(name),
            item_type=item_type,
            busy_timeout=busy_timeout,
            synchronous=synchronous,
            hot_bytes=hot_bytes,
            search_index=search_index,
            text_of=text_of,
        )

    @classmethod
    def in_memory(cls, *, item_type: Any = Any) -> SqliteSessionStore[Any]:
        """Return a store in a private in-memory database, which is lost when it is closed."""
        return cls(IN_MEMORY, item_type=item_type)

    def session(self, session_id: str) -> SqliteSession[Item]:
        """Return a handle for one session. Closing the handle leaves this store open."""
        from tower_memory._stores.sqlite import session  # noqa: PLC0415 - it imports this module

        return session.SqliteSession(session_id, self)

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        check_load(session_id, limit, before)
        file = self._open_already() or await self._open_file()
        return await file.load(Wanted(session_id, limit, before, self._codec), self.busy_timeout)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        check_turn(turn)
        new = await encoded(turn, self._reader)

        append = partial(writes.append, turn=turn, encoded=new)
        add_to_cache = partial(_add_to_cache, self._codec.key)
        file = await self._open_file()
        appended: Appended = await file.write(
            turn.session_id, append, self.busy_timeout, after_commit=add_to_cache
        )
        return appended.revision

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`).

        A call that is cancelled before it has begun removes nothing. After that, only native
        asyncio cancellation ends it: the item is then perhaps removed.
        """
        check_session_id(session_id)
        pop = partial(writes.pop, session_id=session_id, reader=self._reader)
        file = await self._open_file()

        async def write() -> Item | None:
            with fail_after(None, shield=True):
                return await file.write(session_id, pop, self.busy_timeout)

        return await file.in_steps(write, self.busy_timeout, session_id)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`).

        The write-ahead log is emptied as well, unless another connection reads from an old state of
        the file. To remove every byte of the items, call `scrub`.
        """
        check_session_id(session_id)
        clear = partial(writes.clear, session_id=session_id)
        file = await self._open_file()
        await file.write(session_id, clear, self.busy_timeout, after_commit=empty_log)

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the whole database, as it is at one moment, to the new file *path*.

        Loads and saves go on meanwhile. The copy is an ordinary file for a store, readable by its
        owner only, and synced to disk. At *path* it is whole or absent; if the call is cancelled
        before it returns, perhaps absent. A store in memory is copied, too.

        To restore a copy, first stop all programs that use the old file. Then delete the old file's
        ``-wal`` and ``-shm``, and move the copy to the path of the old file.

        Raises:
            TypeError: *path* is neither text nor a path object.
            ValueError: *path* is empty, ``":memory:"``, or contains a NUL character.
            SessionError: *path* exists, or the copy cannot be written.
        """
        target = checked_target(path)
        file = await self._open_file()
        await file.backup(target, self.busy_timeout)


def _add_to_cache(
    key: Hashable, connections: Connections, _connection: Connection, appended: Appended
) -> None:
    if appended.committed is not None:
        connections.cache.add(key, appended.committed)
