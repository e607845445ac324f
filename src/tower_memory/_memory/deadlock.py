"""Deadlock detection over session locks.

1. A lock is blocked by its holder. If code inside that holder waits for a second lock, the holder
   of the second lock blocks the first one too, and so on.
2. A turn must not wait for a lock that its own enclosing turn blocks: both would wait for ever.
   Example: turn A holds lock 1 and waits for lock 2 inside; turn B holds lock 2 and now wants
   lock 1. The turn that closes the circle raises, here B. The others go on.
3. A stream does not cause a deadlock. If its reader waits for a lock that this stream's turn
   blocks, the stream is abandoned: its lease ends. If a task reads the rest of the stream later,
   the turn is still saved.
4. The check cannot see every circle. A turn may wait, through a queue or an event, for a worker
   that was started before the turn and now waits for the turn's lock.

Only turns that wait can deadlock, so this concerns ``overlap="serialize"``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from tower_memory._errors import SessionError
from tower_memory._memory.lock_state import LockHolder, SessionLock
from tower_memory._memory.reentrancy import enclosing_turns
from tower_memory._memory.tasks import current_task

_waits: dict[Any, SessionLock] = {}
"""The lock that each waiting task waits for. All event loops share it, since the keys are tasks."""


@contextmanager
def waiting_for(lock: SessionLock, turns: tuple[LockHolder, ...]) -> Generator[None]:
    """Record, during the block, that the current task, a part of *turns*, waits for *lock*."""
    task = current_task()
    _waits[task] = lock
    for turn in turns:
        turn.nested_waits.append(lock)
    try:
        yield
    finally:
        del _waits[task]
        for turn in turns:
            turn.nested_waits.remove(lock)


def check_deadlock(lock: SessionLock, turns: tuple[LockHolder, ...], session_id: str) -> None:
    """Refuse to wait for *lock* inside *turns* if one of them blocks it.

    Raises:
        SessionError: The turn would wait for itself.
    """
    if any(turn in turns for turn in _blockers(lock, with_readers=False)):
        msg = (
            "this turn would wait for itself: the turn around it holds the session, or blocks the "
            "turn that holds the session; start this turn after that turn, or use "
            "overlap='append'. If the call comes from a worker that serves several turns, start "
            "the worker with a context of its own: "
            "asyncio.create_task(..., context=contextvars.Context())"
        )
        raise SessionError(msg, session_id=session_id)


def leased_blockers(lock: SessionLock) -> list[LockHolder]:
    """Return the turns whose streams block *lock*."""
    return [turn for turn in _blockers(lock, with_readers=True) if turn.lease is not None]


def abandoned_blockers(lock: SessionLock) -> list[LockHolder]:
    """Return the turns that block *lock* with an abandoned stream."""
    return [turn for turn in _blockers(lock, with_readers=True) if _is_abandoned(turn)]


def _is_abandoned(turn: LockHolder) -> bool:
    """Return True if no task is expected to read the rest of the turn's stream.

    The current task is about to wait, so it does not count as a reader. If it is part of the turn,
    though, the stream itself made this call, and is not abandoned.
    """
    if turn.lease is None or turn in enclosing_turns():
        return False
    reader = turn.lease.active_reader()
    if turn.lease.is_collected or reader is current_task():
        return True
    if reader is None:
        return not turn.lease.waits_for_first_reader()
    lock = _waits.get(reader)
    return lock is not None and turn in _blockers(lock, with_readers=True)


def _blockers(lock: SessionLock, *, with_readers: bool) -> Iterator[LockHolder]:
    """Return the turns that must end before *lock* is free, the holder first.

    With *with_readers*, this includes the turns that the readers of their streams wait for.
    """
    # A turn that waits holds up its own lock too, so each holder leads to further locks.
    locks, seen = [lock], set[int]()
    while locks:
        turn = locks.pop().holder
        if turn is None or id(turn) in seen:
            continue
        seen.add(id(turn))
        yield turn
        locks += turn.nested_waits
        if with_readers and (reader := turn.active_reader()) in _waits:
            locks.append(_waits[reader])
