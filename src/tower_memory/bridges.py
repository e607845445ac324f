"""Clients that speak asyncio only, in programs that run on trio.

>>> import asyncio, trio
>>> async def ask(request: str) -> str:  # a call that needs asyncio
...     await asyncio.sleep(0)
...     return request.upper()
>>> async def main() -> None:
...     async with AsyncioLayer() as bridge:
...         print(await bridge(ask)("hi"))
>>> trio.run(main)
HI
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from inspect import isasyncgen, isasyncgenfunction, iscoroutinefunction
from typing import Any, Final, Generic, Self, cast, final

from anyio import CancelScope

from tower_memory._crossing import Cross, crossing, is_asyncio
from tower_memory._service import Req, Res, Service, check_inner, stack
from tower_memory._streams import close, has, is_stream

__all__ = ("AsyncioLayer",)


@final
class AsyncioLayer:
    """Runs the service inside in an asyncio loop: on trio in one beside it, on asyncio in the same.

    1. One task of that loop serves one call, and reads the stream that it may give: whatever the
       service awaits, and each step of its stream, runs there, as it would on asyncio.
    2. Cancelling a call, or a step, cancels it there; context variables go along.
    3. One loop, on a thread of its own, serves all calls through the layer. It is started by the
       first, and ended, with all that still runs in it, by leaving the layer's context manager or
       by `aclose`; it keeps no process alive.

    Of a stream that crossed, what awaits is left behind, but reading and closing it.
    """

    def __init__(self) -> None:
        self._opened = AsyncExitStack()
        self._cross: Cross | None = None

    def __call__(self, inner: Service[Req, Res], /) -> InAsyncio[Req, Res]:
        """*inner*, run in the asyncio loop."""
        check_inner(inner)
        return InAsyncio(inner, self)

    def way(self) -> Cross | None:
        """The way to the asyncio loop; None where it is the one that runs."""
        if is_asyncio():
            return None
        if self._cross is None:
            self._cross = crossing(self._opened)
        return self._cross

    async def aclose(self) -> None:
        """End the asyncio loop, and what still runs in it; a later call starts another."""
        self._cross = None
        await self._opened.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return "AsyncioLayer()"


@final
@dataclass(frozen=True, slots=True, repr=False)
class InAsyncio(Generic[Req, Res]):
    """A service that runs in an asyncio loop; made by `AsyncioLayer`."""

    inner: Service[Req, Res]
    layer: AsyncioLayer

    async def __call__(self, request: Req, /) -> Res:
        cross = self.layer.way()
        if cross is None:
            return await self.inner(request)
        return cast("Res", await _crossed(cross, _begin, cross, self.inner, request))

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


_END: Final = object()


@final
class CrossedStream:
    """Stands for a stream that one task of another event loop reads."""

    def __init__(self, cross: Cross, errand: _Errand) -> None:
        self._cross = cross
        self._errand = errand

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        chunk = await self._ask(self._errand.next)
        if chunk is _END:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        await self._ask(self._errand.enter)
        return self

    async def __aexit__(self, *failure: object) -> Any:
        return await self._ask(partial(self._errand.leave, *failure))

    async def aclose(self) -> None:
        """Close the stream, in the way it has."""
        await self._ask(self._errand.close)

    async def _ask(self, step: Callable[[], Awaitable[Any]]) -> Any:
        return await _crossed(self._cross, self._errand.take, step)

    def __getattr__(self, name: str) -> Any:
        stream = self._errand.stream
        value = getattr(stream, name)
        if name == "close":
            return self.aclose
        if iscoroutinefunction(value) or isasyncgen(value) or isasyncgenfunction(value):
            kind = type(stream).__name__
            msg = f"{name} of {kind} would run in another event loop; read the stream itself"
            raise AttributeError(msg)
        return value

    def __del__(self) -> None:
        self._errand.let_go()


async def _crossed(cross: Cross, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    try:
        return await cross(function, *arguments)
    except CancelledError as error:
        msg = "it was cancelled in its own event loop, such as by closing the bridge"
        raise RuntimeError(msg) from error


# What runs in the asyncio loop


async def _begin(cross: Cross, inner: Service[Any, Any], request: Any) -> Any:
    """Run the service in a task of its own, which stays for the stream that it may give."""
    errand = _Errand()
    handle = CrossedStream(cross, errand)  # with which the task ends
    response = await errand.take(partial(errand.call, inner, request))
    return handle if is_stream(response) else response


@final
class _Errand:
    """One call of the service, and the steps of the stream that it may give, in one task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps: asyncio.Queue[_Step | None] = asyncio.Queue()
        self.stream: Any = None
        self._manager: Any = None
        self._iterator: Any = None
        self._is_left = True
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while step := await self._steps.get():
                await step.take()
        finally:
            if not self._is_left:
                await close(self.stream)

    async def take(self, do: Callable[[], Awaitable[Any]]) -> Any:
        """What comes of doing something in the task; if this is cancelled, so is that."""
        step = _Step(do, self._task, self._loop.create_future())
        self._steps.put_nowait(step)
        ends = [step.outcome, self._task]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            step.cancel()
            with CancelScope(shield=True):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if step.outcome.done() and not step.outcome.cancelled():
                step.outcome.exception()  # seen, if there is one
            raise
        if not step.outcome.done():  # the task is over
            raise asyncio.CancelledError
        return step.outcome.result()

    def let_go(self) -> None:
        """End the task. May be called from anywhere, as finalizers are."""
        with suppress(RuntimeError):  # the loop is closed, and has ended it
            self._loop.call_soon_threadsafe(self._steps.put_nowait, None)

    async def call(self, inner: Service[Any, Any], request: Any) -> Any:
        response = await inner(request)
        if is_stream(response):
            self.stream = self._manager = response
            self._is_left = False
        return response

    async def next(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self.stream)
        return await anext(self._iterator, _END)

    async def enter(self) -> None:
        if has(self._manager, "__aenter__"):
            self.stream = await self._manager.__aenter__()

    async def leave(self, *failure: object) -> Any:
        if not has(self._manager, "__aexit__"):
            return await self.close()
        self._is_left = True
        return await self._manager.__aexit__(*failure)

    async def close(self) -> None:
        self._is_left = True
        await close(self.stream)


@final
class _Step:
    """Something to do in the task of an errand, and what came of it.

    It is cancelled natively: a generator may be in the middle of a cancel scope of its own.
    """

    def __init__(
        self,
        do: Callable[[], Awaitable[Any]],
        task: asyncio.Future[None],
        outcome: asyncio.Future[Any],
    ) -> None:
        self.outcome = outcome
        self._do = do
        self._task = task
        self._is_taken = False
        self._is_cancelled = False

    async def take(self) -> None:
        if self.outcome.cancelled():
            return
        self._is_taken = True
        try:
            self.outcome.set_result(await self._do())
        except asyncio.CancelledError:
            if not self._is_cancelled:
                raise
        except BaseException as error:  # noqa: BLE001 - it is raised where the step was asked for
            self.outcome.set_exception(error)
        finally:
            if not self.outcome.done():
                self.outcome.cancel()

    def cancel(self) -> None:
        self._is_cancelled = True
        if self.outcome.done():
            return
        if self._is_taken:
            self._task.cancel()
        else:
            self.outcome.cancel()
