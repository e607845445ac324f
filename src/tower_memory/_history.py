"""A history: items of a session, in the state in which a store loaded them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, final, overload

from tower_memory._tool_links import GetLinks

Item_co = TypeVar("Item_co", covariant=True)


class TurnInfo(NamedTuple):
    """The start of a turn in a history. A turn whose first item is left out is not listed.

    Attributes:
        turn_id: The turn's id.
        position: Index of the turn's first item in the history, from 0.
    """

    turn_id: str
    position: int


Check: TypeAlias = Callable[[Sequence[Any]], bool]
"""Function that returns True if items pass a check.

It must be additive: if two consecutive lists of items pass, both together must pass.
"""


class SharedItems(NamedTuple):
    """Items that a store keeps and shares with a history until a caller reads one of them.

    Attributes:
        items: The shared items; `copy_items` makes the reader's own copies.
        checked: For each check, how many of the first items are known to pass it.
    """

    items: Sequence[Any]
    checked: dict[Check, int]


def copy_items(items: Iterable[Any]) -> list[Any]:
    """Return *items* with a shallow copy of each dict, whose values must be immutable."""
    return [item.copy() if type(item) is dict else item for item in items]


@final
class History(Sequence[Item_co]):
    """The items of a session, oldest first, as a sequence that cannot be changed.

    A history equals any sequence of equal items. Its items are the caller's own copies. They are
    copied when the first one is read; read a history before passing it to another thread.

    >>> from tower_memory import History
    >>> history = History([{"role": "user", "content": "Hi"}], revision=7)
    >>> history == [{"role": "user", "content": "Hi"}], history.revision
    (True, 7)

    Args:
        items: The items, oldest first.
        revision: The revision of the whole session.
        turns: The turns whose first item is among *items*, oldest first.
        is_cut: Whether items of the session are missing in *items*.
        links: Function that returns the links of an item.
    """

    __slots__ = ("_content", "_is_cut", "_links", "_revision", "_turns")

    def __init__(
        self,
        items: Iterable[Item_co] | SharedItems = (),
        *,
        revision: int = 0,
        turns: Iterable[TurnInfo] = (),
        is_cut: bool = False,
        links: GetLinks | None = None,
    ) -> None:
        self._content = items if isinstance(items, SharedItems) else tuple(items)
        self._revision = revision
        self._turns = tuple(turns)
        self._is_cut = is_cut
        self._links = links

    @property
    def revision(self) -> int:
        """The revision of the whole session (see `SessionStore`), even if items are missing."""
        return self._revision

    @property
    def turns(self) -> tuple[TurnInfo, ...]:
        """The turns whose first item is in this history, oldest first.

        Items that `SessionStore.append` did not store, such as rows copied from another file,
        belong to no turn.
        """
        return self._turns

    @property
    def is_cut(self) -> bool:
        """Whether items of the session are missing here: a limit or a window left them out."""
        return self._is_cut

    @property
    def links(self) -> GetLinks | None:
        """Function that returns the links of an item.

        None, except in the history that a `MemoryLayer` passes to a window.
        """
        return self._links

    def with_links(self, links: GetLinks) -> History[Item_co]:
        """Return a history with the same items, whose `links` is *links*."""
        return History(
            self._content,
            revision=self._revision,
            turns=self._turns,
            is_cut=self._is_cut,
            links=links,
        )

    @property
    def _items(self) -> tuple[Item_co, ...]:
        content = self._content
        if isinstance(content, SharedItems):
            content = self._content = tuple(copy_items(content.items))
        return content

    def known(self, check: Check) -> int:
        """Return how many of the first items are known to pass *check*.

        The items after these are checked now; if they pass, the store remembers the result. Once
        an item has been read, the result is 0, since the reader may have changed its copies.
        """
        if not isinstance(self._content, SharedItems):
            return 0

        items, checked = self._content
        known = checked.get(check, 0)
        if known > len(items):  # the store has seen a later, longer state of the session
            return 0

        if check(items[known:]):
            known = checked[check] = len(items)
        return known

    def turn(self, turn_id: str) -> tuple[Item_co, ...] | None:
        """Return the items of the turn *turn_id*, or None if `turns` does not list it."""
        ends = [*(later.position for later in self._turns[1:]), len(self._items)]
        for turn, end in zip(self._turns, ends, strict=False):
            if turn.turn_id == turn_id:
                return self._items[turn.position : end]
        return None

    def __len__(self) -> int:
        content = self._content
        return len(content.items if isinstance(content, SharedItems) else content)

    def __iter__(self) -> Iterator[Item_co]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[Item_co]:
        return reversed(self._items)

    @overload
    def __getitem__(self, index: int, /) -> Item_co: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[Item_co, ...]: ...
    def __getitem__(self, index: int | slice, /) -> Item_co | tuple[Item_co, ...]:
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return self._items == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return f"History({list(self._items)!r}, revision={self.revision})"
