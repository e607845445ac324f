"""Streams: replies that arrive in chunks.

A service may return a stream instead of a reply: an async iterable of a client's chunks, events or
texts, or an async context manager that returns such an iterable. Each chunk is passed on as it
arrives. At the end of the stream, the turn is saved; only then does the ``async for`` loop end:

>>> import anyio
>>> from collections.abc import AsyncIterator
>>> from typing import Any
>>> from tower_memory import InMemorySessionStore, MemoryLayer
>>> async def tell(messages: list[Any]) -> AsyncIterator[str]:
...     async def words() -> AsyncIterator[str]:
...         for word in ["Once ", "upon ", "a ", "time."]:
...             yield word
...     return words()  # or: await client.chat.completions.create(..., stream=True)
>>> async def main() -> None:
...     store = InMemorySessionStore()
...     memory = MemoryLayer.over(store, session_id="user_123")
...     async with await memory(tell)([{"role": "user", "content": "A story?"}]) as stream:
...         async for word in stream:
...             print(word, end="")
...     print("", (await store.load("user_123"))[-1]["content"], sep="|")
>>> anyio.run(main)
Once upon a time.|Once upon a time.

1. **The stream keeps its type.** The caller gets a proxy with the class, the attributes and the
   methods of the client's stream. Methods that read it, such as
   ``get_final_message()`` or ``text_stream``, are recorded as well. A helper such as
   ``client.messages.stream(...)`` is a context manager: the service returns it without entering it,
   and the reader enters the proxy.
2. **Read a stream in an ``async with``**, so that it is closed even if the loop is left early. On
   trio, some clients leave generators of their own open, and trio then warns.
3. **A stream that fails, is closed or is left before its end saves nothing.** With
   ``MemoryLayer(keep_interrupted=True)`` the received part is saved, marked as interrupted. If a
   stream is garbage-collected without being closed, nothing is saved; with
   ``keep_interrupted=True`` and a received chunk, the logger ``tower_memory`` reports this as a
   warning, which Python prints to stderr unless the program configures logging. If the turn
   replaces another one (``MemoryLayer(replaces=...)``), the received part is saved only if the
   reader closed the stream, or left its ``async with`` without an error. Otherwise the old turn
   stays.

   Cancelling a read is no failure: the stream stays open and may be read again. But most clients
   read with an async generator, which a cancellation finishes; such a stream is interrupted at
   once. If any other stream ends right after a cancelled read, its reply may lack a part, so the
   stream counts as interrupted and the read raises `SessionError`. To wait for a chunk with a time
   limit, leave the read running in a task of its own.
4. **Turns wait for a stream.** With ``overlap="serialize"``, the next turn of the session waits
   until the stream ends, or until no task reads it any more. A task may make the call, hand the
   stream over unread and finish. The next turn then waits for the first reader, at most 30 seconds
   from the reply on. A turn does not wait for a stream whose reader waits for this turn: the reader
   starts the turn inside its loop, or two readers wait for each other. Such a turn does not see the
   streamed reply, and is saved before it.
5. **Outer layers cover a stream until it is handed over.** After that, their timeouts and
   retries no longer apply, and the reader gets the errors.
6. **A save that fails raises in the loop**: after the last chunk, the ``async for`` raises
   `SaveError`, `TurnExists`, `SessionConflict`, `SessionCleared` or `TurnMissing`. The save of an
   interrupted stream raises where the stream is closed or fails.

A reader that may lose its connection and come back needs a `tower_memory.resumable.ResumableLayer`.

A `Stream` describes the proxy for type checkers. If a service returns an
`AsyncIterator`, the service with a `MemoryLayer` around it returns a `Stream`. The type of a
client's own streams stays as it is.
"""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

__all__ = ("Stream",)

Chunk_co = TypeVar("Chunk_co", covariant=True)


class Stream(Protocol[Chunk_co]):
    """An async iterator of chunks that is also an async context manager, which closes it."""

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        ...

    async def __anext__(self) -> Chunk_co:
        """Return the next chunk; raise `StopAsyncIteration` once the turn is saved.

        Raises:
            SessionError: After the last chunk, if the turn was not saved: a `SaveError`, a
                `TurnExists`, a `SessionConflict`, a `SessionCleared` or a `TurnMissing`. Also if
                the stream ended right after a cancelled read, or is read again after it has failed.
            TypeError: The client's stream must be entered first.
        """
        ...

    async def __aenter__(self) -> Self:
        """Enter the client's own context manager, if the stream has one."""
        ...

    async def __aexit__(self, *failure: object) -> bool | None:
        """Leave the client's own context manager, or close the stream."""
        ...

    async def aclose(self) -> None:
        """Close the stream; closing it again does nothing.

        A stream that has not ended is saved only with ``keep_interrupted=True``.
        """
        ...
