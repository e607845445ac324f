"""A store as one tenant sees it.

1. A stored id consists of the scopes, outermost first, each behind its length in characters and a
   colon; then a slash; then the tenant's session id. The session ``x`` of the scope ``b`` in the
   scope ``a`` has the stored id ``1:a1:b/x``.
2. After each scope comes a digit or the slash, so a stored id can be read in one way only. Two
   different pairs of scopes and id never have the same stored id. No stored id of one scope starts
   as those of another scope do, not even of an inner scope.
3. A scope in a scope is flattened: it wraps the same store and has one scope more.
4. Every id goes through `_stored` on its way in. Every result and every error goes through `_own`
   on its way out.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, final

from tower_memory._arguments import check_text
from tower_memory._capabilities.catalog import SessionInfo, check_fork
from tower_memory._capabilities.erasure import Erasure, check_erase, check_prefix
from tower_memory._capabilities.journal import PendingTurn
from tower_memory._capabilities.pages import Page, check_page
from tower_memory._capabilities.search import SearchHit
from tower_memory._capabilities.summaries import Summary
from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._store import SessionStore, check_session_id
from tower_memory._store_wrapper import StoreWrapper
from tower_memory._turn import Turn, check_turn


@final
class ScopedStore(StoreWrapper[Item]):
    """A store as one tenant sees it: every call stays inside *scope*.

    1. **One tenant never sees another.** No call of a scoped store reads, lists, changes or removes
       a session outside of its scope, for any scopes and ids. The results and errors have the
       tenant's own ids. The cursor of another scope's page is refused.
    2. **Scopes nest.** ``ScopedStore(ScopedStore(store, "a"), "b")`` is the scope ``"b"`` in the
       scope ``"a"``. The outer scope neither names nor lists the sessions of the inner scope.
    3. **Equal scopes share session locks.** Two scoped stores with equal stores and scopes are
       equal. So a program may make a scoped store and a `MemoryLayer` for each request.

    A scoped store keeps every promise of the wrapped store, and has the same capabilities
    (`StoreWrapper`). It has nothing to open or close: open and close the wrapped store.

    Use a store that tenants share through scopes only, since the store itself can name every
    session. For the same reason, put a wrapper of your own around the store, not between two
    scopes: through a wrapper, an outer scope can name the sessions of an inner scope.

    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, ScopedStore, Turn
    >>> async def main() -> None:
    ...     store = InMemorySessionStore()
    ...     anna, ben = ScopedStore(store, "anna"), ScopedStore(store, "ben")
    ...     await anna.append(Turn("chat", [{"role": "user", "content": "Hi"}]))
    ...     print(len(await anna.load("chat")), len(await ben.load("chat")))
    ...     await ben.erase(prefix="")
    ...     print(len(await anna.load("chat")))
    >>> anyio.run(main)
    1 0
    1

    Args:
        store: The store of all tenants, or a scoped store.
        scope: The tenant, such as the id of a user; a non-empty string of valid Unicode.

    Attributes:
        store: The store of all tenants, which is never a scoped store.
        scopes: The scopes, outermost first.

    Raises:
        TypeError: *store* is no store, or *scope* is no string.
        ValueError: *scope* is empty or contains a lone surrogate.
    """

    def __init__(self, store: SessionStore[Item], scope: str) -> None:
        check_text("scope", scope)
        self.scopes: tuple[str, ...] = (scope,)
        if isinstance(store, ScopedStore):
            self.scopes = (*store.scopes, scope)
            store = store.store
        super().__init__(store)
        self._start = "".join(f"{len(each)}:{each}" for each in self.scopes) + "/"

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            history = await self.store.load(stored, limit=limit, before=before)
        return history.with_session_id(session_id)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        stored = self._stored_turn(turn)
        with self._own_errors():
            return await self.store.append(stored)

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            return await self.store.pop(stored)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            await self.store.clear(stored)

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the scope's sessions (`SessionCatalog.sessions`)."""
        check_page(prefix, limit)
        with self._own_errors():
            page = await self.store.sessions(prefix=self._start + prefix, limit=limit, after=after)
        return Page(map(self._own_info, page), next=page.next)

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session (`SessionCatalog.describe`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            info = await self.store.describe(stored)
        return None if info is None else self._own_info(info)

    async def annotate(
        self,
        session_id: str,
        metadata: Mapping[str, Any],
        *,
        create: bool = False,
        overwrite: bool = True,
    ) -> SessionInfo | None:
        """Merge *metadata* into that of the session (`SessionCatalog.annotate`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            info = await self.store.annotate(stored, metadata, create=create, overwrite=overwrite)
        return None if info is None else self._own_info(info)

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session of the same scope (`SessionCatalog.fork`)."""
        check_fork(session_id, new_session_id, before)
        stored, new = self._stored(session_id), self._stored(new_session_id)
        with self._own_errors():
            info = await self.store.fork(stored, new, before=before)
        return self._own_info(info)

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the scope's turns that contain *text* (`SessionSearch.search`)."""
        check_prefix(prefix)
        with self._own_errors():
            page = await self.store.search(
                text, prefix=self._start + prefix, limit=limit, after=after
            )
        hits = (replace(hit, session_id=self._without_start(hit.session_id)) for hit in page)
        return Page(hits, next=page.next)

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions for good (`SessionErasure.erase`).

        ``prefix=""`` erases all sessions of the scope. Those of its inner scopes stay.
        """
        check_erase(session_id, prefix, inactive_since, expected_revision)
        with self._own_errors():
            return await self.store.erase(
                session_id=None if session_id is None else self._stored(session_id),
                prefix=None if prefix is None else self._start + prefix,
                inactive_since=inactive_since,
                expected_revision=expected_revision,
            )

    async def scrub(self) -> None:
        """Remove every byte of removed content, of all tenants (`SessionErasure.scrub`)."""
        with self._own_errors():
            await self.store.scrub()

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        stored = self._stored_turn(turn)
        with self._own_errors():
            await self.store.begin(stored, lease=lease, owner=owner)

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            await self.store.fail(stored, turn_id, owner=owner)

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            return await self.store.pending(stored)

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            await self.store.forget(stored, turn_id)

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            return await self.store.load_summary(stored, name=name)

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        stored = self._stored(session_id)
        with self._own_errors():
            return await self.store.save_summary(
                stored, text, turn_id=turn_id, since=since, name=name
            )

    def _stored(self, session_id: str) -> str:
        """Return the stored id of the tenant's session *session_id*."""
        check_session_id(session_id)
        return self._start + session_id

    def _stored_turn(self, turn: Turn[Item]) -> Turn[Item]:
        check_turn(turn)
        return replace(turn, session_id=self._stored(turn.session_id))

    def _own(self, stored: str | None) -> str | None:
        """Return the tenant's id of a stored session; None for a session outside of the scope."""
        if stored is None or not stored.startswith(self._start):
            return None
        return self._without_start(stored)

    def _without_start(self, stored: str) -> str:
        return stored[len(self._start) :]

    def _own_info(self, info: SessionInfo) -> SessionInfo:
        session_id = self._without_start(info.session_id)
        return replace(info, session_id=session_id, forked_from=self._own(info.forked_from))

    @contextmanager
    def _own_errors(self) -> Generator[None]:
        """Change the ids of a `SessionError` to the tenant's own, in place.

        So the error keeps its type, its other attributes, its cause and its traceback.
        """
        try:
            yield
        except SessionError as error:
            error.session_id = self._own(error.session_id)
            turn = getattr(error, "turn", None)
            if isinstance(turn, Turn) and (own := self._own(turn.session_id)) is not None:
                vars(error)["turn"] = replace(turn, session_id=own)
            raise

    def __eq__(self, other: object) -> bool:
        """Return True if *other* is a scoped store with an equal store and equal scopes."""
        if not isinstance(other, ScopedStore):
            return NotImplemented
        return super().__eq__(other) and self.scopes == other.scopes

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.scopes))

    def __repr__(self) -> str:
        shown = repr(self.store)
        for scope in self.scopes:
            shown = f"ScopedStore({shown}, {scope!r})"
        return shown
