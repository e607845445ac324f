"""A traced stream: its operation ends when the stream ends, fails, is left or is dropped.

| the stream | outcome |
|---|---|
| is read to its end | ok |
| raises an error, also while it is entered or left | error |
| is finished by a cancelled read, which a generator does not survive | cancelled |
| is closed or left before its end, or ends right after a cancelled read | interrupted |
| is garbage-collected | dropped; none if its event loop has ended |

A finalizer ends no operation itself (rule 5 of `operation`): the event loop does it soon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any, final

from anyio import get_cancelled_exc_class
from anyio.lowlevel import current_token

from tower_memory._portal import call_soon
from tower_memory._stream_source import StreamSource
from tower_memory._tracing.operation import Operation


@final
class TracedStream:
    """An observed stream for a `StreamProxy`: each step of *stream* is a part of *operation*."""

    def __init__(self, stream: Any, operation: Operation) -> None:
        self._source = StreamSource(stream)
        self._operation = operation
        self._is_closing = False
        self._loop = current_token()

    @property
    def stream(self) -> Any:
        """The stream; after `enter`, the object that its context manager returned."""
        return self._source.stream

    async def next(self) -> Any:
        """Return the next chunk; raise `StopAsyncIteration` at the end."""
        try:
            with self._operation.inside():
                return await self._source.next()
        except StopAsyncIteration:
            is_whole = self._source.is_cut is False and not self._is_closing
            self._operation.end("ok" if is_whole else "interrupted")
            raise
        except GeneratorExit:  # the reader is finalized
            self.detach()
            raise
        except get_cancelled_exc_class():
            if self._source.is_cut:
                self._operation.end("cancelled")
            raise
        except BaseException as error:
            self._operation.fail(error)
            raise

    async def enter(self) -> None:
        """Enter the stream's own context manager, if it has one."""
        await self._step(self._source.enter())

    async def leave(self, *exc_info: Any) -> Any:
        """Leave the stream's own context manager, or close the stream."""
        return await self.close(self._source.leave(*exc_info))

    async def close(self, closing: Awaitable[Any]) -> Any:
        """Await *closing*, which closes the stream."""
        self._is_closing = True
        result = await self._step(closing)
        self._operation.end("interrupted")
        return result

    def wrap_close(self, close: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that calls the stream's own *close*, and ends the operation."""

        def close_and_end() -> Any:
            self._is_closing = True
            try:
                with self._operation.inside():
                    result = close()
            except BaseException as error:  # no event loop needs to be here, which `fail` needs
                self._operation.end("error", type(error).__qualname__)
                raise

            if isawaitable(result):
                return self.close(result)
            self._operation.end("interrupted")
            return result

        return close_and_end

    def detach(self) -> None:
        """End the operation soon; finalizers may call this in any thread."""
        if not self._operation.is_ended:
            call_soon(self._loop, partial(self._operation.end, "dropped"))

    async def _step(self, step: Awaitable[Any]) -> Any:
        """Await *step*; the operation ends if it fails."""
        try:
            with self._operation.inside():
                return await step
        except GeneratorExit:  # the reader is finalized
            self.detach()
            raise
        except BaseException as error:
            self._operation.fail(error)
            raise
