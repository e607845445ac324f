"""Sessions: what is loaded, what is saved, and, on `SessionStore`, what every store promises."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar, final, overload, runtime_checkable

from tower_memory._arguments import check_text, check_whole
from tower_memory._items import Item
from tower_memory._service import Service

Item_co = TypeVar("Item_co", covariant=True)
SessionItem = TypeVar("SessionItem")
T = TypeVar("T")


class TurnStart(NamedTuple):
    """Where a turn starts: the position of its first item in its history, and its id."""

    position: int
    turn_id: str


def turn_starts(turn_ids: Iterable[str | None]) -> Iterator[TurnStart]:
    """The starts among a history's items, given the turn id of each that is a turn's first."""
    for position, turn_id in enumerate(turn_ids):
        if turn_id is not None:
            yield TurnStart(position, turn_id)


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


def _new_turn_id() -> str:
    return secrets.token_hex(16)


@final
@dataclass(frozen=True, slots=True)
class Turn(Generic[Item]):
    """What is saved together: the new items of one session.

    Attributes:
        session_id: The session; any text but the empty one.
        items: The items in order.
        expected_revision: The revision the session must have, or None for whatever it has.
        turn_id: Tells this turn from all others of its session: any text but the empty one; by
            default 16 random bytes in hexadecimal, made when the turn is made.

    Raises:
        TypeError: An attribute is of another type.
        ValueError: An id is empty or holds a lone surrogate, or *expected_revision* is no
            64-bit integer.
    """

    session_id: str
    items: Sequence[Item]
    _: KW_ONLY
    expected_revision: int | None = None
    turn_id: str = field(default_factory=_new_turn_id)

    def __post_init__(self) -> None:
        check_text("session_id", self.session_id)
        check_text("turn_id", self.turn_id)
        if self.expected_revision is not None:
            check_whole("expected_revision", self.expected_revision, least=-(2**63))
            if self.expected_revision >= 2**63:
                msg = f"expected_revision must be below 2**63, got {self.expected_revision}"
                raise ValueError(msg)
        check_items(self.items)
        object.__setattr__(self, "items", tuple(self.items))


@runtime_checkable
class SessionStore(Protocol[Item]):
    """Where sessions live. What every store promises, stated here and nowhere else:

    1. **A turn is whole or absent.** `append` writes all of a turn's items, in order, or none.
    2. **Saving twice is saving once.** A turn that its session already holds is not written again.
    3. **Lossless or refused.** What `load` gives equals what was appended. What cannot be kept so
       raises before anything is written; what cannot be read raises and stays.
    4. **A copy is a copy.** What a caller does to a loaded or an appended item changes nothing
       stored.
    5. **A revision is a content.** 0 for a session that holds nothing; changed by whatever
       changes the content; never shared by two different contents of one session. It counts
       nothing.

    A store gives and takes items of one type, whatever JSON-able type it was made for. Sessions
    need not be created: one that was never written to is empty. ``session_id`` is any text but
    the empty one; bad arguments raise `TypeError` or `ValueError` before anything is done.
    """

    async def load(self, session_id: str, *, limit: int | None = None) -> History[Item]:
        """The session's items, oldest first; at most the newest *limit*, 0 for none of them.

        Raises:
            CorruptSessionError: An item cannot be decoded.
            SessionError: The store cannot be read.
        """
        ...

    async def append(self, turn: Turn[Item]) -> int:
        """Add the turn's items and return the session's revision.

        Checked in this order: a turn already held writes nothing and returns the current
        revision; an outdated ``expected_revision`` raises, for a turn without items too. A turn
        without items writes nothing, nor does a turn that is refused: it may be made again.

        When it is cancelled, the turn is wholly saved or wholly absent; appending it again
        settles which.

        Raises:
            SessionConflict: The session is not at ``turn.expected_revision``.
            UnencodableItemError: An item would not come back as it is.
            SessionError: The store cannot be written.
        """
        ...

    async def pop(self, session_id: str) -> Item | None:
        """Take the newest item out of the session and return it; None when there is none.

        Raises:
            CorruptSessionError: The item cannot be decoded; it stays.
            SessionError: The store cannot be written.
        """
        ...

    async def clear(self, session_id: str) -> None:
        """Take all items, and every turn with them, out of the session.

        Raises:
            SessionError: The store cannot be written.
        """
        ...


class Session(Protocol[SessionItem]):
    """One session as a handle: what agent frameworks ask of a conversation.

    The methods are those of openai-agents' protocol of the same name; items are oldest first,
    and *limit* keeps the newest.
    """

    session_id: str

    async def get_items(self, limit: int | None = None) -> list[SessionItem]:
        """The session's items, as in `SessionStore.load`."""
        ...

    async def add_items(self, items: list[SessionItem]) -> None:
        """Add *items*, all or none, as in `SessionStore.append`."""
        ...

    async def pop_item(self) -> SessionItem | None:
        """Take the newest item, as in `SessionStore.pop`."""
        ...

    async def clear_session(self) -> None:
        """Take all items, as in `SessionStore.clear`."""
        ...


_at_most: ContextVar[int | None] = ContextVar("tower_memory_at_most", default=None)


async def load_at_most(limit: int | None, load: Service[str, T], session_id: str) -> T:
    """What *load* gives, of which a `LoadSession` in it, behind whatever layers, loads no more."""
    before = _at_most.set(limit)
    try:
        return await load(session_id)
    finally:
        with suppress(ValueError):  # finalized in another context, where nothing was set
            _at_most.reset(before)


@final
@dataclass(frozen=True, slots=True)
class LoadSession(Generic[Item]):
    """The service that loads: from a session id to its `History`.

    Being a service, it takes layers: ``TimeoutLayer(1)(LoadSession(store))``.

    Attributes:
        store: Where to load from.
        limit: At most so many items, the newest; None for all of them, 0 for none.
    """

    store: SessionStore[Item]
    limit: int | None = None

    def __post_init__(self) -> None:
        check_store(self.store)
        if self.limit is not None:
            check_whole("limit", self.limit, least=0)

    async def __call__(self, session_id: str, /) -> History[Item]:
        limits = [limit for limit in (self.limit, _at_most.get()) if limit is not None]
        return await self.store.load(session_id, limit=min(limits, default=None))


@final
@dataclass(frozen=True, slots=True)
class SaveSession(Generic[Item]):
    """The service that saves: from a `Turn` to the session's revision after it.

    It appends, all or nothing, and replaces nothing. As saving twice is saving once, it may be
    retried: ``RetryLayer(on=SessionError)(SaveSession(store))``.

    Attributes:
        store: Where to save to.
    """

    store: SessionStore[Item]

    def __post_init__(self) -> None:
        check_store(self.store)

    async def __call__(self, turn: Turn[Item], /) -> int:
        return await self.store.append(turn)


def check_items(value: object) -> None:
    """Refuse what would be taken apart for items, such as one item."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping, set, frozenset)):
        msg = f"items must be a sequence of items, got {type(value).__name__}"
        raise TypeError(msg)


def check_load(session_id: str, limit: int | None) -> None:
    """Refuse what cannot be loaded."""
    check_text("session_id", session_id)
    if limit is not None:
        check_whole("limit", limit, least=0)


def check_store(value: object) -> None:
    """Refuse what is no store."""
    if not isinstance(value, SessionStore):
        msg = f"store must have load, append, pop and clear, got {value!r}"
        raise TypeError(msg)
