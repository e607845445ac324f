"""The stream proxy: the object that a reader gets in place of the provider's stream.

1. The proxy has every attribute of the stream, and its class. It can be read like the stream.
2. The proxy reads through an `ObservedStream`, such as the stream recorder of the memory layer.
   Methods of the stream run with the proxy as ``self``, so the observed stream passes on every
   chunk that they read.
3. The proxy is an async context manager even if the stream is none: leaving it closes the stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from inspect import isasyncgen, ismethod
from types import MethodType
from typing import Any, Protocol, Self, final

from tower_memory._stream_source import close_stream


class ObservedStream(Protocol):
    """A stream that is observed at each step and at its close, such as by a stream recorder."""

    @property
    def stream(self) -> Any:
        """The stream; after `enter`, the object that its context manager returned."""
        ...

    async def next(self) -> Any:
        """Return the next chunk; raise `StopAsyncIteration` at the end."""
        ...

    async def enter(self) -> None:
        """Enter the stream's own context manager, if it has one."""
        ...

    async def leave(self, *exc_info: Any) -> Any:
        """Leave the stream's own context manager, or close the stream."""
        ...

    async def close(self, closing: Awaitable[Any]) -> Any:
        """Await *closing*, which closes the stream."""
        ...

    def wrap_close(self, close: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that calls the stream's own *close*."""
        ...

    def detach(self) -> None:
        """Give the stream up without awaiting; finalizers may call this in any thread."""
        ...


@final
class StreamProxy:
    """Stands for the stream that *observed* reads."""

    __slots__ = ("__observed", "__weakref__")
    __observed: ObservedStream

    def __init__(self, observed: ObservedStream) -> None:
        object.__setattr__(self, "_StreamProxy__observed", observed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.__observed.next()

    async def __aenter__(self) -> Self:
        await self.__observed.enter()
        return self

    async def __aexit__(self, *exc_info: object) -> Any:
        return await self.__observed.leave(*exc_info)

    async def aclose(self) -> None:
        """Close the stream. A second call does nothing."""
        await self.__observed.close(close_stream(self.__observed.stream))

    def __getattr__(self, name: str) -> Any:
        if name.startswith(f"_{StreamProxy.__name__}__"):  # not set yet; see __del__
            raise AttributeError(name)

        stream = self.__observed.stream
        value = getattr(stream, name)
        if name == "close":
            return self.__observed.wrap_close(value)
        if ismethod(value) and value.__self__ is stream:
            return MethodType(value.__func__, self)

        if isasyncgen(value):  # the stream called one of its generator methods when it was made
            method: Any = getattr(stream.__class__, value.__name__, None)
            if getattr(method, "__code__", None) is value.ag_code:
                return method(self)

        if isasyncgen(stream) and callable(value):
            msg = f"{name}: iterate an observed generator to read it"
            raise AttributeError(msg)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__observed.stream, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.__observed.stream.__class__

    def __repr__(self) -> str:
        return f"<observed {self.__observed.stream!r}>"

    def __del__(self) -> None:
        with suppress(AttributeError):  # the constructor did not run
            self.__observed.detach()
