"""One running call: calls the inner service, and reads its stream to the end.

1. The call is part of no scope of its callers: neither their cancellation nor their deadlines reach
   it. It ends by itself, by `RunningCall.stop`, or by `RunningCall.abort`.
2. A stop cancels the call or its pending read, and then closes the stream, as a reader does that
   needs no more of it. A save that has begun runs to its end, so a stop may come too late.
3. An abort also cancels the closing of the stream. A save that has begun still has its grace.
4. Native asyncio cancellation of the task stops this call, and no other call of its task group. A
   client may raise the same error by itself, such as for a request that it has cancelled. Then the
   call has failed.
5. The reply ends after the stream is closed, and therefore after the turn is saved.
6. A stream may have all its chunks at once, and never wait. The readers then read between its
   chunks, and the call can be stopped. A stop is still seen in a read (see stream_recorder.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import AsyncExitStack, suppress
from typing import Any, final

from anyio import CancelScope, Event, get_cancelled_exc_class, get_current_task
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from tower_memory._calls import call_service
from tower_memory._portal import remote_task
from tower_memory._resumable.reply import Reply
from tower_memory._service import Service
from tower_memory._stopping import Stop, current_stop
from tower_memory._stream_source import StreamSource, is_stream


@final
class RunningCall:
    """The call *key* of *inner* with *request*. It runs in a task of its own.

    Attributes:
        request: The request, to compare others with it. Its lists and dicts are copies, because
            the caller may change its own.
        reply: The reply of the call.
        has_ended: Set when the reply has ended.
        is_dropped: Set when the reply is not to be kept, or not any more.
    """

    def __init__(
        self, key: Hashable, inner: Service[Any, Any], request: Any, max_chunks: int
    ) -> None:
        self.request = _copied(request)
        self.reply = Reply(key, max_chunks)
        self.has_ended = Event()
        self.is_dropped = Event()
        self._inner = inner
        self._given: Any = request  # the caller's object, for the inner service
        self._task: int | None = None  # the id of its task, while it runs
        self._stop = Stop()
        self._stoppable = CancelScope()
        self._abortable = CancelScope(shield=True)

    def is_current(self) -> bool:
        """Return True if the current task makes this call; then it must not wait for its end."""
        return self._task == get_current_task().id

    def stop(self) -> None:
        """Stop the call soon (rule 2)."""
        self._stop.is_requested = True
        self._stoppable.cancel()

    def abort(self) -> None:
        """Stop the call soon, and do not wait for its stream to close (rule 3)."""
        self.stop()
        self._abortable.cancel()

    async def run(self) -> None:
        """Make the call, and end its reply. The readers get the error of a call that fails."""
        current_stop.set(self._stop)
        remote_task.set(None)  # the call works for none of its callers
        self._task = get_current_task().id
        try:
            with self._abortable:
                await self._call_and_read()
        except get_cancelled_exc_class() as error:
            if not self._stop.is_requested and not _is_cancelled_natively():
                self.reply.fail(_cancelled_within(error))
        except Exception as error:  # noqa: BLE001 - the readers get it
            self.reply.fail(error)
        finally:
            self._given = self._task = None
            self.reply.end()
            self.has_ended.set()

    async def _call_and_read(self) -> None:
        async with AsyncExitStack() as stream:
            with self._stoppable:
                response = await call_service(self._inner, self._given)
                if not is_stream(response):
                    self.reply.finish(response)
                    return
                await self._read(StreamSource(response), stream)

    async def _read(self, source: StreamSource, stream: AsyncExitStack) -> None:
        """Read *source* to its end; *stream* closes it."""
        self.reply.begin_stream()
        await source.enter()
        stream.push_async_exit(source.leave)
        with suppress(StopAsyncIteration):
            while True:
                self.reply.add(await source.next())
                if self._stop.is_requested:
                    await checkpoint()  # cancelled here: the read did not wait, so it went on
                await cancel_shielded_checkpoint()  # rule 6
        self.reply.finish(None)


def _is_cancelled_natively() -> bool:
    """Return True if asyncio has cancelled the current task; on trio, no error leads here."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _cancelled_within(error: BaseException) -> RuntimeError:
    """Return the failure of a call whose own code has raised the cancellation *error*."""
    failure = RuntimeError("the service was cancelled by its own code, or by that of its client")
    failure.__cause__ = error
    return failure


def _copied(value: Any) -> Any:
    """Return *value* with copies of its lists, tuples and dicts; other objects are shared."""
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    return value
