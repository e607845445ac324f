"""What is done in an asyncio loop for a program that runs in another.

1. One task makes one call, and takes the steps of the stream that it may give, one by one, in the
   order they are asked for: as a task of asyncio would that called and read by itself.
2. Who asks waits for what comes of it. If that is cancelled, so is the call, or the step, to its
   end; but closing goes on by itself.
3. What was given and not received, as who asked was cancelled, is given again.
4. The task ends when it is let go of, and closes the stream if nobody has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, Literal, TypeAlias, final

from anyio import CancelScope
from anyio.lowlevel import current_token

from tower_memory._crossing import acting_for, call_soon
from tower_memory._service import Service
from tower_memory._streams import Source, close, is_stream

END: Final = object()
"""What is given at the end of a stream."""

_running: set[asyncio.Task[None]] = set()
"""The tasks, which asyncio itself does not keep alive."""


@final
class Errand:
    """One call of a service, and the steps of the stream that it may give.

    Each method is asked with the task of the other loop that it is done for.
    """

    def __init__(self) -> None:
        self._source = Source(None)
        self._is_left = True
        self._last: tuple[int, Any] = (0, None)
        self._loop = current_token()
        self._steps: asyncio.Queue[_Step | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())
        _running.add(self._task)
        self._task.add_done_callback(_running.discard)

    @property
    def stream(self) -> Any:
        """The stream that the service gave; once that is entered, what came of it."""
        return self._source.stream

    async def call(self, caller: object, inner: Service[Any, Any], request: Any) -> Any:
        """What the service answers."""
        return await self._take(_Step("scope", caller, partial(self._call, inner, request)))

    async def next(self, caller: object, ticket: int, owed: int) -> Any:
        """The next chunk, which is asked for with a *ticket*, or that of the ticket *owed*."""
        return await self._take(_Step("task", caller, partial(self._next, ticket, owed)))

    async def enter(self, caller: object) -> None:
        """Enter the stream's own context manager, if it has one."""
        await self._take(_Step("task", caller, self._source.enter))

    async def leave(self, caller: object, *failure: object) -> Any:
        """Leave the stream's own context manager, or close the stream."""
        return await self._take(_Step("never", caller, partial(self._leave, *failure)))

    async def close(self, caller: object) -> None:
        """Close the stream, in the way it has."""
        await self._take(_Step("never", caller, self._close))

    def let_go(self) -> None:
        """End the task. May be called from anywhere, as finalizers are."""
        call_soon(self._loop, partial(self._steps.put_nowait, None))  # a loop that is over did it

    async def _run(self) -> None:
        try:
            while step := await self._steps.get():
                await step.take(self._task)
        finally:
            if not self._is_left:
                await close(self.stream)

    async def _take(self, step: _Step) -> Any:
        self._steps.put_nowait(step)
        ends = [step.outcome, self._task]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if step.cancel(self._task):
                with CancelScope(shield=True):
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            step.outcome.add_done_callback(_see)
            raise
        if not step.outcome.done():  # the task is over
            raise asyncio.CancelledError
        return step.outcome.result()

    async def _call(self, inner: Service[Any, Any], request: Any) -> Any:
        response = await inner(request)
        if is_stream(response):
            self._source = Source(response)
            self._is_left = False
        return response

    async def _next(self, ticket: int, owed: int) -> Any:
        last, chunk = self._last
        if not owed or owed != last:
            try:
                chunk = await self._source.next()
            except StopAsyncIteration:
                chunk = END
        self._last = (ticket, chunk)
        return chunk

    async def _leave(self, *failure: object) -> Any:
        self._is_left = True
        return await self._source.leave(*failure)

    async def _close(self) -> None:
        self._is_left = True
        await close(self.stream)


_Stop: TypeAlias = Literal["scope", "task", "never"]
"""How a step is cancelled: by a scope, so that what is shielded from it is; natively, as a stream
may be in the middle of scopes of its own; or not at all."""


@final
class _Step:
    """Something to do in the task of an errand, and what came of it."""

    def __init__(self, stop: _Stop, caller: object, do: Callable[[], Awaitable[Any]]) -> None:
        self.outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._stop: _Stop = stop
        self._scope = CancelScope() if stop == "scope" else None
        self._caller = caller
        self._do = do
        self._is_taken = False
        self._is_cancelled = False

    async def take(self, task: asyncio.Task[None]) -> None:
        """Do it in *task*, unless it was cancelled."""
        if self.outcome.cancelled():
            return
        self._is_taken = True
        acting_for.set(self._caller)
        try:
            with self._scope or nullcontext():
                self.outcome.set_result(await self._do())
        except asyncio.CancelledError:
            if not self._is_cancelled:
                raise
            task.uncancel()
        except BaseException as error:  # noqa: BLE001 - it is raised where the step was asked for
            self.outcome.set_exception(error)
        finally:
            acting_for.set(None)
            if not self.outcome.done():
                self.outcome.cancel()

    def cancel(self, task: asyncio.Task[None]) -> bool:
        """Cancel it; whether it is worth waiting for what comes of that."""
        if self.outcome.done() or self._stop == "never":
            return False
        self._is_cancelled = True
        if not self._is_taken:
            self.outcome.cancel()
        elif self._scope is not None:
            self._scope.cancel()
        else:
            task.cancel()
        return True


def _see(outcome: asyncio.Future[Any]) -> None:
    """Have asyncio not complain of an exception that nobody is there to be told of."""
    if not outcome.cancelled():
        outcome.exception()
