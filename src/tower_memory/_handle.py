"""A session as a handle, as agent frameworks expect it.

How `SessionHandle.replace_suffix` replaces the newest items in one commit:

1. It loads the newest items, from the start of the turn in which the old items begin. If the loaded
   items do not end with the old items, it writes nothing.
2. A new turn replaces this turn and all later turns. It has the items of this turn that stand
   before the old items, and then the new items.
3. The new turn expects the loaded revision. If the session was changed meanwhile, the store refuses
   the new turn, and the method starts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Final, Generic, Protocol, TypeVar

from tower_memory._errors import SessionConflict
from tower_memory._history import History
from tower_memory._items import Item, Message, to_messages
from tower_memory._store import SessionStore, check_session_id, check_store
from tower_memory._turn import Turn, check_items

SessionItem = TypeVar("SessionItem")

_FILE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")


class Session(Protocol[SessionItem]):
    """One session as a handle.

    The methods are those of openai-agents' protocol of the same name. Items are oldest first.
    """

    session_id: str

    async def get_items(self, limit: int | None = None) -> list[SessionItem]:
        """Return the session's items, at most the newest *limit*; None returns all."""
        ...

    async def add_items(self, items: list[SessionItem]) -> None:
        """Add *items*, all or none, as `SessionStore.append` does."""
        ...

    async def pop_item(self) -> SessionItem | None:
        """Remove the newest item and return it, as `SessionStore.pop` does."""
        ...

    async def clear_session(self) -> None:
        """Remove all items, as `SessionStore.clear` does."""
        ...


class SessionHandle(Generic[Item]):
    """One session of any store, as a handle.

    It satisfies openai-agents' ``Session``: ``Runner.run(agent, "Hi", session=session)`` takes it.
    Its methods keep the promises of `SessionStore` and raise its errors. The caller opens and
    closes the store. A handle is cheap and needs no closing, so a program may make a handle for
    each request.

    Each of the framework's four methods takes a keyword *wrapper*, the framework's context of the
    run, and ignores it.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, ScopedStore, SessionHandle
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     session = SessionHandle(ScopedStore(store, "tenant_1"), "user_123")
    ...     await session.add_items([{"role": "user", "content": "Hi"}])
    ...     print(await session.get_items())
    >>> anyio.run(main)
    [{'role': 'user', 'content': 'Hi'}]

    Args:
        store: Any store.
        session_id: Id of the session: any text but the empty one.

    Attributes:
        session_settings: openai-agents' settings of the session, or None. Its ``limit`` is the
            default of `get_items` and `get_messages`.

    Raises:
        TypeError: *store* is no store, or *session_id* is no string.
        ValueError: *session_id* is empty or not valid Unicode.
    """

    def __init__(self, store: SessionStore[Item], session_id: str) -> None:
        check_store(store)
        check_session_id(session_id)
        self.session_id: str = session_id
        self.session_settings: Any = None
        self._store: SessionStore[Item] = store

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[Item]:  # noqa: ARG002
        """Return the newest *limit* items, oldest first (`SessionStore.load`).

        None means the limit of ``session_settings`` or, without such a limit, all items.
        """
        if limit is None:
            limit = _limit_of(self.session_settings)
        return list(await self._store.load(self.session_id, limit=limit))

    async def add_items(self, items: Iterable[Item], *, wrapper: Any = None) -> None:  # noqa: ARG002
        """Add *items* in order as one turn, all or none (`SessionStore.append`)."""
        check_items(items)
        await self._store.append(Turn(self.session_id, tuple(items)))

    async def pop_item(self, *, wrapper: Any = None) -> Item | None:  # noqa: ARG002
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        return await self._store.pop(self.session_id)

    async def clear_session(self, *, wrapper: Any = None) -> None:  # noqa: ARG002
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        await self._store.clear(self.session_id)

    async def get_messages(self, limit: int | None = None) -> list[Message]:
        """Return the messages among the newest *limit* items, oldest first (see `get_items`).

        Chat messages and run items become `Message`; items that are no messages are left out.
        """
        return to_messages(await self.get_items(limit))

    async def replace_suffix(self, old_items: Iterable[Item], new_items: Iterable[Item]) -> bool:
        """Replace the newest items by *new_items* in one commit, if they still equal *old_items*.

        For compaction: load items, summarise them, and replace them. If another caller, also in
        another process, has added or removed an item meanwhile, nothing is written, so no change is
        lost. If the call is cancelled or the process dies, the session has the old or the new
        items, never a mixture. Older items stay. Those in the turn in which *old_items* begin
        become part of the new turn, which keeps the metadata of that turn.

        >>> import anyio
        >>> from tower_memory import InMemorySessionStore, SessionHandle
        >>> async def main() -> None:
        ...     session = SessionHandle(InMemorySessionStore[str](item_type=str), "user_123")
        ...     await session.add_items(["1", "2", "3"])
        ...     print(await session.replace_suffix(["2", "3"], ["5"]), await session.get_items())
        ...     print(await session.replace_suffix(["2", "3"], ["7"]), await session.get_items())
        >>> anyio.run(main)
        True ['1', '5']
        False ['1', '5']

        Args:
            old_items: The newest items of the session, oldest first: any number of them. If there
                are none, *new_items* are added.
            new_items: The items in their place, oldest first; an empty sequence removes the old.

        Returns:
            True if the items were replaced. False if the newest items of the session are not
            *old_items*; then nothing is written.

        Raises:
            TypeError: *old_items* or *new_items* is no sequence of items.
            UnencodableItemError: A new item would not come back as it is.
            SessionError: The store cannot be read or written.
        """
        check_items(old_items, "old_items")
        check_items(new_items, "new_items")
        old, new = tuple(old_items), tuple(new_items)
        if not old:
            await self._store.append(Turn(self.session_id, new))
            return True

        while (history := await self._load_suffix(old)) is not None:
            try:
                await self._store.append(_replacement(self.session_id, history, len(old), new))
            except SessionConflict:
                continue
            return True
        return False

    async def _load_suffix(self, old: tuple[Item, ...]) -> History[Item] | None:
        """Load the newest items from the start of a turn on; None if they do not end with *old*."""
        limit = len(old)
        while True:
            history = await self._store.load(self.session_id, limit=limit)
            if len(history) < len(old) or history[-len(old) :] != old:
                return None
            if not history.offset or _starts_within(history, len(history) - len(old)):
                return history
            limit *= 2

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store!r}, {self.session_id!r})"


def _starts_within(history: History[Any], end: int) -> bool:
    """Return True if a turn of *history* starts at the position *end* or before."""
    return any(turn.position <= end for turn in history.turns)


def _replacement(
    session_id: str, history: History[Item], size: int, new: tuple[Item, ...]
) -> Turn[Item]:
    """Return the turn that replaces the last *size* items of *history* by *new* (rule 2)."""
    start = len(history) - size
    first = [turn for turn in history.turns if turn.position <= start][-1]
    kept = history[first.position : start]
    return Turn(
        session_id,
        (*kept, *new),
        expected_revision=history.revision,
        replaces=first.turn_id,
        metadata=first.metadata if kept else None,
    )


def _limit_of(settings: Any) -> int | None:
    """Return the limit in openai-agents' settings, which are an object or a mapping."""
    if isinstance(settings, Mapping):
        return settings.get("limit")
    return getattr(settings, "limit", None)


def check_handle(session_id: object, path: object) -> None:
    """Refuse a bad session id, and a session id and a path that look swapped.

    They look swapped if the id has the suffix of a database file and the path is a string without a
    suffix. Without this check, the handle would make a new file with the name of the session.

    Raises:
        TypeError: *session_id* is no string.
        ValueError: *session_id* is empty or has a lone surrogate, or the two look swapped.
    """
    check_session_id(session_id)
    is_file = PurePath(str(session_id)).suffix.lower() in _FILE_SUFFIXES
    has_path = not isinstance(path, str) or path == ":memory:" or PurePath(path).suffix
    if is_file and not has_path:
        msg = (
            f"session_id and path look swapped, got session_id={session_id!r} and path={path!r}; "
            "pass the session id first, or a path with a suffix"
        )
        raise ValueError(msg)
