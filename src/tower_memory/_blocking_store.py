"""A `ThreadedStore` for code without an event loop."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Self, final

from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._capabilities.erasure import Erasure
from tower_memory._capabilities.journal import PendingTurn
from tower_memory._capabilities.pages import Page
from tower_memory._capabilities.search import SearchHit
from tower_memory._capabilities.summaries import Summary
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._turn import Turn

if TYPE_CHECKING:
    from tower_memory._threaded_store import ThreadedStore


@final
class BlockingStore(Generic[Item]):
    """A `ThreadedStore` for code without an event loop, such as synchronous web frameworks.

    `ThreadedStore.blocking` makes it. As a context manager, it closes the store at the end.

    The methods are those of the store. They block the calling thread until they have a result, may
    be called from any number of threads, and raise the same errors. A method of a capability that
    the store lacks raises `AttributeError`, or `TypeError` if the store is a `StoreWrapper`.
    """

    def __init__(self, threaded: ThreadedStore[Item]) -> None:
        self._threaded = threaded
        self._store = threaded.store
        self._run = threaded.run

    def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        return self._run(self._store.load, session_id, limit=limit, before=before)

    def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        return self._run(self._store.append, turn)

    def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        return self._run(self._store.pop, session_id)

    def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        self._run(self._store.clear, session_id)

    def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions (`SessionCatalog.sessions`)."""
        return self._run(self._store.sessions, prefix=prefix, limit=limit, after=after)

    def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session (`SessionCatalog.describe`)."""
        return self._run(self._store.describe, session_id)

    def annotate(
        self,
        session_id: str,
        metadata: Mapping[str, Any],
        *,
        create: bool = False,
        overwrite: bool = True,
    ) -> SessionInfo | None:
        """Merge *metadata* into that of the session (`SessionCatalog.annotate`)."""
        annotate = self._store.annotate
        return self._run(annotate, session_id, metadata, create=create, overwrite=overwrite)

    def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session (`SessionCatalog.fork`)."""
        return self._run(self._store.fork, session_id, new_session_id, before=before)

    def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that contain *text* (`SessionSearch.search`)."""
        return self._run(self._store.search, text, prefix=prefix, limit=limit, after=after)

    def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions for good (`SessionErasure.erase`)."""
        return self._run(
            self._store.erase,
            session_id=session_id,
            prefix=prefix,
            inactive_since=inactive_since,
            expected_revision=expected_revision,
        )

    def scrub(self) -> None:
        """Remove every byte of removed content (`SessionErasure.scrub`)."""
        self._run(self._store.scrub)

    def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        self._run(self._store.begin, turn, lease=lease, owner=owner)

    def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        self._run(self._store.fail, session_id, turn_id, owner=owner)

    def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        return self._run(self._store.pending, session_id)

    def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        self._run(self._store.forget, session_id, turn_id)

    def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        return self._run(self._store.load_summary, session_id, name=name)

    def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        save = self._store.save_summary
        return self._run(save, session_id, text, turn_id=turn_id, since=since, name=name)

    def close(self) -> None:
        """Close the store, as `ThreadedStore.aclose` does."""
        self._threaded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{self._threaded!r}.blocking"
