"""Items that are kept in memory, and what is kept of each session.

1. What cannot be changed is shared, and a mapping of it is copied, which is faster than to read it
   anew. Anything else is kept as its JSON, and read anew each time. So what a caller does to an
   item changes nothing but its own copy.
2. How much memory an item takes is reckoned when it is kept, rather too high than too low.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, final

from tower_memory._codec import ItemCodec
from tower_memory._history import History, TurnStart

_UNCHANGEABLE: Final = frozenset({str, int, float, bool, type(None)})

_OF_AN_ITEM: Final = 350
"""Bytes that an item takes beyond its text: an empty mapping, a string, and their places."""

_OF_A_FIELD: Final = 150
"""Bytes that a field takes beyond its text: a key, a value, and their places in the mapping."""


@final
@dataclass(slots=True)
class KeptSession:
    """The newest items of a session, or all of them.

    Attributes:
        items: The items, oldest first, as they are kept.
        starts: Where turns start among them, oldest first.
        is_whole: Whether there are none before them.
        size: Bytes that they take, at most.
    """

    items: list[Any] = field(default_factory=list[Any])
    starts: list[TurnStart] = field(default_factory=list[TurnStart])
    is_whole: bool = True
    size: int = 0

    def add(self, raw: bytes, item: Any, turn_id: str | None, codec: ItemCodec[Any]) -> None:
        """Keep one more item, the newest, of which *raw* is the JSON."""
        if turn_id is not None:
            self.starts.append(TurnStart(len(self.items), turn_id))
        fields = 0
        if codec.item_type is Any and _can_be_copied(item):
            fields = len(item) if type(item) is dict else 0
        else:
            item = raw
        self.items.append(item)
        widest = 1 if raw.isascii() else 4  # bytes of a character
        self.size += len(raw) * widest + _OF_AN_ITEM + _OF_A_FIELD * fields

    def pop(self, codec: ItemCodec[Any]) -> tuple[Any, str | None]:
        """The newest item, kept no longer; and the turn that it was the first of, or None."""
        item = self.items.pop()
        item = codec.decode(item) if type(item) is bytes else item
        is_first = bool(self.starts) and self.starts[-1].position == len(self.items)
        return item, self.starts.pop().turn_id if is_first else None

    def history(self, revision: int, limit: int | None, codec: ItemCodec[Any]) -> History[Any]:
        """Copies of the newest *limit* items."""
        start = 0 if limit is None else max(0, len(self.items) - limit)
        kept = self.items if start == 0 else self.items[start:]
        starts = self.starts if start == 0 else _from(self.starts, start)
        decode = codec.decode
        return History(
            [
                each.copy() if type(each) is dict else decode(each) if type(each) is bytes else each
                for each in kept
            ],
            revision=revision,
            turns=starts,
            is_cut=start > 0 or not self.is_whole,
        )


def _from(starts: Iterable[TurnStart], first: int) -> list[TurnStart]:
    """The *starts* from the position *first* on, counted from there."""
    return [TurnStart(at - first, turn_id) for at, turn_id in starts if at >= first]


def _can_be_copied(item: Any) -> bool:
    if type(item) is dict:
        return _UNCHANGEABLE.issuperset(map(type, item.values()))
    return type(item) in _UNCHANGEABLE
