"""Service calls in an asyncio loop, on behalf of a task of another event loop.

1. One asyncio task makes one call, and reads the stream that the call may return. The task runs
   these steps one at a time, in the order in which callers ask for them. So the service and its
   stream run as in an asyncio task that calls and reads directly.
2. The caller waits for the outcome of its step. Cancelling the caller cancels the step, and the
   caller waits until the step has ended. But closing or leaving a stream is never cancelled: that
   step continues, and the caller does not wait.
3. A chunk that was produced but not received, because the caller was cancelled, is delivered again.
4. The task ends when the call is detached. It then closes the stream, unless a caller has closed or
   left the stream before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, Literal, TypeAlias, final

from anyio import CancelScope
from anyio.lowlevel import current_token

from tower_memory._calls import call_service
from tower_memory._portal import call_soon, remote_task
from tower_memory._service import Service
from tower_memory._stream_source import StreamSource, close_stream, is_stream

END: Final = object()
"""Returned by `BridgedCall.next` instead of a chunk at the end of a stream."""

_running: set[asyncio.Task[None]] = set()
"""The running tasks. asyncio itself has only weak references to tasks."""


@final
class BridgedCall:
    """One call of a service, and the steps of the stream that the call may return.

    Made and used in the asyncio loop. The *caller* of each step is the task of the other event loop
    that the step runs for.
    """

    def __init__(self) -> None:
        self._source = StreamSource(None)
        self._must_close = False
        self._last_read: tuple[int, Any] = (0, None)  # its number and its chunk
        self._loop = current_token()
        self._steps: asyncio.Queue[_Step | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run_steps())
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    @property
    def stream(self) -> Any:
        """The stream that the service returned, or, once entered, the object that it gave."""
        return self._source.stream

    @property
    def is_cut(self) -> bool | None:
        """The value of `StreamSource.is_cut` after the latest read."""
        return self._source.is_cut

    async def run(self, caller: object, inner: Service[Any, Any], request: Any) -> Any:
        """Call *inner* and return its response."""
        action = partial(self._call_service, inner, request)
        return await self._perform(_Step("scope", caller, action))

    async def next(self, caller: object, number: int, missed: int) -> Any:
        """Return the next chunk, or `END`.

        Args:
            caller: The task that reads.
            number: Number of this read, at least 1; each read of a stream has its own.
            missed: Number of a read that was cancelled, or 0. If its chunk was the last to be
                produced, that chunk is delivered again.
        """
        return await self._perform(_Step("task", caller, partial(self._next, number, missed)))

    async def enter(self, caller: object) -> None:
        """Enter the stream's own context manager, if it has one."""
        await self._perform(_Step("task", caller, self._source.enter))

    async def leave(self, caller: object, *failure: object) -> Any:
        """Leave the stream's own context manager; if it has none, close the stream."""
        return await self._perform(_Step("never", caller, partial(self._leave, *failure)))

    async def close(self, caller: object) -> None:
        """Close the stream, as `close_stream` does."""
        await self._perform(_Step("never", caller, self._close))

    def detach(self) -> None:
        """End the task after the steps that were asked for before.

        May be called from any thread, and from a finalizer. If the loop has ended, the task has
        ended with it.
        """
        call_soon(self._loop, partial(self._steps.put_nowait, None))

    async def _run_steps(self) -> None:
        try:
            while step := await self._steps.get():
                await step.run(self._task)
        finally:
            if self._must_close:
                await close_stream(self.stream)

    async def _perform(self, step: _Step) -> Any:
        """Run *step* in the task and return its outcome."""
        self._steps.put_nowait(step)
        ends = [step.outcome, self._task]

        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if step.cancel(self._task):
                with CancelScope(shield=True):
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            step.outcome.add_done_callback(_retrieve_exception)
            raise

        if not step.outcome.done():  # the task ended before the step
            raise asyncio.CancelledError
        return step.outcome.result()

    async def _call_service(self, inner: Service[Any, Any], request: Any) -> Any:
        response = await call_service(inner, request)
        if is_stream(response):
            self._source = StreamSource(response)
            self._must_close = True
        return response

    async def _next(self, number: int, missed: int) -> Any:
        last, chunk = self._last_read
        if not missed or missed != last:
            try:
                chunk = await self._source.next()
            except StopAsyncIteration:
                chunk = END
        self._last_read = (number, chunk)
        return chunk

    async def _leave(self, *failure: object) -> Any:
        self._must_close = False
        return await self._source.leave(*failure)

    async def _close(self) -> None:
        self._must_close = False
        await close_stream(self.stream)


_CancelledBy: TypeAlias = Literal["scope", "task", "never"]
"""How a running step is cancelled.

"scope": by a cancel scope, which respects shielded scopes inside the step. "task": by native
cancellation of the task, because a stream may be inside scopes of its own. "never": not at all.
"""


@final
class _Step:
    """An action for the task of a call to run on behalf of *caller*, and its outcome."""

    def __init__(
        self, cancelled_by: _CancelledBy, caller: object, action: Callable[[], Awaitable[Any]]
    ) -> None:
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._cancelled_by: _CancelledBy = cancelled_by
        self._scope = CancelScope() if cancelled_by == "scope" else None
        self._caller = caller
        self._action = action
        self._has_started = False
        self._is_cancelled = False

    async def run(self, task: asyncio.Task[None]) -> None:
        """Run the action in *task*, the current task, unless the step was cancelled before."""
        if self.outcome.cancelled():
            return
        self._has_started = True
        remote_task.set(self._caller)

        try:
            with self._scope or nullcontext():
                self.outcome.set_result(await self._action())
        except asyncio.CancelledError:
            if not self._is_cancelled:
                raise
            task.uncancel()
        except BaseException as error:  # noqa: BLE001 - raised to the caller of the step
            self.outcome.set_exception(error)
        finally:
            remote_task.set(None)
            if not self.outcome.done():
                self.outcome.cancel()

    def cancel(self, task: asyncio.Task[None]) -> bool:
        """Cancel the step. Return True if the caller should wait until the step has ended."""
        if self.outcome.done() or self._cancelled_by == "never":
            return False

        self._is_cancelled = True
        if not self._has_started:
            self.outcome.cancel()
        elif self._scope is not None:
            self._scope.cancel()
        else:
            task.cancel()
        return True


def _retrieve_exception(outcome: asyncio.Future[Any]) -> None:
    """Retrieve the exception, as asyncio otherwise logs that it was never retrieved."""
    if not outcome.cancelled():
        outcome.exception()
