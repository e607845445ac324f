"""The calls of a resumable layer: those that are running, and those whose replies are kept.

| state of a call | next state |
|---|---|
| running | kept, when it has finished; absent, when it has failed or was stopped |
| kept | absent, after *keep_seconds*, when dropped, or when too many newer ones are kept |

1. A key stands for at most one call, running or kept.
2. Each call has one task, in one task group. The task ends when its call is absent.
3. Running calls are shielded from a cancellation of the task that has entered the layer. `leave`
   ends them in three steps: it waits for all calls, stops the remaining ones, and aborts those
   whose streams are not closed in time.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, final

from anyio import CancelScope, create_task_group, move_on_after
from anyio.lowlevel import checkpoint, current_token

from tower_memory._errors import SessionConflict, SessionError
from tower_memory._resumable.errors import TooManyCalls
from tower_memory._resumable.running_call import RunningCall
from tower_memory._service import Service

_CLOSING_SECONDS = 10.0
"""Seconds that stopped calls have to close their streams when the layer is left."""


@final
class Calls:
    """The calls of a layer that is entered in the current event loop."""

    def __init__(self, *, max_calls: int, max_chunks: int, keep_seconds: float) -> None:
        self._max_calls = max_calls
        self._max_chunks = max_chunks
        self._keep_seconds = keep_seconds

        self._loop = current_token()
        self._tasks = create_task_group()
        self._is_left = False
        self._running: dict[Hashable, RunningCall] = {}
        self._kept: dict[Hashable, RunningCall] = {}

    async def enter(self) -> None:
        """Open the task group of the calls."""
        await self._tasks.__aenter__()

    async def leave(self, seconds: float) -> None:
        """Wait at most *seconds* for the running calls, then stop them, and end all tasks."""
        self._is_left = True
        try:
            with CancelScope(shield=True):
                with move_on_after(seconds):
                    await self._wait_until_idle()

                for call in self._running.values():
                    call.stop()
                with move_on_after(_CLOSING_SECONDS):
                    await self._wait_until_idle()
        finally:
            for call in self._running.values():
                call.abort()
                call.is_dropped.set()  # it may have finished, and hang while its stream closes
            for key in tuple(self._kept):
                self._drop(key)

            # The task group gets no exception of the block: it would raise an exception group.
            await self._tasks.__aexit__(None, None, None)

    def running(self) -> tuple[Hashable, ...]:
        """Return the keys of the running calls, oldest first."""
        return tuple(self._running)

    def find(self, key: Hashable) -> RunningCall | None:
        """Return the call *key*, running or kept; None if it is absent.

        Raises:
            RuntimeError: The layer is entered in another event loop.
        """
        if self._loop != current_token():
            msg = "the resumable layer was entered in another event loop; each needs its own layer"
            raise RuntimeError(msg)
        return self._running.get(key) or self._kept.get(key)

    def join(self, key: Hashable) -> RunningCall | None:
        """Return the call *key*, for a caller that will wait for it; None if it is absent.

        Raises:
            RuntimeError: The layer is entered in another event loop.
            SessionError: The call would wait for itself.
        """
        call = self.find(key)
        if call is not None and call.is_current():
            msg = (
                f"the call {key!r} would wait for itself: it was joined inside its own service; "
                "give the inner call a key of its own"
            )
            raise SessionError(msg)
        return call

    def find_or_start(
        self, key: Hashable, inner: Service[Any, Any], request: object
    ) -> RunningCall:
        """Return the call *key*; start it, as a call of *inner*, if it is absent.

        Raises:
            RuntimeError: The layer is left, or is entered in another event loop.
            SessionError: The call would wait for itself.
            SessionConflict: The call has another request.
            TooManyCalls: The maximum number of calls is running.
        """
        call = self.join(key)
        if call is not None:
            if call.request != request:
                reason = f"the call {key!r} was made with another request"
                raise SessionConflict(None, reason=reason, remedy="give each turn a key of its own")
            return call

        if self._is_left:
            msg = "the resumable layer is being left, so it makes no new calls"
            raise RuntimeError(msg)
        if len(self._running) >= self._max_calls:
            raise TooManyCalls(self._max_calls)

        call = self._running[key] = RunningCall(key, inner, request, self._max_chunks)
        self._tasks.start_soon(self._serve, call)
        return call

    async def stop(self, key: Hashable) -> bool:
        """Stop the call *key* if it is running, and drop its reply if it is kept.

        Return True if it was running, after it has ended. If the call stops itself, return at once.

        Raises:
            RuntimeError: The layer is entered in another event loop.
        """
        call = self.find(key)
        if call is None:
            return False

        was_running = not call.has_ended.is_set()
        call.stop()
        if call.is_current():
            await checkpoint()
            return True

        await call.has_ended.wait()
        if self._kept.get(key) is call:
            self._drop(key)
        return was_running

    async def _serve(self, call: RunningCall) -> None:
        """Run *call*, and keep its reply if it has finished."""
        key = call.reply.key
        try:
            await call.run()
        finally:
            del self._running[key]
        if not call.reply.is_finished:
            return

        self._kept[key] = call
        if len(self._kept) > self._max_calls:
            self._drop(next(iter(self._kept)))

        try:
            with move_on_after(self._keep_seconds):
                await call.is_dropped.wait()
        finally:
            if self._kept.get(key) is call:
                self._drop(key)

    def _drop(self, key: Hashable) -> None:
        self._kept.pop(key).is_dropped.set()

    async def _wait_until_idle(self) -> None:
        while self._running:
            await next(iter(self._running.values())).has_ended.wait()
