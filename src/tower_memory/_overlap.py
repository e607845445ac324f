"""Which turn of a session may run now.

1. Turns of one session of one store in one event loop share a lock, whatever layer or stack they
   came through. Those that wait get it in the order they came.
2. A turn that would wait for itself raises: what it waits for is held by the turn it is part of,
   or by one that waits, in turn, for that one. A task that merely inherited its context from a
   turn that is over waits for nobody but those ahead of it.
3. A lock exists while a turn holds it or waits for it, and leaves nothing behind.
4. Any task may end a turn: a stream is often finished by another than began it.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import final

from anyio import Semaphore, WouldBlock
from anyio.lowlevel import RunVar

from tower_memory._errors import SessionConflict, SessionError

_Key = tuple[Hashable, str]


@final
@dataclass(eq=False, slots=True)
class _Lock:
    """The lock of one session; not anyio's, which belongs to a task, and is ended by that only."""

    semaphore: Semaphore = field(default_factory=lambda: Semaphore(1))
    holder: OpenTurn | None = None
    users: int = 0

    def waits_for(self, turns: tuple[OpenTurn, ...]) -> bool:
        """Whether getting this lock takes one of *turns* to be over first."""
        if self.holder is None:
            return False
        return self.holder in turns or any(lock.waits_for(turns) for lock in self.holder.awaited)


@final
@dataclass(eq=False, slots=True)
class OpenTurn:
    """A turn that holds its session until it is ended; to be had from `begin_turn`."""

    _key: _Key
    _locks: dict[_Key, _Lock]
    awaited: list[_Lock] = field(default_factory=list[_Lock])
    over: bool = False

    def end(self) -> None:
        """Let the next turn of the session run. Ending twice is ending once."""
        if not self.over:
            self.over = True
            lock = self._locks[self._key]
            lock.holder = None
            lock.semaphore.release()
            _leave(self._locks, self._key)


_all_locks: RunVar[dict[_Key, _Lock]] = RunVar("tower_memory_locks")
_part_of: ContextVar[tuple[OpenTurn, ...]] = ContextVar("tower_memory_turns", default=())


async def begin_turn(store: object, session_id: str, *, wait: bool) -> OpenTurn:
    """Hold the session *session_id* of *store*; what is equal to *store* is the same store.

    What runs in this context from now on is part of the turn, until it is over.

    Raises:
        SessionConflict: Without *wait*: another turn holds the session.
        SessionError: With *wait*: the turn would wait for itself.
    """
    locks = _all_locks.get(None)
    if locks is None:
        locks = {}
        _all_locks.set(locks)
    key = (_identity(store), session_id)
    lock = locks.setdefault(key, _Lock())
    lock.users += 1
    try:
        outer = tuple(turn for turn in _part_of.get() if not turn.over)
        await _acquire(lock, session_id, outer, wait=wait)
    except BaseException:
        _leave(locks, key)
        raise
    turn = lock.holder = OpenTurn(key, locks)
    _part_of.set((*outer, turn))
    return turn


def _leave(locks: dict[_Key, _Lock], key: _Key) -> None:
    locks[key].users -= 1
    if locks[key].users == 0:
        del locks[key]


def _identity(store: object) -> Hashable:
    try:
        hash(store)
    except TypeError:
        return id(store)
    return store


async def _acquire(
    lock: _Lock, session_id: str, outer: tuple[OpenTurn, ...], *, wait: bool
) -> None:
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
