"""A layer that runs its service in an asyncio loop, whatever loop it is called from."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from types import SimpleNamespace

import anyio
import pytest

from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveSession
from tower_memory.bridges import AsyncioLayer
from tower_memory.testing import ScriptedService

variable = ContextVar("variable", default=None)


async def loop_and_thread(_request):
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread(), variable.get()


async def test_the_service_runs_in_one_asyncio_loop_with_the_callers_context(anyio_backend):
    variable.set("here")
    async with AsyncioLayer() as bridge:
        service = bridge(loop_and_thread)
        first, second = await service(1), await service(2)
    assert first == second
    assert first[2] == "here"
    assert (first[1] is threading.current_thread()) == (anyio_backend == "asyncio")
    assert repr(service) == "AsyncioLayer() > loop_and_thread"


async def test_what_it_raises_is_raised():
    class Boom(Exception):
        """What the service raises."""

    async with AsyncioLayer() as bridge:
        with pytest.raises(Boom):
            await bridge(ScriptedService(Boom()))(1)


async def test_cancelling_the_call_cancels_what_runs_there():
    cancelled = threading.Event()
    called = threading.Event()

    async def hanging(_request):
        called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with AsyncioLayer() as bridge:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bridge(hanging), 1)
            while not called.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert cancelled.is_set()


async def test_it_may_be_used_again_once_it_is_closed_and_leaves_no_thread():
    before = threading.active_count()
    bridge = AsyncioLayer()
    for _ in range(2):
        assert (await bridge(loop_and_thread)(1))[0] is not None
        await bridge.aclose()
        await bridge.aclose()
        assert threading.active_count() == before


def user(text):
    return {"role": "user", "content": text}


class Stream:
    def __init__(self, chunks, *, entered=None):
        self.left = list(chunks)
        self.response = SimpleNamespace(status=200)
        self.closed = False
        self.manager = entered

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)  # fails but on asyncio
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def close(self):
        await asyncio.sleep(0)
        self.closed = True

    async def rest(self):
        await asyncio.sleep(0)
        return self.left


async def generated():
    for chunk in "ab":
        await asyncio.sleep(0)
        yield chunk


class Manager:
    def __init__(self, stream):
        self.stream = stream
        self.left = False

    async def __aenter__(self):
        await asyncio.sleep(0)
        return self.stream

    async def __aexit__(self, *failure):
        await asyncio.sleep(0)
        self.left = True


@pytest.mark.parametrize(
    "make",
    [lambda: Stream("ab"), generated, lambda: Manager(Stream("ab"))],
    ids=["iterator", "generator", "manager"],
)
async def test_a_stream_is_read_there_and_remembered_here(make):
    store = InMemorySessionStore()
    layer = MemoryLayer(LoadSession(store), SaveSession(store), session_id="s")
    inner = make()
    async with AsyncioLayer() as bridge:
        stream = await layer(bridge(ScriptedService(inner)))([user("a")])
        async with stream:
            assert [chunk async for chunk in stream] == ["a", "b"]
    assert await store.load("s") == [user("a"), {"role": "assistant", "content": "ab"}]
    assert not isinstance(inner, Manager) or inner.left


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_of_a_stream_that_crossed_what_awaits_is_left_behind():
    inner, other, bare = Stream("ab"), Stream("ab"), generated()
    async with AsyncioLayer() as bridge:
        service = bridge(ScriptedService(inner, other, bare))
        stream = await service(1)
        assert stream.response.status == 200
        with pytest.raises(AttributeError, match="rest of .* would run in another event loop"):
            stream.rest  # noqa: B018
        with pytest.raises(AttributeError, match="nothing"):
            stream.nothing  # noqa: B018
        await stream.close()
        async with await service(1) as stream:
            assert await anext(stream) == "a"
        await (await service(1)).aclose()
    assert inner.closed
    assert other.closed
