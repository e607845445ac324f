"""A session as it was loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar, final, overload

Item_co = TypeVar("Item_co", covariant=True)


class TurnStart(NamedTuple):
    """Where a turn starts: the position of its first item in its history, and its id."""

    position: int
    turn_id: str


@final
class History(Sequence[Item_co]):
    """The items of a session, oldest first; immutable, and equal to any sequence of equal items.

    >>> history = History([{"role": "user", "content": "Hi"}], revision=7)
    >>> history == [{"role": "user", "content": "Hi"}], history.revision
    (True, 7)
    """

    __slots__ = ("_is_cut", "_items", "_revision", "_turns")

    def __init__(
        self,
        items: Iterable[Item_co] = (),
        *,
        revision: int = 0,
        turns: Iterable[TurnStart] = (),
        is_cut: bool = False,
    ) -> None:
        self._items = tuple(items)
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

    def turn(self, turn_id: str) -> tuple[Item_co, ...] | None:
        """The items of the turn *turn_id*, or None where this history does not have its start."""
        ends = [*(later.position for later in self._turns[1:]), len(self._items)]
        for turn, end in zip(self._turns, ends, strict=False):
            if turn.turn_id == turn_id:
                return self._items[turn.position : end]
        return None

    def __len__(self) -> int:
        return len(self._items)

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
