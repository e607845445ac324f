"""Streams: replies that come in chunks, as client libraries make them."""

from __future__ import annotations

from inspect import isawaitable
from typing import Any, final


def is_stream(response: object) -> bool:
    """Whether *response* comes in chunks, at once or once it is entered as a context manager."""
    return has(response, "__aiter__") or has(response, "__aenter__")


def has(value: object, method: str) -> bool:
    """Whether *value* is of a type with *method*."""
    return hasattr(type(value), method)


@final
class Source:
    """A stream as it is read: entered, if it has to be, iterated, and left."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.manager = stream
        self._iterator: Any = None

    async def next(self) -> Any:
        """The next chunk; raises `StopAsyncIteration` after the last."""
        if self._iterator is None:
            stream = self.stream
            if not has(stream, "__aiter__"):
                msg = f"enter {stream!r} first: 'async with await service(request) as stream'"
                raise TypeError(msg)
            self._iterator = stream if has(stream, "__anext__") else aiter(stream)
        return await self._iterator.__anext__()

    async def enter(self) -> None:
        """Enter the stream's own context manager, if it has one, and read what that gives."""
        if not has(self.manager, "__aenter__"):
            return
        entered = await self.manager.__aenter__()
        if entered is not self.stream:
            self.stream, self._iterator = entered, None

    async def leave(self, *failure: object) -> Any:
        """Leave the stream's own context manager, or close the stream."""
        if has(self.manager, "__aexit__"):
            return await self.manager.__aexit__(*failure)
        return await close(self.stream)


async def close(stream: object) -> None:
    """Close *stream*, in the way it has, if any."""
    way = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    closing = way() if way else None
    if isawaitable(closing):
        await closing
