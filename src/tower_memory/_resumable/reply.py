"""The reply of one call, as it is produced and read.

1. The call adds chunks and sets the end, and never waits for a reader. Each reader waits for the
   chunk at its own position. Readers are not registered, so a reader that hangs or leaves costs the
   call and the other readers nothing.
2. At most *max_chunks* chunks are kept, the newest. A reader that needs an older chunk gets
   `ReplyMissing`.
3. The end is set after the turn is saved. It is a response, the end of a stream, or an error.
4. An error is raised to every reader. If no reader gets it, the log has a warning.

| state | next state |
|---|---|
| waiting | streaming, when the inner service has returned a stream; ended |
| streaming | ended, when the stream has ended, has failed or was stopped |
| ended | none |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from types import TracebackType
from typing import Any, final

from anyio import Event

from tower_memory import _log
from tower_memory._reasons import reason_of
from tower_memory._resumable.errors import CallStopped, ReplyMissing


@final
class Reply:
    """The reply of the call *key*.

    Attributes:
        key: The key of the call.
        is_stream: Whether the inner service has returned a stream.
        is_ended: Whether the state is ended.
        is_finished: Whether the call has reached its own end without an error.
    """

    def __init__(self, key: Hashable, max_chunks: int) -> None:
        self.key = key
        self.is_stream = False
        self.is_ended = False
        self.is_finished = False

        self._response: Any = None
        self._chunks: deque[Any] = deque(maxlen=max_chunks)
        self._added = 0
        self._changed: Event | None = None  # exists while a reader waits
        self._failure: Exception | None = None
        self._traceback: TracebackType | None = None
        self._is_failure_read = False

    @property
    def is_stopped(self) -> bool:
        """Whether the call has ended because it was stopped."""
        return self.is_ended and not self.is_finished and self._failure is None

    def begin_stream(self) -> None:
        """Set the state to streaming."""
        self.is_stream = True
        self.wake_readers()

    def add(self, chunk: object) -> None:
        """Add the next chunk of the stream."""
        self._chunks.append(chunk)
        self._added += 1
        self.wake_readers()

    def finish(self, response: object) -> None:
        """Note that the call has reached its own end; *response* is None if it is a stream.

        The readers see this after `end`.
        """
        self._response = response
        self.is_finished = True

    def fail(self, error: Exception) -> None:
        """Note that the call has failed with *error*. The readers see this after `end`."""
        self._traceback = _of_inner_service(error.__traceback__)
        self._failure = error.with_traceback(self._traceback)
        self.is_finished = False

    def end(self) -> None:
        """Set the state to ended. A call that neither finished nor failed was stopped."""
        self.is_ended = True
        self.wake_readers()

    async def response(self) -> Any:
        """Wait until the inner service has returned; return its response, or None for a stream.

        Raises:
            CallStopped: The call was stopped before the inner service had returned.
            Exception: The inner service has raised.
        """
        while not self.is_stream and not self.is_ended:
            await self.wait_for_change()

        if self.is_stream or self.is_finished:
            return self._response
        self._raise_failure()
        raise CallStopped(self.key)

    def check_joinable(self) -> None:
        """Refuse to join a reply whose first chunk is not kept any more.

        Raises:
            ReplyMissing: The first chunk is not kept.
        """
        if self._added > len(self._chunks):
            reason = f"has more than {self._chunks.maxlen} chunks, so its first ones are dropped"
            raise ReplyMissing(self.key, reason)

    def has_chunk(self, position: int) -> bool:
        """Return True if `chunk` can be called: the chunk was added, or the reply has ended."""
        return position < self._added or self.is_ended

    def chunk(self, position: int) -> Any:
        """Return the chunk at *position*, from 0. Call this only if `has_chunk` is true.

        Raises:
            StopAsyncIteration: The stream has ended before it.
            ReplyMissing: The chunk is not kept any more.
            Exception: The stream has failed before it.
        """
        index = position - self._added + len(self._chunks)
        if index < 0:
            reason = f"is {self._chunks.maxlen} chunks ahead of this reader, and keeps no more"
            raise ReplyMissing(self.key, reason)

        if index < len(self._chunks):
            return self._chunks[index]

        self._raise_failure()
        raise StopAsyncIteration

    async def wait_for_change(self) -> None:
        """Wait until a chunk is added, the state changes, or `wake_readers` is called."""
        if self._changed is None:
            self._changed = Event()
        await self._changed.wait()

    def wake_readers(self) -> None:
        """Let all waiting readers look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._is_failure_read = True
            raise self._failure.with_traceback(self._traceback)

    def __del__(self) -> None:
        if self._failure is not None and not self._is_failure_read:
            _log.failure_unread(self.key, reason=reason_of(self._failure))


def _of_inner_service(traceback: TracebackType | None) -> TracebackType | None:
    """Return *traceback* without its first frames, which belong to this package.

    These frames refer to the reply, and the reply to its error. This cycle would keep the reply in
    memory until the next garbage collection.
    """
    while traceback is not None and traceback.tb_frame.f_globals.get("__package__") == __package__:
        traceback = traceback.tb_next
    return traceback
