"""A session as it was loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, final, overload

Item_co = TypeVar("Item_co", covariant=True)


class TurnStart(NamedTuple):
    """Where a turn starts: the position of its first item in its history, and its id."""

    position: int
    turn_id: str


Check: TypeAlias = Callable[[Sequence[Any]], bool]
"""What can be said of items. If it holds for some, and for those after them, it holds for all."""


class Unread(NamedTuple):
    """Items as a store keeps them, shared with others until somebody looks at them.

    Attributes:
        items: The items, of which `copied` makes one's own.
        held: Of how many of the first of them a check is known to hold; to be noted here.
    """

    items: Sequence[Any]
    held: dict[Check, int]


def copied(items: Iterable[Any]) -> list[Any]:
    """*items* to do with as one likes, if mappings among them hold nothing that can be changed."""
    return [each.copy() if type(each) is dict else each for each in items]


@final
class History(Sequence[Item_co]):
    """The items of a session, oldest first; immutable, and equal to any sequence of equal items.

    A store's own items are copied once somebody looks at one of them; until then, a history is for
    one thread.

    >>> history = History([{"role": "user", "content": "Hi"}], revision=7)
    >>> history == [{"role": "user", "content": "Hi"}], history.revision
    (True, 7)
    """

    __slots__ = ("_content", "_is_cut", "_revision", "_turns")

    def __init__(
        self,
        items: Iterable[Item_co] | Unread = (),
        *,
        revision: int = 0,
        turns: Iterable[TurnStart] = (),
        is_cut: bool = False,
    ) -> None:
        self._content = items if isinstance(items, Unread) else tuple(items)
        self._revision = revision
        self._turns = tuple(turns)
        self._is_cut = is_cut

    @property
    def revision(self) -> int:
        """Tells the session's content (`SessionStore`), however little of it was loaded."""
        return self._revision

    @property
    def turns(self) -> tuple[TurnStart, ...]:
        """Where each turn starts, oldest first.

        A turn whose start a limit left out, and items that came from elsewhere than
        `SessionStore.append`, have none.
        """
        return self._turns

    @property
    def is_cut(self) -> bool:
        """Whether these items are not all that the session holds, or not as it holds them."""
        return self._is_cut

    @property
    def _items(self) -> tuple[Item_co, ...]:
        content = self._content
        if isinstance(content, Unread):
            content = self._content = tuple(copied(content.items))
        return content

    def known(self, check: Check) -> int:
        """Of how many of the first items it is known that *check* holds for them, as nobody can
        have changed them since it was asked. The rest is asked of now, to be known from now on.
        """
        if not isinstance(self._content, Unread):
            return 0
        items, held = self._content
        known = held.get(check, 0)
        if known > len(items):  # of the session as it was later
            return 0
        if check(items[known:]):
            known = held[check] = len(items)
        return known

    def turn(self, turn_id: str) -> tuple[Item_co, ...] | None:
        """The items of the turn *turn_id*, or None where this history does not have its start."""
        ends = [*(later.position for later in self._turns[1:]), len(self._items)]
        for turn, end in zip(self._turns, ends, strict=False):
            if turn.turn_id == turn_id:
                return self._items[turn.position : end]
        return None

    def __len__(self) -> int:
        content = self._content
        return len(content.items if isinstance(content, Unread) else content)

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
