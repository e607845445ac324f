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

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, Generic, Self, cast, final

from tower_memory._crossing import Cross, crossing, is_asyncio
from tower_memory._service import Req, Res, Service, stack
from tower_memory._streams import close, has, is_stream

__all__ = ("AsyncioLayer",)


@final
class AsyncioLayer:
    """Runs the service inside in an asyncio loop: on trio in one beside it, on asyncio in the same.

    Whatever the service awaits runs there, a stream that it returns is read there, and cancelling
    the call cancels it there; context variables go along. One loop, on a thread of its own, serves
    all calls through the layer. It is started by the first, and ended by leaving the layer's
    context manager or by `aclose`; it keeps no process alive.

    Of a stream that crossed, whatever awaits is left behind, but reading and closing it.
    """

    def __init__(self) -> None:
        self._opened = AsyncExitStack()
        self._cross: Cross | None = None

    def __call__(self, inner: Service[Req, Res], /) -> InAsyncio[Req, Res]:
        """*inner*, run in the asyncio loop."""
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
        response: Any = await cross(self.inner, request)
        return cast("Res", CrossedStream(response, cross) if is_stream(response) else response)

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


_END: Final = object()


@final
class CrossedStream:
    """Stands for a stream that is read in another event loop."""

    def __init__(self, stream: Any, cross: Cross) -> None:
        self._stream = stream
        self._entered = stream
        self._iterator: AsyncIterator[Any] | None = None
        self._cross = cross

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        chunk = await self._cross(self._next)
        if chunk is _END:
            raise StopAsyncIteration
        return chunk

    async def __aenter__(self) -> Self:
        if has(self._stream, "__aenter__"):
            self._entered = await self._cross(self._stream.__aenter__)
        return self

    async def __aexit__(self, *failure: object) -> Any:
        if has(self._stream, "__aexit__"):
            return await self._cross(self._stream.__aexit__, *failure)
        return await self.aclose()

    async def aclose(self) -> None:
        """Close the stream, in the way it has."""
        await self._cross(close, self._entered)

    async def _next(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self._entered)
        return await anext(self._iterator, _END)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._entered, name)
        if not iscoroutinefunction(value):
            return value
        if name == "close":
            return self.aclose
        msg = (
            f"{name} of {self._entered!r} would run in another event loop; read or close the stream"
        )
        raise AttributeError(msg)
