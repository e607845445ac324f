"""Sessions: what is saved, how, and, on `SessionStore`, what every store promises."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from typing import Generic, Protocol, TypeVar, final, runtime_checkable

from tower_memory._arguments import check_text, check_whole
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._service import Service

SessionItem = TypeVar("SessionItem")
T = TypeVar("T")


_random_ids: list[str] = []
"""Turn ids at hand, as each visit to the system's source of chance costs time."""

os.register_at_fork(after_in_child=_random_ids.clear)  # which would give out the same


def _new_turn_id() -> str:
    try:
        return _random_ids.pop()
    except IndexError:
        random = os.urandom(64 * 16).hex()
        ids = [random[start : start + 32] for start in range(0, len(random), 32)]
        turn_id = ids.pop()
        _random_ids.extend(ids)
        return turn_id


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
            check_revision(self.expected_revision)
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

        The history tells whether there are more (`History.is_cut`), and its revision is the
        session's, whatever the limit.

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
    if _at_most.get() == limit:
        return await load(session_id)
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
    if isinstance(value, (list, tuple)):  # asked first, as it is by far the fastest
        return
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping, set, frozenset)):
        msg = f"items must be a sequence of items, got {type(value).__name__}"
        raise TypeError(msg)


def check_revision(value: int) -> None:
    """Refuse what no session can be expected to be at."""
    check_whole("expected_revision", value, least=-(2**63))
    if value >= 2**63:
        msg = f"expected_revision must be below 2**63, got {value}"
        raise ValueError(msg)


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
