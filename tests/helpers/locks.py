"""The session locks of this event loop: the only tests' way to these private names."""

from __future__ import annotations

from tower_memory._memory.reentrancy import _turns
from tower_memory._memory.session_lock import _locks, acquire

__all__ = [
    "acquire",
    "assert_no_lock_is_left",
    "count_enclosing_turns",
    "count_locks",
    "count_waiters",
]


def count_locks():
    """Return the number of sessions that are locked or waited for."""
    return len(_locks.get({}))


def count_waiters():
    """Return the number of turns that wait for a session lock."""
    return sum(len(lock.waiters) for lock in _locks.get({}).values())


def count_enclosing_turns():
    """Return the number of turns that the current task is known to run in."""
    return len(_turns.get())


def assert_no_lock_is_left():
    """Fail if any session is still locked."""
    assert count_locks() == 0
