"""A session in memory: its newest turns, in the form that is fastest to return.

1. An immutable item, and a mapping of immutable values, is kept decoded and shared with histories;
   a history copies such mappings when its first item is read. Every other item is kept as JSON and
   decoded for each load. Therefore a reader that changes an item changes only its own copy.
2. Sizes are those of the objects (`sys.getsizeof`). They never change, so sums of them stay right.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, Final, TypeVar, final

from tower_memory._codec import ItemCodec
from tower_memory._history import NO_METADATA, Check, TurnInfo

T = TypeVar("T")

_PART_LENGTH: Final = 250
"""Number of items that are decoded between two pauses."""

_IMMUTABLE: Final = frozenset({str, int, float, bool, type(None)})

_SESSION_OVERHEAD: Final = 1500
"""Bytes that a session takes beyond its items, its turns and the text of its id."""

_SLOT: Final = 16
"""Bytes of an item's place in a list that has grown."""

_JSON_SLOT: Final = 64
"""Bytes of the places of an item that is kept as JSON, with its index."""

_TEXT_OVERHEAD: Final = 80
"""Maximum bytes of a text that is not ASCII, beyond its characters."""

_CHARACTER: Final = 8
"""Maximum bytes of a character of such a text: 4, and 4 for its UTF-8, which encoders attach."""


def to_kept(items: Sequence[Any], encoded: Iterable[bytes]) -> list[Any]:
    """Return *items* as they are kept (rule 1); *encoded* is the JSON of each.

    No other code may hold a reference to the items.
    """
    return [item if _is_shareable(item) else raw for item, raw in zip(items, encoded, strict=True)]


def all_shareable(items: Iterable[Any]) -> bool:
    """Return True if all *items* are kept decoded (rule 1)."""
    return all(map(_is_shareable, items))


def _is_shareable(item: Any) -> bool:
    if type(item) is dict:
        return _IMMUTABLE.issuperset(map(type, item.values()))
    return type(item) in _IMMUTABLE


@final
class SharedItems:
    """Items that are shared with a history until the first of them is read (rule 1)."""

    __slots__ = ("_checked", "_copies", "_items")

    def __init__(self, items: Sequence[Any], checked: dict[Check, int] | None = None) -> None:
        self._items = items
        self._checked = {} if checked is None else checked
        self._copies: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def peek(self) -> Sequence[Any]:
        """See `tower_memory._history.peek`."""
        return self._items

    def copies(self) -> tuple[Any, ...]:
        """Return the items, with a shallow copy of each mapping."""
        copies, self._copies = self._copies, None  # each reader gets copies of its own
        if copies is not None:
            return copies
        return tuple([item.copy() if type(item) is dict else item for item in self._items])

    def copy_now(self) -> Generator[None]:
        """Make the copies before the first item is read, with a pause after each part."""
        copies: list[Any] = []
        for part in _parts(self._items):
            copies += SharedItems(part).copies()
            yield
        self._copies = tuple(copies)

    def checked_length(self, check: Check) -> int:
        """See `tower_memory._history.checked_length`."""
        items, checked = self._items, self._checked
        known = checked.get(check, 0)
        if known > len(items):  # the result is of a later, longer state of the session
            return 0
        if check(items[known:]):
            known = checked[check] = len(items)
        return known


@final
@dataclass(slots=True)
class CachedSession:
    """The newest turns of a session, or all of them.

    Attributes:
        offset: Position of the first kept item in the session.
        turns: The kept turns, oldest first; their positions count from the start of the session.
        size: Bytes that the session takes (rule 2).
        is_measured: False if the store needs no sizes; *size* then never changes.
    """

    offset: int = 0
    turns: list[TurnInfo] = field(default_factory=list)
    size: int = _SESSION_OVERHEAD
    is_measured: bool = True
    _items: list[Any] = field(default_factory=list)  # as `to_kept` returns them
    _json: list[int] = field(default_factory=list)  # the indexes of the JSON in _items, ascending
    _checked: dict[Check, int] = field(default_factory=dict)  # lengths from the session's start

    @property
    def end(self) -> int:
        """Position after the last item: the number of items of the session."""
        return self.offset + len(self._items)

    def add(self, turn: TurnInfo, kept: Sequence[Any]) -> None:
        """Add the newest turn, whose items are *kept* as `to_kept` returns them."""
        start = len(self._items)
        self.turns.append(turn)
        self._items += kept
        self._json += [index for index, item in enumerate(kept, start) if type(item) is bytes]
        self.size += self._measure([turn], kept)

    def add_older(
        self, older: Iterable[tuple[TurnInfo, Sequence[Any]]], max_bytes: int
    ) -> Generator[None]:
        """Add turns directly before the first kept one, as many as fit into *max_bytes*.

        There is a pause after each part; nothing is added before the end.

        Each of *older*, newest first, is a turn with its items as `to_kept` returns them. A turn
        without items is always added, so that it is never left out between two others.
        """
        turns: list[TurnInfo] = []
        items: list[Any] = []
        size, next_pause = self.size, _PART_LENGTH
        for turn, kept in older:
            larger = size + self._measure([turn], kept)
            if kept and larger > max_bytes:
                break
            size = larger
            turns.append(turn)
            items += reversed(kept)
            if len(items) >= next_pause:
                yield
                next_pause = len(items) + _PART_LENGTH

        if turns:
            self.size = size
            self.turns[:0] = reversed(turns)
            self._items[:0] = reversed(items)
            self.offset -= len(items)
            self._find_json()

    def drop_oldest(self, max_bytes: int) -> None:
        """Remove the oldest turns until the session takes at most *max_bytes*.

        A turn without items stays if the item before it is the last that is removed.
        """
        ends = [*(turn.position for turn in self.turns[1:]), self.end]
        dropped, first = 0, self.offset
        for index, (turn, end) in enumerate(zip(self.turns, ends, strict=False)):
            if self.size <= max_bytes:
                break
            if end > turn.position:
                kept = self._items[first - self.offset : end - self.offset]
                self.size -= self._measure(self.turns[dropped : index + 1], kept)
                dropped, first = index + 1, end

        if dropped:
            del self.turns[:dropped], self._items[: first - self.offset]
            self.offset = first
            self._find_json()

    def first_turns(self, count: int) -> CachedSession:
        """Return a copy of the first *count* turns of a session that is kept whole."""
        end = self.turns[count].position if count < len(self.turns) else self.end
        return CachedSession(
            turns=self.turns[:count],
            is_measured=self.is_measured,
            _items=self._items[:end],
            _json=self._json[: bisect_left(self._json, end)],
        )

    def remove_turns(self, index: int) -> None:
        """Remove the turns from *index* in `turns` on, with their items."""
        start = self.turns[index].position - self.offset
        self.size -= self._measure(self.turns[index:], self._items[start:])
        del self.turns[index:], self._items[start:]
        del self._json[bisect_left(self._json, start) :]
        self._checked = {}

    def pop(self, codec: ItemCodec[Any]) -> tuple[Any, list[TurnInfo]]:
        """Remove and return the newest item, and the turns that this removes or shortens.

        The first is the item's turn, which stays if items of it are left. The others are all later
        turns, which have no items and are removed.
        """
        last = self._items[-1]
        item = codec.decode(last) if type(last) is bytes else SharedItems([last]).copies()[0]

        # The newest turn with items is the last one that starts before the end.
        index = bisect_left(self.turns, self.end, key=_position) - 1

        del self._items[-1]
        del self._json[bisect_left(self._json, len(self._items)) :]
        self._checked = {}
        changed = self.turns[index:]
        first_gone = index if changed[0].position == self.end else index + 1
        self.size -= self._measure(self.turns[first_gone:], [last])
        del self.turns[first_gone:]
        return item, changed

    def kept_items(self, start: int, end: int) -> Sequence[Any]:
        """Return the items from position *start* to *end* as they are kept; do not change them."""
        return self._items[start - self.offset : end - self.offset]

    def read(
        self, start: int, end: int, codec: ItemCodec[Any], older: Sequence[Any] = ()
    ) -> Generator[None, None, SharedItems]:
        """Return the items from position *start* to *end*, with a pause between two parts.

        *older* are decoded items of the session that come directly before them in the result.

        Raises:
            ValueError: A kept item is not the JSON of an item of the codec's type.
        """
        first, last = start - self.offset, end - self.offset
        items = self._items[first:last]
        indexes = self._json[bisect_left(self._json, first) : bisect_left(self._json, last)]
        for number, part in enumerate(_parts(indexes)):
            if number:
                yield
            for index in part:
                items[index - first] = codec.decode(items[index - first])

        if older:
            items = [*older, *items]
        return SharedItems(items, self._checked if start == len(older) else None)

    def turns_between(self, start: int, end: int, before: str | int | None) -> Sequence[TurnInfo]:
        """Return the turns of a history between two positions; see `turns_between`."""
        return turns_between(self.turns, start, end, self.end, before)

    def _measure(self, turns: Iterable[TurnInfo], kept: Iterable[Any]) -> int:
        """Return the bytes that *turns* and *kept* items take; 0 if the session is not measured."""
        if not self.is_measured:
            return 0
        return sum(map(_size_of_turn, turns)) + sum(map(_size_of, kept))

    def _find_json(self) -> None:
        self._json = [index for index, item in enumerate(self._items) if type(item) is bytes]


def turns_between(
    turns: Sequence[TurnInfo],
    start: int,
    end: int,
    last_end: int,
    before: str | int | None = None,
) -> Sequence[TurnInfo]:
    """Return the *turns* of a history from position *start* to *end* of the session.

    The positions of the result count from *start*; *last_end* is the position after the last item
    of *turns*. A turn without items belongs to the item before it, or to the start of the session.
    *before* is the parameter of the load: the turn with this id, and later turns, are left out.
    """
    if start == 0 and end == last_end and not isinstance(before, str):
        return turns

    low = bisect_left(turns, start, key=_position)
    high = bisect_right(turns, end, key=_position)
    ends = [*(turn.position for turn in turns[low + 1 : high + 1]), last_end]
    found: list[TurnInfo] = []
    for turn, turn_end in zip(turns[low:high], ends, strict=False):
        at = turn.position
        if turn.turn_id == before:
            break
        if (start <= at < end) if at < turn_end else (start < at or start == 0):
            found.append(TurnInfo(turn.turn_id, at - start, turn.created_at, turn.metadata))
    return found


def _parts(values: Sequence[T]) -> Generator[Sequence[T]]:
    """Yield *values* in parts of `_PART_LENGTH`."""
    for start in range(0, len(values), _PART_LENGTH):
        yield values[start : start + _PART_LENGTH]


def _position(turn: TurnInfo) -> int:
    return turn.position


def size_of_value(value: Any) -> int:
    """Return the bytes that a text, a number or another immutable value takes at most.

    The result for one value is always the same (rule 2). `sys.getsizeof` returns more for a text
    that is not ASCII once its UTF-8 has been read.
    """
    if type(value) is str and not value.isascii():
        return _TEXT_OVERHEAD + _CHARACTER * len(value)
    return getsizeof(value)


def _size_of(kept: Any) -> int:
    if type(kept) is dict:
        size = sum(map(size_of_value, kept)) + sum(map(size_of_value, kept.values()))
        return getsizeof(kept) + size + _SLOT
    return size_of_value(kept) + (_JSON_SLOT if type(kept) is bytes else _SLOT)


def _size_of_turn(turn: TurnInfo) -> int:
    size = getsizeof(turn) + size_of_value(turn.turn_id) + getsizeof(turn.created_at) + _SLOT
    size += getsizeof(turn.position)
    return size if turn.metadata is NO_METADATA else size + getsizeof(turn.metadata)
