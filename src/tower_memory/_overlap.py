"""Which turn of a session may run now.

1. Turns of one session of one store in one event loop share a lock, whatever layer or stack they
   came through. Those that wait get it in the order they came.
2. A turn that would wait for itself raises: what it waits for is held by the turn it is part of,
   or by one that waits, in turn, for that one. A task that merely inherited its context from a
   turn that is over waits for nobody but those ahead of it.
3. A lock exists while a turn holds it or waits for it, and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import final

from anyio import Semaphore, WouldBlock
from anyio.lowlevel import RunVar

from tower_memory._errors import SessionConflict, SessionError


@final
@dataclass(eq=False, slots=True)
class _Lock:
    """The lock of one session; not anyio's, which takes a second turn of one task for a mistake."""

    semaphore: Semaphore = field(default_factory=lambda: Semaphore(1))
    holder: _Turn | None = None
    users: int = 0

    def waits_for(self, turns: tuple[_Turn, ...]) -> bool:
        """Whether getting this lock takes one of *turns* to be over first."""
        if self.holder is None:
            return False
        return self.holder in turns or any(lock.waits_for(turns) for lock in self.holder.awaited)


@final
@dataclass(eq=False, slots=True)
class _Turn:
    """A turn that holds its session, and the locks that whatever is part of it waits for."""

    awaited: list[_Lock] = field(default_factory=list[_Lock])
    over: bool = False


_locks: RunVar[dict[tuple[Hashable, str], _Lock]] = RunVar("tower_memory_locks")
_part_of: ContextVar[tuple[_Turn, ...]] = ContextVar("tower_memory_turns", default=())


@asynccontextmanager
async def session_turn(store: object, session_id: str, *, wait: bool) -> AsyncGenerator[None]:
    """Hold the session *session_id* of *store*; what is equal to *store* is the same store.

    Raises:
        SessionConflict: Without *wait*: another turn holds the session.
        SessionError: With *wait*: the turn would wait for itself.
    """
    locks = _locks.get(None)
    if locks is None:
        locks = {}
        _locks.set(locks)
    key = (_identity(store), session_id)
    lock = locks.setdefault(key, _Lock())
    lock.users += 1
    try:
        outer = tuple(turn for turn in _part_of.get() if not turn.over)
        await _acquire(lock, session_id, outer, wait=wait)
        turn = lock.holder = _Turn()
        before = _part_of.set((*outer, turn))
        try:
            yield
        finally:
            _part_of.reset(before)
            turn.over = True
            lock.holder = None
            lock.semaphore.release()
    finally:
        lock.users -= 1
        if lock.users == 0:
            del locks[key]


def _identity(store: object) -> Hashable:
    try:
        hash(store)
    except TypeError:
        return id(store)
    return store


async def _acquire(lock: _Lock, session_id: str, outer: tuple[_Turn, ...], *, wait: bool) -> None:
    if not wait:
        try:
            lock.semaphore.acquire_nowait()
        except WouldBlock:
            raise SessionConflict(session_id) from None
        return
    if lock.waits_for(outer):
        msg = "this turn would wait for itself: it is part of one that holds the session"
        raise SessionError(msg, session_id=session_id)
    for turn in outer:
        turn.awaited.append(lock)
    try:
        await lock.semaphore.acquire()
    finally:
        for turn in outer:
            turn.awaited.remove(lock)
