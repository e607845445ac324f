"""A model whose streams a test feeds chunk by chunk."""

from __future__ import annotations

import anyio

from tower_memory.resumable import ResumableLayer


class Feed:
    """A stream of the chunks that a test sends.

    Attributes:
    closed: How often it was closed.
    """

    def __init__(self):
        self.closed = 0
        self._queue = []
        self._changed = anyio.Event()

    def send(self, *chunks):
        """Send chunks; an error is raised in their place, and None ends the stream."""
        self._queue += chunks
        self._changed.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self._queue:
            self._changed = anyio.Event()
            await self._changed.wait()
        chunk = self._queue.pop(0)
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self):
        self.closed += 1


async def generated(feed):
    """Read *feed* with a generator, as most clients read the network. A cancelled read ends it."""
    async for chunk in feed:
        yield chunk


class FedModel:
    """A model that answers each request with a stream that the test feeds.

    Attributes:
    requests: The requests of the calls, in order.
    feeds: The stream of each call.
    """

    def __init__(self, wrap=None):
        self.requests = []
        self.feeds = []
        self._wrap = wrap

    async def __call__(self, request):
        self.requests.append(request)
        self.feeds.append(Feed())
        return self._wrap(self.feeds[-1]) if self._wrap else self.feeds[-1]

    @property
    def feed(self):
        """The stream of the only call."""
        (feed,) = self.feeds
        return feed


def asked(turn_id="t1", text="Hi"):
    """Return the request of a turn."""
    return {"id": turn_id, "messages": [{"role": "user", "content": text}]}


def turn_id_of(request):
    """Return the id of the turn of a request."""
    return request["id"]


def resumable_layer(**limits):
    """Return a layer whose keys are the ids of turns."""
    return ResumableLayer(key=turn_id_of, **limits)


def read_in(task_group, stream):
    """Read *stream* in a task of *task_group*; return the list of its chunks, which grows."""
    chunks = []

    async def read():
        async for chunk in stream:
            chunks.append(chunk)  # noqa: PERF401 - the test sees it grow
        chunks.append(END)

    task_group.start_soon(read)
    return chunks


END = "the end of the stream"
