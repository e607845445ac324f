"""Which turn of a session may run now.

1. Turns of one session of one store in one event loop run one after another, whatever layer or
   stack they came through, in the order they came.
2. A turn that would wait for itself raises: what it waits for is held by the turn it is part of,
   or by one that waits, in turn, for that one. A task that merely inherited its context from a
   turn that is over waits for nobody but those ahead of it.
3. A lock exists while a turn holds it or waits for it, and leaves nothing behind.
4. Any task may end a turn: a stream is often finished by another than began it.
5. A turn whose reply is a stream holds the session until the stream ends, but nobody waits for a
   stream that is not read on: one that was let go of, one whose readers are all over, or one whose
   reader waits for whoever would wait for it. If it is read on after all, its turn is kept too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final
from weakref import ref

from anyio import Event, get_current_task, move_on_after
from anyio.lowlevel import RunVar, checkpoint

from tower_memory._crossing import acting_for
from tower_memory._errors import SessionConflict, SessionError

_Key: TypeAlias = tuple[Hashable, str]

_ROUNDS = 2
"""Rounds of the event loop in which a task that was just started to read a stream begins to."""

_LOOK_AGAIN = 0.25
"""Seconds after which to look again whether a stream's readers are over, as nobody tells."""


@final
@dataclass(eq=False, slots=True)
class _Lock:
    """Who holds a session, and who waits for it, first come first."""

    key: _Key
    all_locks: dict[_Key, _Lock]
    holder: OpenTurn | None = None
    waiting: deque[_Place] = field(default_factory=deque)

    def blockers(self, *, streams: bool) -> Iterator[OpenTurn]:
        """The turns that must end before this lock is free: also those that what is inside them
        waits for, and, with *streams*, those that whoever reads their streams waits for.
        """
        locks, seen = [self], set[int]()
        while locks:
            turn = locks.pop().holder
            if turn is not None and id(turn) not in seen:
                seen.add(id(turn))
                yield turn
                locks += turn.awaited
                if streams and (reader := turn.reader()) in _waits:
                    locks.append(_waits[reader])

    def call_first(self) -> None:
        """Have who is first in line look whether it is their turn, or whose it is."""
        if self.waiting:
            self.waiting[0].called.set()


@final
@dataclass(eq=False, slots=True)
class _Place:
    """One who waits for a lock, until called; *turn* is theirs once it is their turn."""

    called: Event = field(default_factory=Event)
    turn: OpenTurn | None = None


@final
@dataclass(eq=False, slots=True)
class OpenTurn:
    """A turn that holds its session until it is ended; to be had from `begin_turn`.

    Attributes:
        awaited: The locks that something inside the turn waits for.
        over: Whether it was ended.
        lent: Whether a stream is to end it.
        dropped: Whether that stream was let go of.
    """

    _lock: _Lock
    awaited: list[_Lock] = field(default_factory=list)
    over: bool = False
    lent: bool = False
    dropped: bool = False
    _readers: list[ref[Any]] = field(default_factory=list)

    @contextmanager
    def inside(self) -> Generator[None]:
        """What runs here, and the tasks that it starts, are part of the turn."""
        before = _part_of.set((*_open_around(), self))
        try:
            yield
        finally:
            with suppress(ValueError):  # finalized in another context, where nothing was set
                _part_of.reset(before)

    def read_here(self) -> None:
        """Note that the task that runs now has the turn's stream."""
        if not self.lent:
            self.lent = True
            self._lock.call_first()
        me = _me()
        if not self._readers or self._readers[-1]() is not me:
            self._readers = [*(each for each in self._readers if each() is not me), ref(me)]

    def reader(self) -> Any | None:
        """The last of the tasks that had the stream and are not over, or None."""
        readers = (each() for each in reversed(self._readers))
        return next((reader for reader in readers if not _is_over(reader)), None)

    def is_left(self) -> bool:
        """Whether nobody reads the stream on: neither will its reader, if that would have to wait
        for this turn, or is the task that runs now, and not inside the turn.
        """
        if not self.lent or self in _open_around():
            return False
        reader = self.reader()
        if self.dropped or reader is None or reader is _me():
            return True
        lock = _waits.get(reader)
        return lock is not None and self in lock.blockers(streams=True)

    def end(self) -> None:
        """Let the next turn of the session run. Ending twice is ending once."""
        if self.over:
            return
        self.over = True
        lock = self._lock
        lock.holder = None
        if lock.waiting:
            place = lock.waiting.popleft()
            place.turn = lock.holder = OpenTurn(lock)
            place.called.set()
            lock.call_first()
        else:
            del lock.all_locks[lock.key]


_all_locks: RunVar[dict[_Key, _Lock]] = RunVar("tower_memory_locks")
_part_of: ContextVar[tuple[OpenTurn, ...]] = ContextVar("tower_memory_turns", default=())
_waits: dict[Any, _Lock] = {}
"""What each task waits for."""


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
    lock = locks.get(key)
    if lock is None:
        lock = locks[key] = _Lock(key, locks)
        lock.holder = OpenTurn(lock)
        return lock.holder
    if not wait:
        await _pass_by_what_is_left(lock)
        if lock.holder is not None:
            raise SessionConflict(session_id)
        return await begin_turn(store, session_id, wait=False)
    return await _take_place(lock, session_id)


async def _take_place(lock: _Lock, session_id: str) -> OpenTurn:
    place, outer, me = _Place(), _open_around(), _me()
    lock.waiting.append(place)
    _waits[me] = lock
    for turn in outer:
        turn.awaited.append(lock)
    try:
        while place.turn is None:
            _check_possible(lock, outer, session_id)
            looks = place is lock.waiting[0]
            if looks:
                await _pass_by_what_is_left(lock)
            looks = looks and any(turn.lent for turn in lock.blockers(streams=True))
            with move_on_after(_LOOK_AGAIN if looks else None):
                await place.called.wait()
            if place.turn is None:
                place.called = Event()
    except BaseException:
        if place.turn is None:
            lock.waiting.remove(place)
            lock.call_first()
        else:
            place.turn.end()
        raise
    finally:
        del _waits[me]
        for turn in outer:
            turn.awaited.remove(lock)
    return place.turn


def _check_possible(lock: _Lock, outer: tuple[OpenTurn, ...], session_id: str) -> None:
    if any(turn in outer for turn in lock.blockers(streams=False)):
        msg = "this turn would wait for itself: it is part of one that holds the session"
        raise SessionError(msg, session_id=session_id)


async def _pass_by_what_is_left(lock: _Lock) -> None:
    """End the turns that keep *lock* if nobody reads their streams on (rule 5)."""
    for _ in range(_ROUNDS):
        if not any(turn.is_left() for turn in lock.blockers(streams=True)):
            return
        await checkpoint()
    for turn in [turn for turn in lock.blockers(streams=True) if turn.is_left()]:
        turn.end()


def _me() -> Any:
    """The task that runs now, or that this runs for: itself on asyncio, its coroutine on trio."""
    if (task := acting_for.get()) is not None:
        return task
    with suppress(RuntimeError):  # no loop of asyncio
        if (task := asyncio.current_task()) is not None:
            return task
    return get_current_task().coro


def _is_over(task: Any) -> bool:
    """Whether *task*, as `_me` tells it, is over; None stands for one that is no more."""
    if task is None or isinstance(task, asyncio.Task):
        return task is None or task.done()
    return getattr(task, "cr_frame", task) is None


def _open_around() -> tuple[OpenTurn, ...]:
    """The turns that whoever runs now is part of."""
    return tuple(turn for turn in _part_of.get() if not turn.over)


def _identity(store: object) -> Hashable:
    try:
        hash(store)
    except TypeError:
        return id(store)
    return store
