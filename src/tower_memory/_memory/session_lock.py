"""The session lock: overlapping turns of one session run one after another.

| state | holder | event -> next state |
|---|---|---|
| absent | none | a turn acquires the lock -> held |
| held | a running turn | the turn ends -> granted or absent; its reply is a stream -> leased |
| leased | a turn with an open stream | the stream ends -> granted or absent; no task reads the |
| | | stream and another turn wants the lock -> granted or absent |
| granted | the first waiter | the waiter's task runs -> held; the waiter was cancelled -> granted |
| | | or absent |

A release leads to *granted* if turns wait, otherwise to *absent*. In every state but *absent*, any
number of turns may wait.

1. Each session of a store has one lock in an event loop. Equal stores share it, and so do all
   layers. The lock is removed when no turn holds it or waits for it.
2. The queue is first come, first served. A cancelled waiter leaves the queue.
3. A turn inside another turn may need a lock that the other turn blocks (see reentrancy.py).
   This would be a deadlock, so it raises (see deadlock.py).
4. A worker that runs beside the turn in which it was started waits for this turn at most 60 seconds
   and then raises, because the turn may wait for the worker in a way that cannot be seen.
5. Any task may release a lock, since a stream is often finished by another task than began it
   (see stream_lease.py).
"""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from time import monotonic

from anyio import Event, current_time, move_on_after
from anyio.lowlevel import RunVar, checkpoint

from tower_memory import _log
from tower_memory._errors import SessionConflict
from tower_memory._memory.deadlock import (
    abandoned_blockers,
    check_deadlock,
    leased_blockers,
    waiting_for,
)
from tower_memory._memory.lock_state import LockHolder, LockKey, SessionLock, Waiter
from tower_memory._memory.reentrancy import enclosing_turns, inherited_turns

_ROUNDS = 2
"""How often to yield to the event loop before a stream without a reader counts as abandoned.

The task that will read it may not have started yet.
"""

_POLL_SECONDS = 0.25
"""Interval at which the first waiter checks a stream's readers, as no event tells their end."""

_BESIDE_SECONDS = 60.0
"""Longest wait of a worker for the turn in which it was started and beside which it runs."""

_locks: RunVar[dict[LockKey, SessionLock]] = RunVar("tower_memory_locks")


def acquire_at_once(store: object, session_id: str) -> LockHolder | None:
    """Acquire the lock of the session *session_id* in *store*, unless another turn holds it.

    Return its holder, or None. The caller must call `LockHolder.release`, or let a stream own the
    lock.
    """
    locks = _locks.get(None)
    if locks is None:
        locks = {}
        _locks.set(locks)

    key = (_identity(store), session_id)
    if key in locks:
        return None
    lock = locks[key] = SessionLock(key, locks)
    lock.holder = LockHolder(lock)
    return lock.holder


async def acquire(store: object, session_id: str, *, wait: bool) -> LockHolder:
    """Acquire the lock of the session *session_id* in *store*; return its holder.

    The caller must call `LockHolder.release`, or let a stream own the lock.

    Raises:
        SessionConflict: Without *wait*: another turn holds the lock.
        SessionError: With *wait*: the turn would wait for itself.
    """
    while (holder := acquire_at_once(store, session_id)) is None:
        lock = _locks.get()[_identity(store), session_id]
        if wait:
            return await _wait_in_queue(lock, session_id)
        await _end_abandoned_leases(lock)
        if lock.holder is not None:
            raise SessionConflict(session_id)
        # Otherwise the lock of an abandoned stream has just become free.
    return holder


async def _wait_in_queue(lock: SessionLock, session_id: str) -> LockHolder:
    """Wait until the lock is granted; leave the queue if the wait fails or is cancelled."""
    waiter, turns = Waiter(), enclosing_turns()
    since = monotonic()
    latest = current_time() + _BESIDE_SECONDS if inherited_turns() != turns else inf
    lock.waiters.append(waiter)

    try:
        with waiting_for(lock, turns):
            while waiter.granted is None:
                is_late = current_time() >= latest
                check_deadlock(lock, inherited_turns() if is_late else turns, session_id)
                await _wait_until_woken(lock, waiter, inf if is_late else latest)
    except BaseException:
        if waiter.granted is None:
            lock.waiters.remove(waiter)
            lock.wake_first()  # another waiter may be the first now, which polls the streams
        else:
            waiter.granted.release()  # granted and cancelled at once: pass the lock on
        raise
    finally:
        _log.turn_waited(session_id, since=since)

    return waiter.granted


async def _wait_until_woken(lock: SessionLock, waiter: Waiter, latest: float) -> None:
    """Wait until *waiter* is woken, or until the time *latest*.

    The first waiter of the queue also ends abandoned leases.
    """
    seconds = latest - current_time()
    if waiter is lock.waiters[0]:
        await _end_abandoned_leases(lock)
        if leased_blockers(lock):
            seconds = min(seconds, _POLL_SECONDS)

    with move_on_after(seconds):
        await waiter.woken.wait()
    if waiter.granted is None:
        waiter.woken = Event()


async def _end_abandoned_leases(lock: SessionLock) -> None:
    """Release the locks of abandoned streams that block *lock*."""
    for _ in range(_ROUNDS):
        if not abandoned_blockers(lock):
            return
        await checkpoint()
    for turn in abandoned_blockers(lock):
        turn.release()


def _identity(store: object) -> Hashable:
    """Return the store itself as a key, or its id if it is not hashable."""
    try:
        hash(store)
    except TypeError:
        return id(store)
    return store
