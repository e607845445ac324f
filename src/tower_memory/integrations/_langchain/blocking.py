"""Calls with memory from code without an event loop.

1. The memory layer runs in the event loop of a `ThreadedStore`. The inner runnable runs in the
   thread of the caller, as LangChain's ``invoke`` and ``stream`` do. A program may depend on that
   thread: Streamlit's callbacks do, and connections of Django and sqlite3.
2. A call has two steps in the event loop. The first runs the memory layer up to its inner service,
   which hands the hydrated request to the caller's thread and waits. The second gives the reply to
   that service, and waits for the save.
3. The inner runnable counts as part of its turn, so a call for the same session inside it raises
   an error. Without that, both would wait forever.
4. A stream is read in the caller's thread, and its chunks are recorded there. At its end, the
   memory layer reads the recorded chunks, and saves the turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, copy_context
from typing import Any, Final, Self, TypeAlias, final

from tower_memory._arguments import shown
from tower_memory._memory.reentrancy import join_turns
from tower_memory._service import Service, attribute
from tower_memory.bridges import ThreadedStore
from tower_memory.integrations._langchain.dialect import Invocation

AddMemory: TypeAlias = Callable[[Service[Invocation, Any]], Service[Invocation, Any]]
"""A memory layer, which adds memory to a service."""

_END: Final = object()


def threaded_store(store: object, method: str, remedy: str) -> ThreadedStore[Any]:
    """Return *store* or the store that it wraps, if that is a `ThreadedStore`.

    Raises:
        TypeError: Neither is one. The error names *method*, which blocks, and *remedy*, an async
            call.
    """
    found: object | None = store
    while found is not None and not isinstance(found, ThreadedStore):
        found = attribute(found, "store")
    if found is None:
        msg = (
            f"{method} blocks, so it needs a store for code without an event loop, got "
            f"{shown(store)}; pass tower_memory.bridges.ThreadedStore(store), or await {remedy}"
        )
        raise TypeError(msg)
    return found


@final
class BlockingCall:
    """A call of a service with memory, whose inner service is the code inside the ``with`` block.

    Args:
        store: The store whose event loop runs the memory layer.
        add_memory: The memory layer.
        request: The caller's request.

    Attributes:
        request: The hydrated request; inside the block.
    """

    request: Invocation

    def __init__(
        self,
        store: ThreadedStore[Any],
        add_memory: AddMemory,
        request: Invocation,
    ) -> None:
        self._run_in_loop = store.run
        self._service = add_memory(self._ask)
        self._given = request

    def __enter__(self) -> Self:
        self.request, turns = self._run_in_loop(self._begin)
        self._context = copy_context()
        self._context.run(join_turns, turns)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._run_in_loop(self._fail, error)

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run *function* in this thread, as a part of the turn, and return its result."""
        return self._context.run(function, *args, **kwargs)

    def end(self, response: Any) -> Any:
        """Give *response* to the memory layer, and return the layer's own response."""
        return self._run_in_loop(self._end, response)

    async def _begin(self) -> tuple[Invocation, Context]:
        loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[tuple[Invocation, Context]] = loop.create_future()
        self._reply: asyncio.Future[Any] = loop.create_future()
        self._task = loop.create_task(_call(self._service, self._given))

        try:
            await asyncio.wait((self._asked, self._task), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        return self._asked.result() if self._asked.done() else self._task.result()

    async def _ask(self, request: Invocation) -> Any:
        """Wait for the reply of the caller's thread. This is the inner service of the layer."""
        self._asked.set_result((request, copy_context()))
        return await self._reply

    async def _end(self, response: Any) -> Any:
        self._reply.set_result(response)
        return await self._task

    async def _fail(self, error: BaseException) -> None:
        """End the turn of an inner service that has raised *error*."""
        if self._reply.done():  # the layer has raised the error itself
            return
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            self._reply.set_exception(error)
        else:
            self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.exception()  # it is *error*, which the caller raises


async def _call(service: Service[Invocation, Any], request: Invocation) -> Any:
    return await service(request)


def stream_blocking(
    store: ThreadedStore[Any],
    add_memory: AddMemory,
    request: Invocation,
    inner: Callable[[Invocation], Iterator[Any]],
) -> Iterator[Any]:
    """Yield the chunks of *inner*, and save the turn at the end (rule 4).

    The memory layer treats the stream as any other, whether it ends, fails, or is closed by its
    reader.
    """
    recorded = _Recording()
    with BlockingCall(store, add_memory, request) as call:
        chunks = call.run(inner, call.request)
        stream = call.end(recorded.stream())

    try:
        while (chunk := call.run(next, chunks, _END)) is not _END:
            recorded.chunks.append(chunk)
            yield chunk
    except Exception as error:  # noqa: BLE001 - the layer gets it, and raises it below
        recorded.error = error
    except BaseException:  # the reader has closed the stream, or interrupts the program
        close = getattr(chunks, "close", None)
        if close is not None:
            call.run(close)
        store.run(_close, stream, len(recorded.chunks))
        raise
    store.run(_read, stream)


@final
class _Recording:
    """A stream that the caller's thread has read.

    Attributes:
        chunks: The chunks that the layer has not read yet.
        error: The error that the inner stream has raised after them, or None.
    """

    def __init__(self) -> None:
        self.chunks: deque[Any] = deque()
        self.error: Exception | None = None

    async def stream(self) -> AsyncIterator[Any]:
        """Yield the chunks, and raise the error."""
        while self.chunks:
            yield self.chunks.popleft()
        if self.error is not None:
            raise self.error


async def _read(stream: Any) -> None:
    """Read *stream*, the proxy of a recorded stream, to its end, which saves the turn."""
    async with stream:
        async for _ in stream:
            pass


async def _close(stream: Any, chunks: int) -> None:
    """Read the *chunks* of *stream*, the proxy of a recorded stream, and close it."""
    async with stream:
        for _ in range(chunks):
            await anext(stream)
