"""A store with a span for each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Self, TypeVar, final

from anyio.lowlevel import checkpoint
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._capabilities.erasure import Erasure
from tower_memory._capabilities.journal import PendingTurn
from tower_memory._capabilities.pages import Page
from tower_memory._capabilities.search import SearchHit
from tower_memory._capabilities.summaries import Summary
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._store import SessionStore
from tower_memory._store_wrapper import StoreWrapper
from tower_memory._tracing import names
from tower_memory._tracing.operation import Operation
from tower_memory._tracing.telemetry import Telemetry
from tower_memory._turn import Turn

T = TypeVar("T")


@final
class TracedStore(StoreWrapper[Item]):
    """A store with a span for each call, and with metrics.

    1. It keeps every promise of the wrapped store, and has the same capabilities (`StoreWrapper`).
    2. It has the same sessions as the wrapped store, so both are equal and share session locks.
       A program may trace a store in one place and not in another.
    3. Entering and closing it enters and closes the wrapped store, without a span.

    `tower_memory.tracing` lists the spans, and has an example.

    Args:
        store: The store to wrap.
        tracer_provider: Provider of the tracer; None takes the global one.
        meter_provider: Provider of the meter; None takes the global one.

    Raises:
        TypeError: *store* is no store, or a provider is of the wrong type.
    """

    def __init__(
        self,
        store: SessionStore[Item],
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(store)
        self._telemetry = Telemetry(tracer_provider, meter_provider)

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        load = partial(self.store.load, session_id, limit=limit, before=before)
        return await self._run("load", load, session_id, limit=limit)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        return await self._run("append", partial(self.store.append, turn), turn=turn)

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        return await self._run("pop", partial(self.store.pop, session_id), session_id)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        await self._run("clear", partial(self.store.clear, session_id), session_id)

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions (`SessionCatalog.sessions`)."""
        sessions = partial(self.store.sessions, prefix=prefix, limit=limit, after=after)
        return await self._run("sessions", sessions, limit=limit)

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session (`SessionCatalog.describe`)."""
        return await self._run("describe", partial(self.store.describe, session_id), session_id)

    async def annotate(
        self,
        session_id: str,
        metadata: Mapping[str, Any],
        *,
        create: bool = False,
        overwrite: bool = True,
    ) -> SessionInfo | None:
        """Merge *metadata* into that of the session (`SessionCatalog.annotate`)."""
        annotate = partial(
            self.store.annotate, session_id, metadata, create=create, overwrite=overwrite
        )
        return await self._run("annotate", annotate, session_id)

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session (`SessionCatalog.fork`)."""
        fork = partial(self.store.fork, session_id, new_session_id, before=before)
        return await self._run("fork", fork, session_id, new_session_id=new_session_id)

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that contain *text* (`SessionSearch.search`)."""
        search = partial(self.store.search, text, prefix=prefix, limit=limit, after=after)
        return await self._run("search", search, limit=limit)

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions for good (`SessionErasure.erase`)."""
        erase = partial(
            self.store.erase,
            session_id=session_id,
            prefix=prefix,
            inactive_since=inactive_since,
            expected_revision=expected_revision,
        )
        return await self._run("erase", erase, session_id)

    async def scrub(self) -> None:
        """Remove every byte of removed content (`SessionErasure.scrub`)."""
        await self._run("scrub", self.store.scrub)

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        begin = partial(self.store.begin, turn, lease=lease, owner=owner)
        await self._run("begin", begin, turn=turn)

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        fail = partial(self.store.fail, session_id, turn_id, owner=owner)
        await self._run("fail", fail, session_id, turn_id=turn_id)

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        return await self._run("pending", partial(self.store.pending, session_id), session_id)

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        forget = partial(self.store.forget, session_id, turn_id)
        await self._run("forget", forget, session_id, turn_id=turn_id)

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        load = partial(self.store.load_summary, session_id, name=name)
        return await self._run("load_summary", load, session_id)

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        save = partial(
            self.store.save_summary, session_id, text, turn_id=turn_id, since=since, name=name
        )
        return await self._run("save_summary", save, session_id, turn_id=turn_id)

    async def aclose(self) -> None:
        """Close the wrapped store, if it has an ``aclose`` method."""
        await getattr(self.store, "aclose", checkpoint)()

    async def __aenter__(self) -> Self:
        """Enter the wrapped store, if it is an async context manager."""
        await getattr(self.store, "__aenter__", checkpoint)()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(
        self,
        name: str,
        call: Callable[[], Awaitable[T]],
        session_id: object = None,
        *,
        turn: object = None,
        limit: object = None,
        turn_id: object = None,
        new_session_id: object = None,
    ) -> T:
        """Return the result of *call*, the operation *name* of the store."""
        if not self._telemetry.is_active():
            return await call()

        ids = {
            names.CONVERSATION_ID: session_id,
            names.TURN_ID: turn_id,
            names.NEW_CONVERSATION_ID: new_session_id,
        }
        operation = Operation(self._telemetry, f"store.{name}", turn=turn, ids=ids, limit=limit)
        return await operation.run(call)

    def __eq__(self, other: object) -> bool:
        """Return True if *other*, traced or not, equals the wrapped store."""
        untraced = other.store if isinstance(other, TracedStore) else other
        return bool(self.store == untraced)

    __hash__ = StoreWrapper.__hash__
