"""The lease keeper: renews the leases of the turns in progress.

1. One task of an event loop, the keeper, starts the renewals of all its leases. It starts with the
   first lease, and is cancelled after the last one. So a call and the reads of a stream need no
   task group for the renewals, and a chunk costs no more time.
2. Each renewal runs in a task of its own, so a store that hangs delays no turn of another store. A
   lease has one renewal at a time.
3. These tasks belong to the event loop: they are tasks of asyncio, or system tasks of trio, which
   must never raise. Their context variables are empty, so they are part of no turn.
4. When a turn ends, its renewal in progress is cancelled. `KeptLease.wait_until_idle` waits for the
   end of this renewal, so that it cannot undo a later change of the turn.
5. Programs may cancel all tasks of their event loop, as ``asyncio.run`` does at its end. The next
   lease then starts another keeper, which renews the older leases as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeAlias, final

from anyio import CancelScope, Event, sleep
from anyio.lowlevel import EventLoopToken, RunVar, current_token

from tower_memory._memory.tasks import is_finished
from tower_memory._portal import call_soon, is_asyncio

_RENEW_EVERY = 20.0
"""Seconds between two renewals of a lease. Two may fail before a lease of 60 seconds ends."""


Renew: TypeAlias = Callable[[], Awaitable[bool]]
"""Function that renews a lease, and returns False if its turn is not pending any more. It must not
raise."""


@final
class KeptLease:
    """The lease of one turn, which its event loop renews from `start` to `end`."""

    __slots__ = ("_idle", "_is_kept", "_keeper", "_loop", "_renewal", "_scope")

    def __init__(self) -> None:
        self._keeper = _current_keeper()
        self._loop: EventLoopToken = current_token()
        self._is_kept = False
        self._scope: CancelScope
        self._idle: Event | None = None  # exists while a renewal is in progress
        self._renewal: Any = None  # the last task; asyncio has only weak references to its tasks

    def start(self, renew: Renew) -> None:
        """Call *renew* every 20 seconds from now on, in tasks of the event loop."""
        self._is_kept = True
        self._keeper.add(self, renew)

    def end(self) -> None:
        """Stop the renewals. Does nothing before `start`, or a second time."""
        self._is_kept = False
        self._keeper.discard(self)
        if self._idle is not None:
            self._scope.cancel()

    def end_soon(self) -> None:
        """Call `end` soon, without awaiting. Finalizers may call this in any thread."""
        call_soon(self._loop, self.end)

    async def wait_until_idle(self) -> None:
        """Wait until no renewal is in progress; after `end`, none begins."""
        if self._idle is not None:
            await self._idle.wait()

    def renew_soon(self, renew: Renew) -> None:
        """Start a task that renews the lease with *renew*, unless the last one still runs."""
        if is_finished(self._renewal):
            self._renewal = _start_task(partial(self.renew_once, renew), "lease renewal")

    async def renew_once(self, renew: Renew) -> None:
        """Call *renew*, unless the lease has ended since the task was started."""
        if not self._is_kept:
            return

        self._idle = Event()
        is_pending = True
        try:
            with CancelScope() as self._scope:
                is_pending = await renew()
        finally:
            self._idle.set()
            self._idle = None

        if not is_pending:
            self.end()


@final
class _LeaseKeeper:
    """The leases that one event loop renews, and the task that starts the renewals."""

    def __init__(self) -> None:
        self._leases: dict[KeptLease, Renew] = {}
        self._scope = CancelScope()
        self._task: Any = None

    def add(self, lease: KeptLease, renew: Renew) -> None:
        """Renew *lease* with *renew* from now on."""
        self._leases[lease] = renew
        if is_finished(self._task):
            self._scope = CancelScope()
            self._task = _start_task(partial(self._run, self._scope), "lease keeper")

    def discard(self, lease: KeptLease) -> None:
        """Stop the renewals of *lease*, and cancel the task after the last lease."""
        self._leases.pop(lease, None)
        if not self._leases:
            self._scope.cancel()
            self._task = None

    async def _run(self, scope: CancelScope) -> None:
        with scope:
            while True:
                await sleep(_RENEW_EVERY)
                for lease, renew in tuple(self._leases.items()):
                    lease.renew_soon(renew)


_keeper: RunVar[_LeaseKeeper] = RunVar("tower_memory_lease_keeper")


def _current_keeper() -> _LeaseKeeper:
    """Return the lease keeper of this event loop."""
    keeper = _keeper.get(None)
    if keeper is None:
        keeper = _LeaseKeeper()
        _keeper.set(keeper)
    return keeper


def _start_task(function: Callable[[], Coroutine[Any, Any, None]], name: str) -> Any:
    """Run *function* in a task of the event loop; return the task as `is_finished` takes it."""
    name = f"tower_memory {name}"
    if is_asyncio():
        loop = asyncio.get_running_loop()
        return loop.create_task(function(), name=name, context=Context())

    # Trio is optional; it is installed if it runs.
    from trio.lowlevel import spawn_system_task  # noqa: PLC0415

    return spawn_system_task(function, name=name, context=Context()).coro
