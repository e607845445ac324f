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

from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from inspect import isasyncgen, isasyncgenfunction, iscoroutinefunction
from itertools import count
from typing import Any, Generic, Self, cast, final

from anyio import get_cancelled_exc_class, get_current_task

from tower_memory._crossing import Cross, acting_for, crossing, is_asyncio
from tower_memory._errands import END, Errand
from tower_memory._service import Req, Res, Service, check_inner, stack
from tower_memory._streams import is_stream

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
        self._way: _Way | None = None

    def __call__(self, inner: Service[Req, Res], /) -> InAsyncio[Req, Res]:
        """*inner*, run in the asyncio loop."""
        check_inner(inner)
        return InAsyncio(inner, self)

    def way(self) -> _Way | None:
        """The way to the asyncio loop; None where it is the one that runs."""
        if is_asyncio():
            return None
        if self._way is None:
            self._way = _Way(crossing(self._opened))
        return self._way

    async def aclose(self) -> None:
        """End the asyncio loop, and what still runs in it; a later call starts another."""
        if self._way is not None:
            self._way.is_open = False
            self._way = None
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
        way = self.layer.way()
        if way is None:
            return await self.inner(request)
        return cast("Res", await way.go(_begin, way, _me(), self.inner, request))

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


@final
class CrossedStream:
    """Stands for a stream that one task of another event loop reads."""

    __slots__ = ("_errand", "_owed", "_tickets", "_way")

    def __init__(self, way: _Way, errand: Errand) -> None:
        self._way = way
        self._errand = errand
        self._tickets = count(1)
        self._owed = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        ticket, owed, self._owed = next(self._tickets), self._owed, 0
        try:
            chunk = await self._way.go(self._errand.next, _me(), ticket, owed)
        except get_cancelled_exc_class():
            self._owed = ticket
            raise
        if chunk is END:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        await self._way.go(self._errand.enter, _me())
        return self

    async def __aexit__(self, *failure: object) -> Any:
        return await self._way.go(self._errand.leave, _me(), *failure)

    async def aclose(self) -> None:
        """Close the stream, in the way it has."""
        await self._way.go(self._errand.close, _me())

    def __getattr__(self, name: str) -> Any:
        if name in CrossedStream.__slots__:  # not there yet
            raise AttributeError(name)
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
        with suppress(AttributeError):  # of one that was never made
            self._errand.let_go()


@final
class _Way:
    """The way from trio to the asyncio loop, while that is open."""

    def __init__(self, cross: Cross) -> None:
        self._cross = cross
        self.is_open = True

    async def go(self, function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
        """What comes of *function* there."""
        if not self.is_open:
            msg = "the bridge was left; read its streams inside its 'async with'"
            raise RuntimeError(msg)
        try:
            return await self._cross(function, *arguments)
        except CancelledError as error:
            msg = "it was cancelled in its own event loop, such as by closing the bridge"
            raise RuntimeError(msg) from error


def _me() -> object:
    """The task that runs now, or that this runs for."""
    return acting_for.get() or get_current_task().coro


async def _begin(way: _Way, caller: object, inner: Service[Any, Any], request: Any) -> Any:
    """Call the service, in the asyncio loop."""
    errand = Errand()
    try:
        response = await errand.call(caller, inner, request)
    except BaseException:
        errand.let_go()
        raise
    if is_stream(response):
        return CrossedStream(way, errand)
    errand.let_go()
    return response
