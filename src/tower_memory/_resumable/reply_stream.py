"""The readers of a resumable call."""

from __future__ import annotations

from typing import Any, Generic, Self, TypeVar, final

from anyio.lowlevel import checkpoint

from tower_memory._resumable.reply import Reply

Chunk = TypeVar("Chunk")


@final
class ReplyStream(Generic[Chunk]):
    """The chunks of a resumable call, from the first, for one reader.

    It is an async iterator and an async context manager. Leaving or closing it ends only this
    reader, never the call. All readers get the same chunk objects: do not change them.

    The iteration ends after the turn is saved, or after the call was stopped (`is_stopped`). If the
    call fails, each reader first gets the chunks that arrived, and then the error of the call. A
    cancelled read loses no chunk.
    """

    __slots__ = ("_is_closed", "_position", "_reply")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._position = 0
        self._is_closed = False

    @property
    def is_stopped(self) -> bool:
        """Whether the call was stopped, so that its chunks may be only the start of a reply.

        It is False while the call runs, and if the call has finished or failed.
        """
        return self._reply.is_stopped

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """Return the next chunk.

        Raises:
            StopAsyncIteration: The turn is saved, the call was stopped, or this reader is closed.
            ReplyMissing: This reader has fallen behind by more chunks than the layer keeps.
            Exception: The error of the call.
        """
        if self._reply.has_chunk(self._position):
            await checkpoint()  # a reader that catches up lets other tasks run
        while not self._is_closed and not self._reply.has_chunk(self._position):
            await self._reply.wait_for_change()

        if self._is_closed:
            raise StopAsyncIteration

        chunk: Chunk = self._reply.chunk(self._position)
        self._position += 1
        return chunk

    async def aclose(self) -> None:
        """End this reader. The call goes on. A second call does nothing."""
        self._is_closed = True
        self._reply.wake_readers()  # another task may wait in a read of this reader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<ReplyStream of {self._reply.key!r} at chunk {self._position}>"


async def join_reply(reply: Reply) -> Any:
    """Wait for the response of the inner service; return it, or a new reader if it is a stream.

    Raises:
        ReplyMissing: The first chunks are not kept any more.
        CallStopped: The call was stopped before the inner service had returned.
        Exception: The inner service has raised.
    """
    response = await reply.response()
    if not reply.is_stream:
        return response

    reply.check_joinable()
    return ReplyStream[Any](reply)
