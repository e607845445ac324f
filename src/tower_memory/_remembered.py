"""A reply that comes in chunks: passed on as it comes, remembered once it ended.

1. Each chunk is passed on at once, the very object. What the chunks say is read when all are there.
2. When the stream ends, its turn is saved, before its iterator ends: whoever has seen the end knows
   that the turn is kept.
3. A stream that fails, is closed, or is not read to its end saves nothing or, where that is wanted,
   what came of it, as interrupted. Its session is free then.
4. Whatever else the stream has is its own. Its methods run on what stands for it here, so that
   nothing is read of it unseen.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from inspect import isasyncgen, isawaitable, ismethod
from types import MethodType
from typing import Any, Self, final

from anyio import Event
from anyio.lowlevel import current_token

from tower_memory._crossing import call_soon
from tower_memory._errors import SessionError
from tower_memory._overlap import OpenTurn
from tower_memory._streams import Source, close, has
from tower_memory.dialects import Streamed


@final
class RememberedStream:
    """Stands for a stream: it is read as that is, and has all that it has.

    It is an async context manager also where the stream is none: leaving it closes the stream.
    """

    __slots__ = ("__reading", "__weakref__")
    __reading: Reading

    def __init__(self, reading: Reading) -> None:
        object.__setattr__(self, "_RememberedStream__reading", reading)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.__reading.next()

    async def __aenter__(self) -> Self:
        await self.__reading.enter()
        return self

    async def __aexit__(self, *failure: object) -> Any:
        return await self.__reading.leave(*failure)

    async def aclose(self) -> None:
        """Close the stream; closing twice is closing once."""
        await self.__reading.closing(close(self.__reading.stream))

    def __getattr__(self, name: str) -> Any:
        if name.startswith(f"_{RememberedStream.__name__}__"):  # its own, and not there yet
            raise AttributeError(name)
        stream = self.__reading.stream
        value = getattr(stream, name)
        if name == "close":
            return self.__reading.closer(value)
        if ismethod(value) and value.__self__ is stream:
            return MethodType(value.__func__, self)
        if isasyncgen(value):  # a method that was called when the stream was made
            method: Any = getattr(stream.__class__, value.__name__, None)
            if getattr(method, "__code__", None) is value.ag_code:
                return method(self)
        if isasyncgen(stream):
            msg = f"{name}: a generator that is remembered is read by iterating it"
            raise AttributeError(msg)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__reading.stream, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.__reading.stream.__class__

    def __repr__(self) -> str:
        return f"<remembered {self.__reading.stream!r}>"

    def __del__(self) -> None:
        with suppress(AttributeError):  # of one that was never made
            self.__reading.let_go()


@final
class Reading:
    """What is known of a stream while it is read: it is open, then it ends, then it is over.

    Args:
        stream: An async iterable of chunks, or an async context manager that gives one.
        session_id: The session whose turn it is.
        save: Saves what came of it.
        turn: The turn that ends with the stream, or None where nobody waits for that.
        keep_interrupted: Whether to save what came of a stream that did not come to its end.
    """

    def __init__(
        self,
        stream: Any,
        session_id: str,
        save: Callable[[Streamed], Awaitable[None]],
        turn: OpenTurn | None,
        *,
        keep_interrupted: bool,
    ) -> None:
        self._source = Source(stream)
        self._session_id = session_id
        self._save = save
        self._turn = turn
        self._keep_interrupted = keep_interrupted
        self._chunks: list[Any] = []
        self._closing = False
        self._let_go = False
        self._failed = False
        self._over: Event | None = None  # once it ends; set when it is over
        self._loop = current_token()
        if turn is not None:
            turn.read_here()

    @property
    def stream(self) -> Any:
        return self._source.stream

    async def next(self) -> Any:
        if self._over or self._let_go:
            await self._until_over()
            raise StopAsyncIteration
        try:
            with self._inside():
                chunk = await self._source.next()
        except StopAsyncIteration:
            await self._end(interrupted=self._closing)
            raise
        except GeneratorExit:  # nothing can be awaited
            self.let_go()
            raise
        except BaseException:
            self._failed = True
            await self._end(interrupted=True)
            raise
        self._chunks.append(chunk)
        return chunk

    async def enter(self) -> None:
        try:
            with self._inside():
                await self._source.enter()
                if not has(self.stream, "__aiter__"):
                    await self._source.leave(None, None, None)
                    self._refuse()
        except BaseException:
            await self._end(interrupted=True)
            raise

    async def leave(self, *failure: Any) -> Any:
        return await self.closing(self._source.leave(*failure))

    async def closing(self, way: Awaitable[Any]) -> Any:
        """Close the stream in this *way*, whatever who reads it meanwhile makes of that."""
        self._closing = True
        try:
            with self._inside():
                return await way
        finally:
            await self._end(interrupted=True)

    def closer(self, close: Callable[[], Any]) -> Callable[[], Any]:
        """The stream's own *close*, ending the turn as well."""

        def closed() -> Any:
            self._closing = True
            way = close()
            if isawaitable(way):
                return self.closing(way)
            self.let_go()
            return way

        return closed

    def let_go(self) -> None:
        """End the turn soon, without awaiting. May be called from anywhere, as finalizers are."""
        if self._over or self._let_go:
            return
        self._let_go = True
        if self._turn is not None:
            self._turn.dropped = True
            call_soon(self._loop, self._turn.end)
        if self._keep_interrupted and self._chunks:
            msg = f"{self.stream!r} was not closed; to keep what came of it, use 'async with'"
            warnings.warn(msg, ResourceWarning, stacklevel=3)

    def _refuse(self) -> None:
        msg = f"{self._source.manager!r} must give an async iterator, got {self.stream!r}"
        raise TypeError(msg)

    def _inside(self) -> AbstractContextManager[None]:
        if self._turn is None:
            return nullcontext()
        self._turn.read_here()
        return self._turn.inside()

    async def _until_over(self) -> None:
        """Wait until what is to be saved is.

        Raises:
            SessionError: It was to end well, and did not.
        """
        if self._over is not None and not self._over.is_set():
            await self._over.wait()
        if self._failed and not self._closing:
            msg = "this stream failed before its end, and its turn is not saved; ask again"
            raise SessionError(msg, session_id=self._session_id)

    async def _end(self, *, interrupted: bool) -> None:
        """Save what is to be saved, and end the turn. Ending twice is ending once."""
        if self._over or self._let_go:
            await self._until_over()
            return
        self._over = Event()
        try:
            if not interrupted or (self._keep_interrupted and self._chunks):
                await self._save(Streamed(tuple(self._chunks), interrupted, self.stream))
        except BaseException:
            self._failed = True
            raise
        finally:
            if self._turn is not None:
                self._turn.end()
            self._over.set()
