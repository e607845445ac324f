"""Items that are kept in memory, and what is kept of each session.

1. Items are kept as their JSON, and once they are asked for again as what is the fastest to give:
   what cannot be changed is shared, a mapping of it is copied, anything else is read from its JSON
   anew each time. So what a caller does to an item changes nothing but its own copy.
2. How much memory an item takes is reckoned when it is kept, rather too high than too low.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from tower_memory._codec import ItemCodec
from tower_memory._history import History, TurnStart

_UNCHANGEABLE: Final = frozenset({str, int, float, bool, type(None)})

_OF_A_SESSION: Final = 1000
"""Bytes that a session takes beyond its items, and the text of its id."""

_OF_JSON: Final = 100
"""Bytes that an item takes beyond its JSON."""

_OF_A_TURN: Final = 250
"""Bytes that the start of a turn takes."""

_OF_AN_ITEM: Final = 300
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
    size: int = _OF_A_SESSION
    _ready: int = 0  # so many items are kept as what is the fastest to give

    def add(self, encoded: Sequence[bytes], starts: Iterable[TurnStart]) -> None:
        """Keep newer items, given the JSON of each and the starts of turns among them."""
        before, turns = len(self.items), len(self.starts)
        self.items += encoded
        self.starts += [TurnStart(before + at, turn_id) for at, turn_id in starts]
        self.size += sum(map(len, encoded)) + _OF_JSON * len(encoded)
        self.size += _OF_A_TURN * (len(self.starts) - turns)

    def pop(self, codec: ItemCodec[Any]) -> tuple[Any, str | None]:
        """The newest item, kept no longer; and the turn that it was the first of, or None."""
        item = self.items.pop()
        item = codec.decode(item) if type(item) is bytes else item
        self._ready = min(self._ready, len(self.items))
        is_first = bool(self.starts) and self.starts[-1].position == len(self.items)
        return item, self.starts.pop().turn_id if is_first else None

    def history(self, revision: int, limit: int | None, codec: ItemCodec[Any]) -> History[Any]:
        """Copies of the newest *limit* items.

        Raises:
            ValueError: What was added is not the JSON of an item.
        """
        if codec.item_type is Any:
            self._make_ready(codec)
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

    def _make_ready(self, codec: ItemCodec[Any]) -> None:
        for place in range(self._ready, len(self.items)):
            raw = self.items[place]
            item = codec.decode(raw)
            if _can_be_copied(item):
                self.items[place] = item
                fields = len(item) if type(item) is dict else 0
                widest = 1 if raw.isascii() else 4  # bytes of a character
                self.size += len(raw) * (widest - 1) + _OF_AN_ITEM + _OF_A_FIELD * fields
        self._ready = len(self.items)


def _from(starts: Iterable[TurnStart], first: int) -> list[TurnStart]:
    """The *starts* from the position *first* on, counted from there."""
    return [TurnStart(at - first, turn_id) for at, turn_id in starts if at >= first]


def _can_be_copied(item: Any) -> bool:
    if type(item) is dict:
        return _UNCHANGEABLE.issuperset(map(type, item.values()))
    return type(item) in _UNCHANGEABLE
