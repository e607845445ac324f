"""Which turn of a session may run now.

1. Turns of one session of one store in one event loop share a lock, whatever layer or stack they
   came through. Those that wait get it in the order they came.
2. A turn that would wait for itself raises: what it waits for is held by the turn it is part of,
   or by one that waits, in turn, for that one. A task that merely inherited its context from a
   turn that is over waits for nobody but those ahead of it.
3. A lock exists while a turn holds it or waits for it, and leaves nothing behind.
4. Any task may end a turn: a stream is often finished by another than began it.
5. A turn whose reply is a stream holds the session until the stream ends, but nobody waits for a
   stream that will not be read on: not for one that was let go of, nor does the task that had it
   last wait for itself. If that one is read on after all, its turn is kept too.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import final

from anyio import Semaphore, TaskInfo, WouldBlock, get_current_task
from anyio.lowlevel import RunVar, checkpoint

from tower_memory._errors import SessionConflict, SessionError

_Key = tuple[Hashable, str]

_LOOKS = 3
"""How often to look whether a stream is read on: a task that was just started to read it begins
to do so within two rounds of the event loop, at the latest."""


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
    """A turn that holds its session until it is ended; to be had from `begin_turn`.

    Attributes:
        awaited: The locks that something inside the turn waits for.
        over: Whether it was ended.
        reader: Where a stream is to end the turn: the task that had the stream last.
        dropped: Whether that stream was let go of.
    """

    _key: _Key
    _locks: dict[_Key, _Lock]
    awaited: list[_Lock] = field(default_factory=list[_Lock])
    over: bool = False
    reader: TaskInfo | None = None
    dropped: bool = False

    @contextmanager
    def inside(self) -> Generator[None]:
        """What runs here, and the tasks that it starts, are part of the turn."""
        before = _part_of.set((*_open_around(), self))
        try:
            yield
        finally:
            _part_of.reset(before)

    def read_here(self) -> None:
        """Note that the task that runs now has the turn's stream."""
        self.reader = get_current_task()

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
        outer = _open_around()
        await _pass_by_what_is_left(lock, outer)
        await _acquire(lock, session_id, outer, wait=wait)
    except BaseException:
        _leave(locks, key)
        raise
    lock.holder = OpenTurn(key, locks)
    return lock.holder


def _open_around() -> tuple[OpenTurn, ...]:
    """The turns that whoever runs now is part of."""
    return tuple(turn for turn in _part_of.get() if not turn.over)


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


async def _pass_by_what_is_left(lock: _Lock, outer: tuple[OpenTurn, ...]) -> None:
    """End the turn that holds *lock* if nobody will read its stream on (rule 5)."""
    looks = 0
    while (turn := lock.holder) is not None and turn.reader is not None and turn not in outer:
        if turn.dropped or looks == _LOOKS:
            turn.end()
        elif turn.reader.coro is not get_current_task().coro:
            return
        looks += 1
        await checkpoint()


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
