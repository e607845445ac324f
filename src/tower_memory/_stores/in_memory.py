"""A store in this process's memory, for tests and for conversations that may be forgotten."""

from __future__ import annotations

from itertools import count
from typing import Any, Generic, NamedTuple, final

import anyio.lowlevel

from tower_memory._arguments import check_text
from tower_memory._codec import ItemCodec
from tower_memory._errors import SessionConflict
from tower_memory._items import Item
from tower_memory._sessions import History, Turn, check_load, turn_starts


class _Row(NamedTuple):
    id: int
    turn_id: str | None  # on a turn's first row
    item: bytes


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
        self._sessions: dict[str, list[_Row]] = {}
        self._ids = count(1)  # never used twice, so that the last row's id tells the content

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """See `SessionStore.load`."""
        check_load(session_id, limit)
        await anyio.lowlevel.checkpoint()
        rows = self._sessions.get(session_id, [])
        kept = rows if limit is None else rows[max(0, len(rows) - limit) :]
        return History(
            (self._codec.decode(row.item) for row in kept),
            revision=_revision(rows),
            turns=turn_starts(row.turn_id for row in kept),
            is_cut=len(kept) < len(rows),
        )

    async def append(self, turn: Turn[Item]) -> int:
        """See `SessionStore.append`."""
        encoded = self._codec.encode(turn.items, turn.session_id)
        await anyio.lowlevel.checkpoint()
        rows = self._sessions.get(turn.session_id, [])
        revision = _revision(rows)
        if any(row.turn_id == turn.turn_id for row in rows):
            return revision
        if turn.expected_revision not in (None, revision):
            raise SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
        if not encoded:
            return revision
        first, *others = encoded
        added = [_Row(next(self._ids), turn.turn_id, first)]
        added += (_Row(next(self._ids), None, item) for item in others)
        self._sessions.setdefault(turn.session_id, []).extend(added)
        return added[-1].id

    async def pop(self, session_id: str) -> Item | None:
        """See `SessionStore.pop`."""
        check_text("session_id", session_id)
        await anyio.lowlevel.checkpoint()
        rows = self._sessions.get(session_id)
        return self._codec.decode(rows.pop().item) if rows else None

    async def clear(self, session_id: str) -> None:
        """See `SessionStore.clear`."""
        check_text("session_id", session_id)
        await anyio.lowlevel.checkpoint()
        self._sessions.pop(session_id, None)

    def __repr__(self) -> str:
        return f"InMemorySessionStore(sessions={len(self._sessions)})"


def _revision(rows: list[_Row]) -> int:
    return rows[-1].id if rows else 0
