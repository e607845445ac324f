"""A history: items of a session, in the state in which a store loaded them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias, TypeVar, final, overload

from msgspec import Struct

from tower_memory._tool_links import GetLinks

Item_co = TypeVar("Item_co", covariant=True)

NO_METADATA: Final[Mapping[str, Any]] = MappingProxyType({})
"""The metadata of a turn that has none."""


@final
class TurnInfo(Struct, frozen=True):
    """A turn in a history. A turn whose first item is left out is not listed.

    A turn without items, which only a `Turn` with *replaces* leaves behind, is listed with the item
    before it.

    Attributes:
        turn_id: The turn's id.
        position: Index of the turn's first item in the history, from 0.
        created_at: Time at which the turn was stored, with the time zone UTC.
        metadata: The metadata of the turn; an empty mapping if it has none.
    """

    turn_id: str
    position: int
    created_at: datetime
    metadata: Mapping[str, Any] = NO_METADATA


Check: TypeAlias = Callable[[Sequence[Any]], bool]
"""Function that returns True if items pass a check.

It must be additive: if two consecutive lists of items pass, both together must pass.
"""


class UnreadItems(Protocol):
    """Items that a store shares with a history until the first of them is read."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def copies(self) -> tuple[Any, ...]:
        """Return the items as the reader's own copies."""
        ...

    def peek(self) -> Sequence[Any]:
        """Return the shared items themselves. See `peek`."""
        ...

    def checked_length(self, check: Check) -> int:
        """Return the length of a prefix that is known to pass *check*. See `checked_length`."""
        ...


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
        session_id: The session; empty if it is not known.
        revision: The revision of the whole session.
        offset: The number of items of the session before *items*.
        turns: The turns whose first item is among *items*, oldest first; or a function that returns
            them, which is called when they are first asked for.
        is_cut: True if older items of the session are missing in *items*. None means True if
            *offset* is not 0.
        links: Function that returns the links of an item.
    """

    __slots__ = ("_content", "_is_cut", "_links", "_offset", "_revision", "_session_id", "_turns")

    def __init__(
        self,
        items: Iterable[Item_co] | UnreadItems = (),
        *,
        session_id: str = "",
        revision: int = 0,
        offset: int = 0,
        turns: Iterable[TurnInfo] | Callable[[], Iterable[TurnInfo]] = (),
        is_cut: bool | None = None,
        links: GetLinks | None = None,
    ) -> None:
        self._content: tuple[Item_co, ...] | UnreadItems = (
            tuple(items) if isinstance(items, Iterable) else items
        )
        self._session_id = session_id
        self._revision = revision
        self._offset = offset
        self._turns = turns if callable(turns) else tuple(turns)
        self._is_cut = offset > 0 if is_cut is None else is_cut
        self._links = links

    @property
    def session_id(self) -> str:
        """The session; empty if the history was made without one."""
        return self._session_id

    @property
    def revision(self) -> int:
        """The revision of the whole session (see `SessionStore`), even if items are missing."""
        return self._revision

    @property
    def offset(self) -> int:
        """The number of items of the session before the first item of this history.

        If the history has no items, the number of items before its end: all items of the session,
        or all that *before* selected. ``store.load(session_id, limit=50, before=history.offset)``
        loads the page before this history.
        """
        return self._offset

    @property
    def turns(self) -> tuple[TurnInfo, ...]:
        """The turns whose first item is in this history, oldest first."""
        turns = self._turns
        if callable(turns):
            turns = self._turns = tuple(turns())
        return turns

    @property
    def is_cut(self) -> bool:
        """True if older items of the session are missing: a limit or a window left them out."""
        return self._is_cut

    @property
    def links(self) -> GetLinks | None:
        """Function that returns the links of an item.

        None, except in the history that a `MemoryLayer` passes to a window.
        """
        return self._links

    def with_links(self, links: GetLinks) -> History[Item_co]:
        """Return a history with the same items, whose `links` is *links*."""
        return self._copy(self._session_id, links)

    def with_session_id(self, session_id: str) -> History[Item_co]:
        """Return a history with the same items, whose session is *session_id*.

        For a store that wraps a store. Neither method reads or copies the items.
        """
        return self._copy(session_id, self._links)

    def _copy(self, session_id: str, links: GetLinks | None) -> History[Item_co]:
        return History(
            self._content,
            session_id=session_id,
            revision=self._revision,
            offset=self._offset,
            turns=self._turns,
            is_cut=self._is_cut,
            links=links,
        )

    @property
    def _items(self) -> tuple[Item_co, ...]:
        content = self._content
        if not isinstance(content, tuple):
            content = self._content = content.copies()
        return content

    def turn(self, turn_id: str) -> tuple[Item_co, ...] | None:
        """Return the items of the turn *turn_id*, or None if `turns` does not list it."""
        turns = self.turns
        ends = [*(later.position for later in turns[1:]), len(self._items)]
        for turn, end in zip(turns, ends, strict=False):
            if turn.turn_id == turn_id:
                return self._items[turn.position : end]
        return None

    def __len__(self) -> int:
        return len(self._content)

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


def checked_length(history: History[Any], check: Check) -> int:
    """Return the length of a prefix of *history* that is known to pass *check*.

    The store that keeps the items remembers the result, and checks only items that are new to it.
    The length is 0 once an item of the history has been read, because its reader may have changed
    the copies. For functions of this library only: *check* sees the items that the store keeps, and
    must not change them; the store keeps *check* as long as the session.
    """
    content = history._content  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - same module
    return 0 if isinstance(content, tuple) else content.checked_length(check)


def peek(history: History[Any]) -> Sequence[Any]:
    """Return the items of *history* without a copy, and leave them unread.

    For functions of this library only: the store may share the items, so they must not be changed.
    """
    content = history._content  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - same module
    return content if isinstance(content, tuple) else content.peek()
