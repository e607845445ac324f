"""The session locks of this event loop: the only tests' way to these private names."""

from __future__ import annotations

from tower_memory._memory import session_lock, stream_lease
from tower_memory._memory.reentrancy import _turns
from tower_memory._memory.session_lock import _locks, acquire

__all__ = [
    "acquire",
    "assert_no_lock_is_left",
    "count_enclosing_turns",
    "count_locks",
    "count_waiters",
    "expect_readers_at_once",
    "wait_beside_no_time",
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


def expect_readers_at_once(monkeypatch):
    """Give a stream that is handed over unread no time to find its first reader."""
    monkeypatch.setattr(stream_lease, "_UNREAD_SECONDS", 0.0)


def wait_beside_no_time(monkeypatch):
    """Let no code wait for a turn that it was started in and runs beside."""
    monkeypatch.setattr(session_lock, "_BESIDE_SECONDS", 0.0)
