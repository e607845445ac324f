"""A store in the memory of this process, for tests and for conversations that may be lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, final, overload

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory._codec import ItemCodec
from tower_memory._errors import SessionConflict
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._store import check_load, check_session_id
from tower_memory._stores.session_cache import KeptSession
from tower_memory._turn import Turn


@dataclass(slots=True)
class _Session:
    """One session.

    Attributes:
        kept: The items.
        ids: The id of each item; the last is the revision, which is 0 without items.
        held: The ids of the turns that the session holds.
    """

    kept: KeptSession = field(default_factory=KeptSession)
    ids: list[int] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    @property
    def revision(self) -> int:
        return self.ids[-1] if self.ids else 0


@final
class InMemorySessionStore(Generic[Item]):
    """A store that keeps its sessions in memory, as long as the store object lives.

    It keeps every promise of `SessionStore`, needs no opening or closing and has no size limit.
    It may be used in several event loops one after another, but not at the same time. Two stores
    never share sessions.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     await store.append(Turn("user_123", [{"role": "user", "content": "Hi"}]))
    ...     print(await store.load("user_123"))
    >>> anyio.run(main)
    History([{'role': 'user', 'content': 'Hi'}], revision=1)

    Args:
        item_type: The type of the items: any type that msgspec can decode, or ``Any`` for JSON
            values. It is also an attribute.

    Raises:
        TypeError: msgspec cannot decode *item_type*.
    """

    @overload
    def __init__(self, *, item_type: type[Item]) -> None: ...
    @overload
    def __init__(self: InMemorySessionStore[Any], *, item_type: Any = ...) -> None: ...
    def __init__(self, *, item_type: Any = Any) -> None:
        self.item_type = item_type
        self._codec: ItemCodec[Item] = ItemCodec(item_type)
        self._sessions: dict[str, _Session] = {}
        self._ids = count(1)  # never reused, so the last item's id identifies the content

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """Return the newest *limit* items, oldest first; None means all (`SessionStore.load`)."""
        check_load(session_id, limit)
        await checkpoint()
        session = self._sessions.get(session_id) or _Session()
        return session.kept.history(session.revision, limit, self._codec)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        checked = self._codec.encode_checked(turn.items, turn.session_id)
        await checkpoint_if_cancelled()  # later, the turn is saved

        session = self._sessions.get(turn.session_id) or _Session()
        revision = session.revision
        if turn.turn_id in session.held:
            return revision
        if turn.expected_revision not in (None, revision):
            raise SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
        if not checked:
            return revision

        encoded, items = zip(*checked, strict=True)
        session.kept.add(encoded, [TurnInfo(turn.turn_id, len(session.ids))], items)
        session.ids += [next(self._ids) for _ in encoded]
        session.held.add(turn.turn_id)
        self._sessions[turn.session_id] = session
        return session.revision

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        check_session_id(session_id)
        await checkpoint()
        session = self._sessions.get(session_id)
        if session is None or not session.ids:
            return None

        session.ids.pop()
        popped: Item
        popped, turn_id = session.kept.pop(self._codec)
        if turn_id is not None:
            session.held.remove(turn_id)
        return popped

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        check_session_id(session_id)
        await checkpoint()
        self._sessions.pop(session_id, None)

    def __repr__(self) -> str:
        return f"InMemorySessionStore(sessions={len(self._sessions)})"
