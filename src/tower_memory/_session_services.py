"""Loading and saving as services, so that layers can be put around them."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from tower_memory._arguments import check_int
from tower_memory._calls import call_service
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._service import Service
from tower_memory._store import SessionStore, check_store
from tower_memory._turn import Turn

T = TypeVar("T")


@final
@dataclass(slots=True)
class Selection:
    """The items that a load is to return.

    Attributes:
        limit: Maximum number of items: the newest ones. None selects all.
        before: Id of the turn before which the items end; None for the end of the session.
        is_seen: True once a `LoadSession` has passed this selection to its store.
    """

    limit: int | None
    before: str | None
    is_seen: bool = False


_selection: ContextVar[Selection | None] = ContextVar("tower_memory_selection", default=None)


def load_selected(
    selection: Selection | None, load: Service[str, T], session_id: str
) -> Awaitable[T]:
    """Call *load*; each `LoadSession` that it calls loads only *selection*; None loads all.

    The selection passes through all layers around the `LoadSession`, since it is a context
    variable.
    """
    if selection is _selection.get():
        return call_service(load, session_id)
    return _load_in_context(selection, load, session_id)


async def _load_in_context(
    selection: Selection | None, load: Service[str, T], session_id: str
) -> T:
    token = _selection.set(selection)
    try:
        return await call_service(load, session_id)
    finally:
        with suppress(ValueError):  # the coroutine was closed in another context
            _selection.reset(token)


def selected_limit(limit: int | None) -> int | None:
    """Return the limit that a `LoadSession` with *limit* passes to its store now."""
    selection = _selection.get()
    selected = None if selection is None else selection.limit
    return min([each for each in (limit, selected) if each is not None], default=None)


@final
@dataclass(frozen=True, slots=True)
class LoadSession(Generic[Item]):
    """A service from a session id to the session's `History`.

    Layers can be put around it: ``TimeoutLayer(1)(LoadSession(store))``.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, LoadSession
    >>> anyio.run(LoadSession(InMemorySessionStore()), "user_123")
    History([], revision=0)

    Attributes:
        store: The store to load from.
        limit: Maximum number of items: the newest ones. 0 loads none, None loads all.

    Raises:
        TypeError: *store* is no store, or *limit* is no integer.
        ValueError: *limit* is negative.
        SessionError: When called: see `SessionStore.load`.
    """

    store: SessionStore[Item]
    limit: int | None = None

    def __post_init__(self) -> None:
        check_store(self.store)
        if self.limit is not None:
            check_int("limit", self.limit, least=0)

    async def __call__(self, session_id: str, /) -> History[Item]:
        selection = _selection.get()
        if selection is None:
            return await self.store.load(session_id, limit=self.limit)

        selection.is_seen = True
        limit = selected_limit(self.limit)
        if selection.before is None:  # the store's load may be older than the parameter
            return await self.store.load(session_id, limit=limit)
        return await self.store.load(session_id, limit=limit, before=selection.before)


@final
@dataclass(frozen=True, slots=True)
class SaveSession(Generic[Item]):
    """A service from a `Turn`, which it appends, to the session's new revision.

    It appends the turn whole or not at all. Appending a turn again changes nothing, so it may be
    retried:
    ``RetryLayer(on=SessionError)(SaveSession(store))``.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, SaveSession, Turn
    >>> anyio.run(SaveSession(InMemorySessionStore()), Turn("user_123", ["Hi"]))
    1

    Attributes:
        store: The store to save to.

    Raises:
        TypeError: *store* is no store.
        SessionError: When called, such as a `SessionConflict` or an `UnencodableItemError`: see
            `SessionStore.append`.
    """

    store: SessionStore[Item]

    def __post_init__(self) -> None:
        check_store(self.store)

    async def __call__(self, turn: Turn[Item], /) -> int:
        return await self.store.append(turn)
