"""A store in this process's memory, for tests and for conversations that may be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, final

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec
from tower_memory._errors import SessionConflict
from tower_memory._history import History, TurnStart
from tower_memory._items import Item
from tower_memory._sessions import Turn, check_load
from tower_memory._stores.kept import KeptSession


@dataclass(slots=True)
class _Session:
    kept: KeptSession = field(default_factory=KeptSession)
    ids: list[int] = field(default_factory=list)  # of the items
    held: set[str] = field(default_factory=set)  # the turns

    @property
    def revision(self) -> int:
        return self.ids[-1] if self.ids else 0


@final
class InMemorySessionStore(Generic[Item]):
    """Sessions that live as long as this object does, with every promise of `SessionStore`.

    It may be used in one event loop after another, not in two at the same time.

    Args:
        item_type: What the items are: any type msgspec decodes; ``Any`` for JSON values.
    """

    def __init__(self, *, item_type: Any = Any) -> None:
        self.item_type = item_type
        self._codec: ItemCodec[Item] = ItemCodec(item_type)
        self._sessions: dict[str, _Session] = {}
        self._ids = count(1)  # never used twice, so that the last item's id tells the content

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """See `SessionStore.load`."""
        check_load(session_id, limit)
        await checkpoint()
        session = self._sessions.get(session_id) or _Session()
        return session.kept.history(session.revision, limit, self._codec)

    async def append(self, turn: Turn[Item]) -> int:
        """See `SessionStore.append`."""
        checked = self._codec.checked(turn.items, turn.session_id)
        await checkpoint_if_cancelled()  # the only chance to leave the turn out
        session = self._sessions.get(turn.session_id) or _Session()
        revision = session.revision
        if turn.turn_id in session.held:
            return revision
        if turn.expected_revision not in (None, revision):
            raise SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
        if not checked:
            return revision
        encoded, items = zip(*checked, strict=True)
        session.kept.add(encoded, [TurnStart(len(session.ids), turn.turn_id)], items)
        session.ids += [next(self._ids) for _ in encoded]
        session.held.add(turn.turn_id)
        self._sessions[turn.session_id] = session
        return session.revision

    async def pop(self, session_id: str) -> Item | None:
        """See `SessionStore.pop`."""
        check_text("session_id", session_id)
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
        """See `SessionStore.clear`."""
        check_text("session_id", session_id)
        await checkpoint()
        self._sessions.pop(session_id, None)

    def __repr__(self) -> str:
        return f"InMemorySessionStore(sessions={len(self._sessions)})"
