"""Streams: replies that come in chunks, as client libraries return them."""

from __future__ import annotations

from inspect import isasyncgen, isawaitable
from typing import Any, final

from anyio import get_cancelled_exc_class


def is_stream(response: object) -> bool:
    """Return True if *response* is an async iterable or an async context manager.

    Some clients return a context manager that must be entered before the stream can be read.
    """
    return has_method(response, "__aiter__") or has_method(response, "__aenter__")


def has_method(value: object, name: str) -> bool:
    """Return True if the type of *value* has a method called *name*."""
    return hasattr(type(value), name)


@final
class StreamSource:
    """Reads a stream: enters it if needed, iterates it and leaves it.

    Args:
        stream: Response of a service, as in `is_stream`.

    Attributes:
        manager: The response itself, which may be a context manager.
        stream: The object that is iterated: the response, or, once its context manager is entered,
            the object which that returned.
        is_cut: True if the latest read was cancelled and the cancellation finished the stream; None
            if the read was cancelled and the stream may or may not go on; otherwise False.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.manager = stream
        self.is_cut: bool | None = False
        self._iterator: Any = None

    async def next(self) -> Any:
        """Return the next chunk.

        Raises:
            StopAsyncIteration: The stream has ended, or it is cut (see `is_cut`).
            TypeError: The stream must be entered first.
        """
        if self._iterator is None:
            stream = self.stream
            if not has_method(stream, "__aiter__"):
                kind = type(stream).__name__
                msg = f"enter the {kind} first: 'async with await service(request) as stream'"
                raise TypeError(msg)
            self._iterator = stream if has_method(stream, "__anext__") else aiter(stream)

        try:
            chunk = await self._iterator.__anext__()
        except get_cancelled_exc_class():
            self.is_cut = _is_cut(self._iterator)
            raise
        self.is_cut = False
        return chunk

    async def enter(self) -> None:
        """Enter the stream's own context manager, if it has one, and read the object it returns."""
        if not has_method(self.manager, "__aenter__"):
            return
        entered = await self.manager.__aenter__()
        if entered is not self.stream:
            self.stream, self._iterator = entered, None

    async def leave(self, *failure: object) -> Any:
        """Leave the stream's own context manager; if it has none, close the stream.

        Args:
            failure: The arguments of ``__aexit__``.
        """
        if has_method(self.manager, "__aexit__"):
            return await self.manager.__aexit__(*failure)
        return await close_stream(self.stream)


def _is_cut(iterator: Any) -> bool | None:
    """Return True if a cancelled read has finished *iterator*; None if this can't be known.

    A cancellation that leaves an async generator finishes it. Most client libraries read their
    streams with a generator that is an attribute of the stream.
    """
    # A bridged stream has a source of its own; a stream proxy has the class of its stream.
    if hasattr(iterator.__class__, "is_cut"):
        is_cut: bool | None = iterator.is_cut
        return is_cut
    attributes = getattr(iterator, "__dict__", {}).values()
    generators = [each for each in (iterator, *attributes) if isasyncgen(each)]
    return True if any(each.ag_frame is None for each in generators) else None


async def close_stream(stream: object) -> None:
    """Call the ``aclose`` or ``close`` method of *stream*, and await it if it is async.

    Does nothing if *stream* has neither.
    """
    method = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    closing = method() if method else None
    if isawaitable(closing):
        await closing
