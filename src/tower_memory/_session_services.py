"""Loading and saving as services, so that layers can be put around them."""

from __future__ import annotations

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

_limit: ContextVar[int | None] = ContextVar("tower_memory_load_limit", default=None)


async def load_with_limit(limit: int | None, load: Service[str, T], session_id: str) -> T:
    """Call *load*; each `LoadSession` that it calls loads at most *limit* items (None: all).

    The limit passes through all layers around the `LoadSession`, since it is a context variable.
    """
    if _limit.get() == limit:
        return await call_service(load, session_id)
    token = _limit.set(limit)
    try:
        return await call_service(load, session_id)
    finally:
        with suppress(ValueError):  # the coroutine was closed in another context
            _limit.reset(token)


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
        limits = [limit for limit in (self.limit, _limit.get()) if limit is not None]
        return await self.store.load(session_id, limit=min(limits, default=None))


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
