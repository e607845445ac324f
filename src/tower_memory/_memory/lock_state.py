"""The state of session locks: plain data, which `session_lock` and `deadlock` work on."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, TypeAlias, final

from anyio import Event

from tower_memory._memory.stream_lease import StreamLease

LockKey: TypeAlias = tuple[Hashable, str]
"""The identity of a store, and a session id."""


@final
class SessionLock:
    """The lock of one session.

    Attributes:
        key: The lock's key in *registry*.
        registry: All locks of the event loop.
        holder: The turn that holds the lock.
        waiters: The waiting turns, first come, first served.
    """

    __slots__ = ("holder", "key", "registry", "waiters")

    def __init__(self, key: LockKey, registry: dict[LockKey, SessionLock]) -> None:
        self.key = key
        self.registry = registry
        self.holder: LockHolder | None = None
        self.waiters: deque[Waiter] = deque()

    def wake_first(self) -> None:
        """Wake the first waiter, so that it looks at the lock again."""
        if self.waiters:
            self.waiters[0].woken.set()


@final
class Waiter:
    """A turn that waits for a lock.

    Attributes:
        woken: Set when the waiter has to look at the lock again.
        granted: The waiter's own hold on the lock, once it was handed over.
    """

    __slots__ = ("granted", "woken")

    def __init__(self) -> None:
        self.woken = Event()
        self.granted: LockHolder | None = None


@final
class LockHolder:
    """A turn that holds a session lock, until `release`.

    Attributes:
        lock: The lock.
        nested_waits: The locks that code inside this turn waits for.
        is_released: Whether the turn has released the lock.
        lease: The lease of the stream that owns the lock, or None if no stream does.
    """

    __slots__ = ("is_released", "lease", "lock", "nested_waits")

    def __init__(self, lock: SessionLock) -> None:
        self.lock = lock
        self.nested_waits: list[SessionLock] = []
        self.is_released = False
        self.lease: StreamLease | None = None

    def lease_to_reader(self) -> None:
        """Let the stream own the lock, and record the current task as the stream's reader."""
        if self.lease is None:
            self.lease = StreamLease()
            self.lock.wake_first()  # waiters watch a lease, since it may become abandoned
        else:
            self.lease.is_begun = True
        self.lease.add_reader()

    def active_reader(self) -> Any | None:
        """Return the task that reads the stream, or None."""
        return None if self.lease is None else self.lease.active_reader()

    def release(self) -> None:
        """Hand the lock to the first waiter, or remove it. A second call does nothing."""
        if self.is_released:
            return
        self.is_released = True

        lock = self.lock
        lock.holder = None
        if lock.waiters:
            waiter = lock.waiters.popleft()
            waiter.granted = lock.holder = LockHolder(lock)
            waiter.woken.set()
            lock.wake_first()
        else:
            del lock.registry[lock.key]
