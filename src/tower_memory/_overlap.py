"""Which turn of a session may run now.

1. Turns of one session of one store in one event loop share a lock, whatever layer or stack they
   came through. Those that wait get it in the order they came.
2. A turn that would wait for itself raises: what it waits for is held by the turn it is part of,
   or by one that waits, in turn, for that one. A task that merely inherited its context from a
   turn that is over waits for nobody but those ahead of it.
3. A lock exists while a turn holds it or waits for it, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import final

from anyio import Semaphore, WouldBlock
from anyio.lowlevel import RunVar

from tower_memory._errors import SessionConflict, SessionError

_locks: RunVar[dict[tuple[Hashable, str], _Lock]] = RunVar("tower_memory_locks")
_part_of: ContextVar[tuple[SessionTurn, ...]] = ContextVar("tower_memory_turns", default=())


@final
class _Lock:
    """The lock of one session. A semaphore, as another task may release it than took it."""

    __slots__ = ("holder", "semaphore", "users")

    def __init__(self) -> None:
        self.semaphore = Semaphore(1)
        self.users = 0
        self.holder: SessionTurn | None = None

    def waits_for(self, turns: tuple[SessionTurn, ...]) -> bool:
        """Whether getting this lock takes one of *turns* to be over first."""
        if self.holder is None:
            return False
        return self.holder in turns or any(lock.waits_for(turns) for lock in self.holder.awaited)


@final
class SessionTurn:
    """A turn's hold on its session, as an async context manager.

    Args:
        store: Where the session lives; what is equal to it is the same store.
        session_id: The session.
        wait: Whether to wait for the turn that holds the session, or to raise.

    Raises:
        SessionConflict: On entering without *wait*: another turn holds the session.
        SessionError: On entering with *wait*: the turn would wait for itself.
    """

    __slots__ = ("_before", "_key", "_lock", "_wait", "awaited", "over")

    def __init__(self, store: object, session_id: str, *, wait: bool) -> None:
        self._key = (store if isinstance(store, Hashable) else id(store), session_id)
        self._wait = wait
        self.awaited: list[_Lock] = []  # by whatever is part of this turn
        self.over = False

    async def __aenter__(self) -> None:
        locks = _locks.get(None)
        if locks is None:
            locks = {}
            _locks.set(locks)
        self._lock = locks.setdefault(self._key, _Lock())
        self._lock.users += 1
        try:
            await self._acquire(tuple(turn for turn in _part_of.get() if not turn.over))
        except BaseException:
            self._forget()
            raise

    async def _acquire(self, outer: tuple[SessionTurn, ...]) -> None:
        lock = self._lock
        session_id = self._key[1]
        if not self._wait:
            try:
                lock.semaphore.acquire_nowait()
            except WouldBlock:
                raise SessionConflict(session_id) from None
        elif lock.waits_for(outer):
            msg = "this turn would wait for itself: it is part of one that holds the session"
            raise SessionError(msg, session_id=session_id)
        else:
            for turn in outer:
                turn.awaited.append(lock)
            try:
                await lock.semaphore.acquire()
            finally:
                for turn in outer:
                    turn.awaited.remove(lock)
        lock.holder = self
        self._before: Token[tuple[SessionTurn, ...]] = _part_of.set((*outer, self))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _part_of.reset(self._before)
        self.over = True
        self._lock.holder = None
        self._lock.semaphore.release()
        self._forget()

    def _forget(self) -> None:
        self._lock.users -= 1
        if self._lock.users == 0:
            del _locks.get()[self._key]
