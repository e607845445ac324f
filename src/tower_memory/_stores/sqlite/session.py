"""One session in an SQLite file, as a handle."""

from __future__ import annotations

import os
from typing import Any, Self, final, overload

from tower_memory._handle import SessionHandle, check_handle
from tower_memory._items import Item
from tower_memory._stores.sqlite.new_file import IN_MEMORY
from tower_memory._stores.sqlite.store import SqliteSessionStore


@final
class SqliteSession(SessionHandle[Item]):
    """One session in an SQLite file, as a handle.

    It is a `SessionHandle` that makes its store from a path. It opens on first use. Close it:
    `aclose` or ``async with``. Handles on a file in one event loop share its threads.

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
        self._own_store: SqliteSessionStore[Item] | None = None
        if not isinstance(path, SqliteSessionStore):
            path = self._own_store = SqliteSessionStore(path, item_type=item_type)
        super().__init__(path, session_id)

    @classmethod
    def in_memory(cls, session_id: str, *, item_type: Any = Any) -> SqliteSession[Any]:
        """Return a session in a private in-memory database, which is lost when it is closed."""
        return cls(session_id, IN_MEMORY, item_type=item_type)

    async def aclose(self) -> None:
        """Close the handle, and its file unless a store was given. Closing twice does nothing."""
        if self._own_store is not None:
            await self._own_store.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"SqliteSession({self.session_id!r}, {self._store!r})"
