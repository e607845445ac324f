"""A store that lives in an event loop of its own, for every event loop and for code without one."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Any, ParamSpec, Self, TypeVar, final

from anyio import CancelScope
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory._blocking_store import BlockingStore
from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._capabilities.erasure import Erasure
from tower_memory._capabilities.journal import PendingTurn
from tower_memory._capabilities.pages import Page
from tower_memory._capabilities.search import SearchHit
from tower_memory._capabilities.summaries import Summary
from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._loop_thread import Call, LoopThread
from tower_memory._portal import wait_until_done
from tower_memory._store import SessionStore
from tower_memory._store_wrapper import StoreWrapper
from tower_memory._turn import Turn

P = ParamSpec("P")
T = TypeVar("T")

_lock = Lock()
"""Guards the start and the stop of every store's thread; it is never held for long."""


def _renew_lock() -> None:
    """Replace the lock, which another thread may have held when this process was forked."""
    global _lock  # noqa: PLW0603
    _lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)


@final
class ThreadedStore(StoreWrapper[Item]):
    """A store that lives in an asyncio loop of its own, on a thread of its own.

    Its methods can be awaited in any number of event loops, on asyncio and on trio, at the same
    time and one after another. `blocking` has the same methods for code without an event loop.

    1. It keeps every promise of the wrapped store, and has the same capabilities (`StoreWrapper`).
       Cancelling a caller cancels its call, as in the store itself.
    2. The first use starts the thread. `aclose` waits for the calls in progress, closes the wrapped
       store if it has an ``aclose`` method, and ends the thread. The next use starts another
       thread. The thread does not keep the process alive. A store that is garbage-collected open
       closes with a `ResourceWarning`.
    3. Use the wrapped store only through this one.
    4. In a forked child, the next use starts a thread of the child. A `SqliteSessionStore` that
       was open when the process was forked then raises `RuntimeError`, as it does by itself.

    The lock of a session belongs to an event loop. So turns of one session wait for each other only
    in the same event loop; otherwise they overlap, as those of different processes do. Call the
    memory layer with `run` if turns of several threads have to wait for each other.

    The docstring of `tower_memory.bridges` has examples.

    Args:
        store: The store to wrap.

    Raises:
        TypeError: *store* is no store.
        SessionError: When called: see the method of the wrapped store; or the thread cannot be
            started.
        RuntimeError: When called: a blocking call, or `aclose`, on the store's own thread, where it
            would wait for itself.
    """

    def __init__(self, store: SessionStore[Item]) -> None:
        super().__init__(store)
        self._thread: LoopThread | None = None

    @property
    def blocking(self) -> BlockingStore[Item]:
        """The same store for code without an event loop."""
        return BlockingStore(self)

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function in the store's event loop, block until its end, and return its
        result: ``store.run(chat, messages)``.

        For code without an event loop. In the function, the store can be awaited as everywhere. An
        error of the function is raised.
        """
        call = Call(partial(function, *args, **kwargs))
        while (ended := self._start(call)) is not None:
            ended.exception()  # waits for the end
        return call.wait_blocking()

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Item]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        return await self._call(self.store.load, session_id, limit=limit, before=before)

    async def append(self, turn: Turn[Item]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        return await self._call(self.store.append, turn)

    async def pop(self, session_id: str) -> Item | None:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        return await self._call(self.store.pop, session_id)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        await self._call(self.store.clear, session_id)

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions (`SessionCatalog.sessions`)."""
        return await self._call(self.store.sessions, prefix=prefix, limit=limit, after=after)

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session (`SessionCatalog.describe`)."""
        return await self._call(self.store.describe, session_id)

    async def annotate(
        self,
        session_id: str,
        metadata: Mapping[str, Any],
        *,
        create: bool = False,
        overwrite: bool = True,
    ) -> SessionInfo | None:
        """Merge *metadata* into that of the session (`SessionCatalog.annotate`)."""
        annotate = self.store.annotate
        return await self._call(annotate, session_id, metadata, create=create, overwrite=overwrite)

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session (`SessionCatalog.fork`)."""
        return await self._call(self.store.fork, session_id, new_session_id, before=before)

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that contain *text* (`SessionSearch.search`)."""
        return await self._call(self.store.search, text, prefix=prefix, limit=limit, after=after)

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions for good (`SessionErasure.erase`)."""
        return await self._call(
            self.store.erase,
            session_id=session_id,
            prefix=prefix,
            inactive_since=inactive_since,
            expected_revision=expected_revision,
        )

    async def scrub(self) -> None:
        """Remove every byte of removed content (`SessionErasure.scrub`)."""
        await self._call(self.store.scrub)

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        await self._call(self.store.begin, turn, lease=lease, owner=owner)

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        await self._call(self.store.fail, session_id, turn_id, owner=owner)

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        return await self._call(self.store.pending, session_id)

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        await self._call(self.store.forget, session_id, turn_id)

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        return await self._call(self.store.load_summary, session_id, name=name)

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        save = self.store.save_summary
        return await self._call(save, session_id, text, turn_id=turn_id, since=since, name=name)

    async def aclose(self) -> None:
        """Close the wrapped store and end the thread, after the calls in progress.

        Closing a closed store does nothing. If the caller is cancelled, the store closes
        nevertheless.

        Raises:
            SessionError: The wrapped store could not be closed in order.
        """
        ended = self._stop()
        if ended is None:
            await checkpoint()
            return
        with CancelScope(shield=True):
            await wait_until_done(ended)
        ended.result()

    async def __aenter__(self) -> Self:
        """Open the wrapped store, if it is an async context manager."""
        enter = getattr(self.store, "__aenter__", None)
        if enter is not None:
            try:
                await self._call(enter)
            except BaseException:
                await self.aclose()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def close(self) -> None:
        """Close the store as `aclose` does, from code without an event loop."""
        ended = self._stop()
        if ended is not None:
            ended.result()

    def __eq__(self, other: object) -> bool:
        """Return True if *other* is a threaded store of an equal store."""
        return super().__eq__(other) if isinstance(other, ThreadedStore) else NotImplemented

    __hash__ = StoreWrapper.__hash__

    async def _call(
        self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run *function* in the store's event loop, and return its result."""
        thread = self._thread
        if thread is not None and thread.is_current():
            return await function(*args, **kwargs)

        await checkpoint_if_cancelled()  # so an already cancelled call changes nothing
        call = Call(partial(function, *args, **kwargs))
        while (ended := self._start(call)) is not None:
            await wait_until_done(ended)
        return await call.wait()

    def _start(self, call: Call[Any]) -> Future[None] | None:
        """Start *call* on the thread; return None.

        If the thread is about to end, start nothing, and return the future of its end. The caller
        waits for it and tries again.
        """
        with _lock:
            thread = self._thread
            if thread is None or thread.ended.done() or thread.process != os.getpid():
                thread = self._thread = self._new_thread()
            _refuse_on(thread)
            if thread.is_stopping:
                return thread.ended
            thread.start(call)
            return None

    def _new_thread(self) -> LoopThread:
        try:
            return LoopThread(getattr(self.store, "aclose", checkpoint))
        except (OSError, RuntimeError) as error:
            msg = f"the thread of the store cannot be started: {error}"
            raise SessionError(msg) from error

    def _stop(self) -> Future[None] | None:
        """Let the thread end soon; return the future of its end, or None if no thread runs."""
        with _lock:
            thread = self._thread
            if thread is None or thread.ended.done() or thread.process != os.getpid():
                return None
            _refuse_on(thread)
            thread.stop()
            return thread.ended

    def __del__(self) -> None:
        # Without the lock: the garbage collector may run while this thread holds it.
        thread: LoopThread | None = vars(self).get("_thread")
        is_at_exit = sys.is_finalizing()  # a store of a module may stay open until then
        if thread is None or thread.is_stopping or thread.process != os.getpid() or is_at_exit:
            return

        thread.stop()
        msg = f"{self!r} was not closed: use `async with`, `aclose` or `close`"
        warnings.warn(msg, ResourceWarning, stacklevel=1, source=self)


def _refuse_on(thread: LoopThread) -> None:
    """Refuse a call on the store's own thread that would wait for that thread."""
    if thread.is_current():
        msg = "this call would wait for itself on the store's own thread; await the store instead"
        raise RuntimeError(msg)
