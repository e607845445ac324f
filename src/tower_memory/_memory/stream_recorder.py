"""The stream recorder: passes a stream on chunk by chunk, and saves its turn at the end.

1. Each chunk is passed on at once and unchanged. The dialect reads the chunks only after the
   stream has ended.
2. The turn is saved before the iterator ends, so a reader that has seen the end knows that the
   turn is saved. If the save fails, its error is raised in place of the end.
3. A stream that fails, is closed or is left before its end saves nothing. With *keep_interrupted*
   it saves the items that were received, marked as interrupted. The session lock is released in
   any case. If its turn replaces another turn, a stream is saved only if its reader closed it, or
   left it without an error, before it failed.
4. If a stream is garbage-collected without being closed, nothing can be saved, since a finalizer
   cannot await. With *keep_interrupted*, the chunks are lost, and the log has a warning.
5. A cancelled read is no failure of the stream: a heartbeat cancels one read and repeats it. The
   stream stays open, and its session stays locked. But a cancellation finishes an async generator.
   A stream that is an async generator, or has one in an attribute, is interrupted at once (rule 3).
   If the reader cancels its read in order to close the stream (`is_stopping`), it counts as closed.
6. For other streams, the recorder cannot know whether a cancelled read has finished them. If such a
   stream ends at the very next read, it counts as interrupted, and the read raises `SessionError`.
   This may refuse a whole reply, but the reader sees the error. A cut reply that is saved as a
   whole one would remain unnoticed.

| state | next state |
|---|---|
| open | ending, when the stream ends, fails or is closed; detached, when it is garbage-collected |
| ending | ended, after the save, if there is one, has succeeded or failed |
| ended, detached | none |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import isawaitable
from typing import Any, NoReturn, final

from anyio import Event, get_cancelled_exc_class
from anyio.lowlevel import current_token

from tower_memory import _log
from tower_memory._errors import SessionError
from tower_memory._memory.lock_state import LockHolder
from tower_memory._memory.reentrancy import Inside
from tower_memory._portal import call_soon
from tower_memory._stopping import is_stopping
from tower_memory._stream_source import StreamSource, has_method
from tower_memory.dialects import Streamed


@final
class StreamRecorder:
    """Passes on the chunks of one stream, and saves its turn when the stream ends.

    Args:
        stream: An async iterable of chunks, or an async context manager of one.
        session_id: The session of the turn.
        save: Saves the recorded reply.
        holder: The holder of the session lock that the stream owns; None if there is no lock.
        drop: Called at the end of a stream that is not saved; None calls nothing.
        on_detach: Called when the stream is garbage-collected, in any thread; None calls nothing.
        keep_interrupted: Whether to save a stream that its reader closed before its end.
        keep_failed: Whether to save a stream that failed, or that its reader left with an error.
    """

    def __init__(
        self,
        stream: Any,
        session_id: str,
        save: Callable[[Streamed], Awaitable[None]],
        holder: LockHolder | None,
        *,
        drop: Callable[[], Awaitable[None]] | None = None,
        on_detach: Callable[[], object] | None = None,
        keep_interrupted: bool,
        keep_failed: bool,
    ) -> None:
        self._source = StreamSource(stream)
        self._session_id = session_id
        self._save = save
        self._holder = holder
        self._drop = drop
        self._on_detach = on_detach
        self._keep_interrupted = keep_interrupted
        self._keep_failed = keep_failed

        self._chunks: list[Any] = []
        self._is_closing = False
        self._is_left_by_error = False
        self._is_detached = False
        self._has_failed = False
        self._ended: Event | None = None  # None while open; set in the state "ended"
        self._loop = current_token()

        if holder is not None:
            holder.lease_to_reader()

    @property
    def stream(self) -> Any:
        """The stream; after `enter`, the object that its context manager returned."""
        return self._source.stream

    async def next(self) -> Any:
        """Return the next chunk; raise `StopAsyncIteration` at the end, after the save."""
        if self._ended or self._is_detached:
            await self._wait_until_ended()
            raise StopAsyncIteration

        try:
            with self._inside_turn():
                chunk = await self._source.next()
        except StopAsyncIteration:
            if self._source.is_cut is not False and not self._is_closing:
                await self._fail()
                self._raise_cut()
            await self._end(interrupted=self._is_closing)
            raise
        except GeneratorExit:  # the reader is finalized and cannot await
            self.detach()
            raise
        except get_cancelled_exc_class():
            if self._source.is_cut:
                self._is_closing = self._is_closing or is_stopping()
                await self._fail()
            raise
        except BaseException:
            await self._fail()
            raise
        self._chunks.append(chunk)
        return chunk

    async def enter(self) -> None:
        """Enter the stream's own context manager, if it has one."""
        try:
            with self._inside_turn():
                await self._source.enter()
                if not has_method(self.stream, "__aiter__"):
                    await self._source.leave(None, None, None)
                    self._raise_not_iterable()
        except BaseException:
            await self._end(interrupted=True)
            raise

    async def leave(self, *exc_info: Any) -> Any:
        """Leave the stream's own context manager, or close the stream."""
        # A GeneratorExit means that a generator around the stream was closed.
        self._is_left_by_error = exc_info[0] not in (None, GeneratorExit)
        return await self.close(self._source.leave(*exc_info))

    async def close(self, closing: Awaitable[Any]) -> Any:
        """Await *closing*, which closes the stream, and end the turn."""
        # A reader in another task may now see StopAsyncIteration, though the stream is interrupted.
        self._is_closing = True
        try:
            with self._inside_turn():
                return await closing
        finally:
            await self._end(interrupted=True)

    def wrap_close(self, close: Callable[[], Any]) -> Callable[[], Any]:
        """Return a function that calls the stream's own *close*, and ends the turn as well."""

        def close_and_end() -> Any:
            self._is_closing = True
            result = close()
            if isawaitable(result):
                return self.close(result)
            self.detach()
            return result

        return close_and_end

    def detach(self) -> None:
        """Give the stream up without awaiting: save nothing, and release the session lock soon.

        Finalizers may call this in any thread.
        """
        if self._ended or self._is_detached:
            return
        self._is_detached = True

        if self._holder is not None:
            lease: Any = self._holder.lease  # exists since the recorder was made
            lease.is_collected = True
            call_soon(self._loop, self._holder.release)
        if self._on_detach is not None:
            self._on_detach()
        if self._keep_interrupted and self._chunks:
            kind = type(self.stream).__name__
            _log.stream_lost(self._session_id, kind=kind, chunks=len(self._chunks))

    def _raise_not_iterable(self) -> None:
        manager, given = type(self._source.manager).__name__, type(self.stream).__name__
        msg = f"{manager} must give an async iterator, got {given}"
        raise TypeError(msg)

    def _raise_cut(self) -> NoReturn:
        msg = (
            "this stream ended right after a cancelled read, so its reply may be incomplete; to "
            "wait for a chunk with a time limit, leave the read running in a task of its own"
        )
        raise SessionError(msg, session_id=self._session_id) from None

    def _inside_turn(self) -> AbstractContextManager[None]:
        if self._holder is None:
            return nullcontext()
        self._holder.lease_to_reader()
        return Inside(self._holder)

    async def _wait_until_ended(self) -> None:
        """Wait until the stream has ended; return at once if it is detached.

        Raises:
            SessionError: The stream failed, or its turn could not be saved.
        """
        if self._ended is not None and not self._ended.is_set():
            await self._ended.wait()
        if self._has_failed and not self._is_closing:
            msg = (
                "this stream failed before its end, or its turn could not be saved; see the error "
                "that was raised then"
            )
            raise SessionError(msg, session_id=self._session_id)

    async def _fail(self) -> None:
        """End the turn of a stream that has failed."""
        self._has_failed = True
        await self._end(interrupted=True)

    async def _end(self, *, interrupted: bool) -> None:
        """Save the reply and release the session lock. A second call does not save again."""
        if self._ended or self._is_detached:
            await self._wait_until_ended()
            return

        self._ended = Event()
        try:
            is_closed = self._is_closing and not self._is_left_by_error
            keep = self._keep_interrupted if is_closed else self._keep_failed
            if not interrupted or (keep and self._chunks):
                await self._save(Streamed(tuple(self._chunks), interrupted, self.stream))
            elif self._drop is not None:
                await self._drop()
        except BaseException:
            self._has_failed = True
            raise
        finally:
            if self._holder is not None:
                self._holder.release()
            self._ended.set()
