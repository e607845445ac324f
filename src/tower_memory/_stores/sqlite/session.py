"""One session in an SQLite file, as a handle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Generic, Self, final, overload

from tower_memory._handle import check_handle
from tower_memory._items import Item, Message, to_messages
from tower_memory._stores.sqlite.new_file import IN_MEMORY
from tower_memory._stores.sqlite.store import SqliteSessionStore
from tower_memory._turn import Turn, check_items


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
