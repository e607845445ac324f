"""A session in memory: its newest items, as JSON or decoded, with an estimate of their size.

1. An item is stored as JSON at first. When the session is loaded again, each item takes the form
   that is fastest to return: an immutable value is stored decoded and shared; a mapping of
   immutable values is stored decoded and copied when a history is first read; every other item
   stays JSON and is decoded for each load. Therefore a caller that changes an item changes only
   its own copy.
2. The size of an item is estimated when it is added or decoded, rather too high than too low.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar, final

from tower_memory._codec import ItemCodec
from tower_memory._history import Check, History, SharedItems, TurnInfo, copy_items

T = TypeVar("T")

_IMMUTABLE: Final = frozenset({str, int, float, bool, type(None)})

_PART_LENGTH: Final = 250
"""Items between two pauses."""

_SESSION_OVERHEAD: Final = 1000
"""Bytes that a session takes beyond its items and the text of its id."""

_JSON_OVERHEAD: Final = 100
"""Bytes that an item takes beyond its JSON."""

_TURN_OVERHEAD: Final = 250
"""Bytes that the start of a turn takes."""

_DECODED_OVERHEAD: Final = 300
"""Bytes that an item takes beyond its text: an empty mapping, a string, and their places."""

_FIELD_OVERHEAD: Final = 150
"""Bytes that a field takes beyond its text: a key, a value, and their places in the mapping."""


def _no_pause() -> None:
    """Do nothing."""


def in_parts(values: Iterable[T], pause: Callable[[], object]) -> Iterator[list[T]]:
    """Yield *values* in lists of `_PART_LENGTH`, and call *pause* after each list."""
    rest = iter(values)
    while some := list(islice(rest, _PART_LENGTH)):
        yield some
        pause()


@final
@dataclass(slots=True)
class KeptSession:
    """The newest items of a session, or all of them.

    Attributes:
        items: The items, oldest first, each as JSON or decoded (rule 1).
        starts: The starts of the turns among them, oldest first; positions count from the first
            of *items*.
        is_whole: True if *items* are all items of the session.
        size: The bytes that the session takes, estimated rather too high (rule 2).
    """

    items: list[Any] = field(default_factory=list)
    starts: list[TurnInfo] = field(default_factory=list)
    is_whole: bool = True
    size: int = _SESSION_OVERHEAD
    _converted: int = 0  # length of the prefix that already has its final form (rule 1)
    _still_json: list[int] = field(default_factory=list)  # indexes in it that stay JSON, ascending
    _checks: dict[Check, int] = field(default_factory=dict)  # the checks of `SharedItems`

    def add(
        self,
        encoded: Sequence[bytes],
        starts: Sequence[TurnInfo],
        items: Sequence[Any] = (),
    ) -> None:
        """Add newer items.

        Args:
            encoded: The JSON of each item.
            starts: The starts of their turns; positions count from the first of all `items`.
            items: The same items decoded, if no other code holds a reference to them; else empty.
        """
        before = len(self.items)
        self.items += encoded
        self.starts += starts
        self.size += sum(map(len, encoded))
        self.size += _JSON_OVERHEAD * len(encoded) + _TURN_OVERHEAD * len(starts)
        for place, item in enumerate(items, before):
            self._convert(place, item)

    def pop(self, codec: ItemCodec[Any]) -> tuple[Any, str | None]:
        """Remove and return the newest item, with the id of the turn that it started or None."""
        item = self.items.pop()
        self._checks = {}  # they may count the removed item

        if type(item) is bytes:
            item = codec.decode(item)
        else:
            (item,) = copy_items([item])  # an unread history may share it

        self._converted = min(self._converted, len(self.items))
        if self._still_json and self._still_json[-1] == len(self.items):
            self._still_json.pop()

        starts_turn = bool(self.starts) and self.starts[-1].position == len(self.items)
        return item, self.starts.pop().turn_id if starts_turn else None

    def history(
        self,
        revision: int,
        limit: int | None,
        codec: ItemCodec[Any],
        pause: Callable[[], object] = _no_pause,
    ) -> History[Any]:
        """Return the newest *limit* items; None returns all.

        Args:
            revision: The session's revision.
            limit: The maximum number of items.
            codec: The codec that decodes the items; the same for every call.
            pause: Called after every `_PART_LENGTH` items.

        Raises:
            ValueError: A stored item is not the JSON of an item of the codec's type.
        """
        start = 0 if limit is None else max(0, len(self.items) - limit)
        decode = codec.decode

        is_first = False
        if codec.item_type is Any:
            is_first = self._converted == 0
            for places in in_parts(range(self._converted, len(self.items)), pause):
                for place in places:
                    self._convert(place, decode(self.items[place]))

        undecoded = self._still_json[bisect_left(self._still_json, start) :]
        undecoded += range(max(start, self._converted), len(self.items))
        items = self.items[start:]
        for places in in_parts(undecoded, pause):
            for place in places:
                items[place - start] = decode(items[place - start])

        # The first copies take longest, so they are made here, with pauses, and not by the reader.
        if is_first:
            items = [each for some in in_parts(items, pause) for each in copy_items(some)]

        return History(
            items if is_first else SharedItems(items, {} if start else self._checks),
            revision=revision,
            turns=_starts_from(self.starts, start) if start else self.starts,
            is_cut=start > 0 or not self.is_whole,
        )

    def _convert(self, place: int, item: Any) -> None:
        """Replace the JSON at *place* by the decoded *item*, if a shallow copy of it is enough."""
        if _is_copyable(item):
            raw, self.items[place] = self.items[place], item
            fields = len(item) if type(item) is dict else 0
            widest = 1 if raw.isascii() else 4  # bytes of a decoded character
            self.size += len(raw) * (widest - 1) + _DECODED_OVERHEAD + _FIELD_OVERHEAD * fields
        else:
            self._still_json.append(place)
        self._converted = place + 1


def _starts_from(starts: Iterable[TurnInfo], first: int) -> list[TurnInfo]:
    """Return the *starts* at or after position *first*, with positions counted from there."""
    return [TurnInfo(turn_id, at - first) for turn_id, at in starts if at >= first]


def _is_copyable(item: Any) -> bool:
    if type(item) is dict:
        return _IMMUTABLE.issuperset(map(type, item.values()))
    return type(item) in _IMMUTABLE
