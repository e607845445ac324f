"""Streams that stand in for a model's reply."""

from __future__ import annotations

import types

import anyio
import pytest

from helpers.services import Boom
from helpers.waiting import until


class TextStream:
    """A stream of the characters of a text, which may fail or hang at its end."""

    def __init__(self, text, at_the_end=None):
        self.left = list(text)
        self.at_the_end = at_the_end

    def __aiter__(self):
        return self

    async def __anext__(self):
        await anyio.lowlevel.checkpoint()
        if self.left:
            return self.left.pop(0)
        if self.at_the_end is not None:
            await self.at_the_end()
        raise StopAsyncIteration


async def raise_boom():
    """Fail as a stream does."""
    raise Boom


async def fail_to_save(_turn):
    """Fail as a service that saves does."""
    msg = "disk full"
    raise OSError(msg)


async def stream_last(messages):
    """Reply with a stream of the last message."""
    return TextStream(f"re: {messages[-1]['content']}")


async def cancel_while_it_waits(stream, is_reading):
    """Cancel a read of *stream* once *is_reading()* is true."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
        await until(is_reading)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()


async def read_all(stream):
    """Return the chunks of *stream* up to its end."""
    return [chunk async for chunk in stream]


async def read_until_it_fails(stream):
    """Read *stream*, which has to fail."""
    with pytest.raises(Boom):
        await read_all(stream)


async def other_chunks():
    """Yield what is not a chunk of the reply."""
    yield "something else"


class ClientStream:
    """A stream like those of client libraries.

    It is an iterator and a context manager, and has methods and attributes.
    """

    def __init__(self, chunks):
        self.left = list(chunks)
        self.entered = self.closed = 0
        self.text_stream = self._texts()
        self.response = types.SimpleNamespace(status=200)
        self.others = other_chunks()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await anyio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def __aenter__(self):
        self.entered += 1
        return self

    async def __aexit__(self, *failure):
        await self.close()
        return failure[0] is KeyError

    async def close(self):
        self.closed += 1

    async def _texts(self):
        async for chunk in self:
            yield chunk.upper()

    async def rest(self):
        return [chunk async for chunk in self]

    @property
    def count(self):
        return len(self.left)


class StreamManager:
    """A context manager that gives a stream, or raises the exception given instead."""

    def __init__(self, stream):
        self.stream = stream
        self.left = []

    async def __aenter__(self):
        await anyio.lowlevel.checkpoint()
        if isinstance(self.stream, Exception):
            raise self.stream
        return self.stream

    async def __aexit__(self, *failure):
        self.left.append(failure[0])


async def read_if_streamed(response):
    """Read *response* to its end if it is a stream, and return it."""
    if not hasattr(response, "__aenter__"):
        return response
    async with response as stream:
        async for _ in stream:
            pass
    return stream
