"""The stream proxy: the object that a reader gets in place of the provider's stream.

1. The proxy has every attribute of the stream, and its class. It can be read like the stream.
2. Methods of the stream run with the proxy as ``self``, so the recorder sees every chunk that
   they read.
3. The proxy is an async context manager even if the stream is none: leaving it closes the stream.
"""

from __future__ import annotations

from contextlib import suppress
from inspect import isasyncgen, ismethod
from types import MethodType
from typing import Any, Self, final

from tower_memory._memory.stream_recorder import StreamRecorder
from tower_memory._stream_source import close_stream


@final
class StreamProxy:
    """Stands for the stream that *recorder* records."""

    __slots__ = ("__recorder", "__weakref__")
    __recorder: StreamRecorder

    def __init__(self, recorder: StreamRecorder) -> None:
        object.__setattr__(self, "_StreamProxy__recorder", recorder)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.__recorder.next()

    async def __aenter__(self) -> Self:
        await self.__recorder.enter()
        return self

    async def __aexit__(self, *exc_info: object) -> Any:
        return await self.__recorder.leave(*exc_info)

    async def aclose(self) -> None:
        """Close the stream. A second call does nothing."""
        await self.__recorder.close(close_stream(self.__recorder.stream))

    def __getattr__(self, name: str) -> Any:
        if name.startswith(f"_{StreamProxy.__name__}__"):  # not set yet; see __del__
            raise AttributeError(name)

        stream = self.__recorder.stream
        value = getattr(stream, name)
        if name == "close":
            return self.__recorder.wrap_close(value)
        if ismethod(value) and value.__self__ is stream:
            return MethodType(value.__func__, self)

        if isasyncgen(value):  # the stream called one of its generator methods when it was made
            method: Any = getattr(stream.__class__, value.__name__, None)
            if getattr(method, "__code__", None) is value.ag_code:
                return method(self)

        if isasyncgen(stream) and callable(value):
            msg = f"{name}: iterate a recorded generator to read it"
            raise AttributeError(msg)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__recorder.stream, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.__recorder.stream.__class__

    def __repr__(self) -> str:
        return f"<recorded {self.__recorder.stream!r}>"

    def __del__(self) -> None:
        with suppress(AttributeError):  # the constructor did not run
            self.__recorder.detach()
