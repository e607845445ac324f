"""Items that are kept in memory, and what is kept of each session.

1. Items are kept as their JSON, and once they are asked for again as what is the fastest to give:
   what cannot be changed is shared, a mapping of it is copied as soon as somebody looks at it,
   anything else is read from its JSON anew each time. So what a caller does to an item changes
   nothing but its own copy.
2. How much memory an item takes is reckoned when it is kept, rather too high than too low.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar, final

from tower_memory._codec import ItemCodec
from tower_memory._history import Check, History, TurnStart, Unread, copied

T = TypeVar("T")

_UNCHANGEABLE: Final = frozenset({str, int, float, bool, type(None)})

_AT_ONCE: Final = 250
"""Items to go through before a pause may be made."""

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


def _go_on() -> None:
    """Make no pause."""


def in_parts(values: Iterable[T], pause: Callable[[], object]) -> Iterator[list[T]]:
    """*values*, so many at once, with a *pause* after each."""
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
        pause()


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

    items: list[Any] = field(default_factory=list)
    starts: list[TurnStart] = field(default_factory=list)
    is_whole: bool = True
    size: int = _OF_A_SESSION
    _ready: int = 0  # so many of the items are kept as what is the fastest to give
    _raw: list[int] = field(default_factory=list)  # where among them JSON is the fastest
    _held: dict[Check, int] = field(default_factory=dict)  # see Unread

    def add(
        self,
        encoded: Sequence[bytes],
        starts: Sequence[TurnStart],
        items: Sequence[Any] = (),
    ) -> None:
        """Keep newer items.

        Args:
            encoded: The JSON of each.
            starts: Where turns start among them, counted from the first of all.
            items: What that decodes to, where nobody else has it.
        """
        before = len(self.items)
        self.items += encoded
        self.starts += starts
        self.size += sum(map(len, encoded)) + _OF_JSON * len(encoded) + _OF_A_TURN * len(starts)
        for place, item in enumerate(items, before):
            self._keep_ready(place, item)

    def pop(self, codec: ItemCodec[Any]) -> tuple[Any, str | None]:
        """The newest item, kept no longer; and the turn that it was the first of, or None."""
        item = self.items.pop()
        self._held = {}
        if type(item) is bytes:
            item = codec.decode(item)
        else:
            (item,) = copied([item])  # others may have it, in a history that is not read yet
        self._ready = min(self._ready, len(self.items))
        if self._raw and self._raw[-1] == len(self.items):
            self._raw.pop()
        is_first = bool(self.starts) and self.starts[-1].position == len(self.items)
        return item, self.starts.pop().turn_id if is_first else None

    def history(
        self,
        revision: int,
        limit: int | None,
        codec: ItemCodec[Any],
        pause: Callable[[], object] = _go_on,
    ) -> History[Any]:
        """The newest *limit* items; *pause* is called after every so many.

        Raises:
            ValueError: What was added is not the JSON of an item.
        """
        start = 0 if limit is None else max(0, len(self.items) - limit)
        decode = codec.decode
        is_first = False  # copies take longest the first time, so these are made here at once
        if codec.item_type is Any:
            is_first = self._ready == 0
            for places in in_parts(range(self._ready, len(self.items)), pause):
                for place in places:
                    self._keep_ready(place, decode(self.items[place]))
        raw = self._raw[bisect_left(self._raw, start) :]
        raw += range(max(start, self._ready), len(self.items))
        items = self.items[start:]
        for places in in_parts(raw, pause):
            for place in places:
                items[place - start] = decode(items[place - start])
        if is_first:
            items = [each for some in in_parts(items, pause) for each in copied(some)]
        return History(
            items if is_first else Unread(items, {} if start else self._held),
            revision=revision,
            turns=_from(self.starts, start) if start else self.starts,
            is_cut=start > 0 or not self.is_whole,
        )

    def _keep_ready(self, place: int, item: Any) -> None:
        """Keep *item*, which is what the one at *place* decodes to, if it can be copied."""
        if _can_be_copied(item):
            raw, self.items[place] = self.items[place], item
            fields = len(item) if type(item) is dict else 0
            widest = 1 if raw.isascii() else 4  # bytes of a character
            self.size += len(raw) * (widest - 1) + _OF_AN_ITEM + _OF_A_FIELD * fields
        else:
            self._raw.append(place)
        self._ready = place + 1


def _from(starts: Iterable[TurnStart], first: int) -> list[TurnStart]:
    """The *starts* from the position *first* on, counted from there."""
    return [TurnStart(at - first, turn_id) for at, turn_id in starts if at >= first]


def _can_be_copied(item: Any) -> bool:
    if type(item) is dict:
        return _UNCHANGEABLE.issuperset(map(type, item.values()))
    return type(item) in _UNCHANGEABLE
