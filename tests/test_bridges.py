"""The bridge: a layer that runs its service in an asyncio loop, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import threading
from contextvars import ContextVar
from types import SimpleNamespace

import anyio
import pytest

from helpers.internals import BridgedCall
from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.waiting import until
from tower_memory import InMemorySessionStore
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


async def test_an_error_of_the_service_is_raised():
    class Boom(Exception):
        """The error of the service."""

    async with AsyncioLayer() as bridge:
        with pytest.raises(Boom):
            await bridge(ScriptedService(Boom()))(1)


async def test_cancelling_the_call_cancels_the_service():
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


async def test_a_closed_bridge_leaves_no_thread_and_may_be_used_again():
    before = threading.active_count()
    bridge = AsyncioLayer()
    for _ in range(2):
        assert (await bridge(loop_and_thread)(1))[0] is not None
        await bridge.aclose()
        await bridge.aclose()
        assert threading.active_count() == before


class AsyncioStream:
    def __init__(self, chunks, *, entered=None):
        self.left = list(chunks)
        self.response = SimpleNamespace(status=200)
        self.closed = False
        self.manager = entered

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)  # fails outside of asyncio
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


class AsyncioManager:
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
    [lambda: AsyncioStream("ab"), generated, lambda: AsyncioManager(AsyncioStream("ab"))],
    ids=["iterator", "generator", "manager"],
)
async def test_a_stream_is_read_on_the_asyncio_loop_and_saved_on_the_callers_loop(make):
    store = InMemorySessionStore()
    layer = memory_over(store)
    inner = make()
    async with AsyncioLayer() as bridge:
        stream = await layer(bridge(ScriptedService(inner)))([user("a")])
        async with stream:
            assert [chunk async for chunk in stream] == ["a", "b"]
    assert await store.load("s") == [user("a"), assistant("ab")]
    assert not isinstance(inner, AsyncioManager) or inner.left


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_the_async_methods_of_a_bridged_stream_are_refused():
    inner, other, bare = AsyncioStream("ab"), AsyncioStream("ab"), generated()
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


trace = ContextVar("trace", default=None)


async def in_a_context_of_its_own():
    token = trace.set("inside")
    try:
        for chunk in "ab":
            await asyncio.sleep(0)
            assert trace.get() == "inside"
            yield chunk
    finally:
        trace.reset(token)


async def in_a_task_group():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asyncio.sleep, 0)
        for chunk in "ab":
            yield chunk


async def in_a_time_limit():
    with anyio.fail_after(60):
        for chunk in "ab":
            await asyncio.sleep(0)
            yield chunk


@pytest.mark.parametrize("make", [in_a_context_of_its_own, in_a_task_group, in_a_time_limit])
async def test_a_bridged_stream_is_read_by_one_task_from_its_beginning_to_its_end(make):
    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(make()))(1)
        async with contextlib.aclosing(stream):
            assert [chunk async for chunk in stream] == ["a", "b"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancelled_read_is_cancelled_on_the_asyncio_loop_and_the_stream_continues():
    cancelled = threading.Event()
    reading = threading.Event()

    class Slow(AsyncioStream):
        async def __anext__(self):
            if len(self.left) == 2:
                reading.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.set()
                    self.left.pop(0)
                    raise
            return await super().__anext__()

    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(Slow("ab")))(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, stream)
            while not reading.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert cancelled.is_set()
        assert await anext(stream) == "b"


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("fails", ["not", "as it is cancelled", "by cancelling itself"])
async def test_reads_of_a_stream_at_the_same_time_run_one_by_one(fails):
    reading, go_on = threading.Event(), threading.Event()
    loops = []

    class Slow(AsyncioStream):
        async def __anext__(self):
            reading.set()
            loops.append(asyncio.get_running_loop())
            while not go_on.is_set():
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError as error:
                    raise ValueError from error
            if fails == "by cancelling itself":
                raise asyncio.CancelledError
            return await super().__anext__()

    got, ended = [], []

    async def take(scope):
        with scope:
            try:
                got.append(await anext(stream))
            except (RuntimeError, ValueError) as error:
                got.append(type(error))
        ended.append(scope)

    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(Slow("ab")))(1)
        scopes = [anyio.CancelScope() for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, scopes[0])
            await anyio.to_thread.run_sync(reading.wait, 60)
            tasks.start_soon(take, scopes[1])
            tasks.start_soon(take, scopes[2])
            await anyio.wait_all_tasks_blocked()
            cancelled = {"not": scopes[1:2], "as it is cancelled": scopes[1::-1]}.get(fails, [])
            for scope in cancelled:
                scope.cancel()
            while len(ended) < len(cancelled):
                await anyio.lowlevel.checkpoint()
            go_on.set()

    expected = {
        "not": ["a", "b"],
        "as it is cancelled": ["a"],
        "by cancelling itself": [RuntimeError] * 3,
    }
    assert sorted(got, key=str) == expected[fails]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only here the test controls the moment
async def test_a_call_cancelled_as_it_ends_does_not_end_its_stream():
    call = BridgedCall()

    async def model(_request):
        asking.cancel()
        return AsyncioStream("ab")

    asking = asyncio.create_task(call.run(None, model, 1))
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await call.next(None, 1, 0) == "a"
    call.detach()


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("leave", ["dropped", "cancelled as it came"])
async def test_an_abandoned_stream_is_closed_on_the_asyncio_loop(leave):
    closed = threading.Event()

    class Noting(AsyncioStream):
        async def close(self):
            closed.set()

    async def model(_request):
        if leave == "cancelled as it came":
            trio_token.run_sync_soon(scope.cancel)
        return Noting("ab")

    trio_token = anyio.lowlevel.current_token().native_token
    async with AsyncioLayer() as bridge:
        with anyio.CancelScope() as scope:
            stream = await bridge(model)(1)
            del stream
        await anyio.to_thread.run_sync(closed.wait, 60)
        assert closed.is_set()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_leaving_a_bridge_ends_what_runs_in_it():
    async def hanging(_request):
        called.set()
        await asyncio.Event().wait()

    class Hanging(AsyncioStream):
        async def __anext__(self):
            called.set()
            await asyncio.Event().wait()

    called = threading.Event()
    for service in (hanging, ScriptedService(Hanging("a"))):
        called.clear()
        outcomes = []

        async def run(service=service, outcomes=outcomes):
            try:
                await anext(await bridge(service)(1))
            except RuntimeError as error:
                outcomes.append(str(error))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks, AsyncioLayer() as bridge:
                tasks.start_soon(run)
                while not called.is_set():
                    await anyio.lowlevel.checkpoint()

        assert outcomes == ["it was cancelled in its own event loop, such as by closing the bridge"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_stream_that_outlives_its_bridge_raises_when_it_is_read():
    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(AsyncioStream("ab")))(1)
        await stream.aclose()
        await stream.aclose()
        assert await anext(stream) == "a"  # as without the bridge
    with pytest.raises(RuntimeError, match="the bridge was left; read its streams inside"):
        await anext(stream)
    del stream
    gc.collect()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_generators_of_a_bridged_stream_are_refused_on_the_callers_loop():
    class WithTexts(AsyncioStream):
        def __init__(self, chunks):
            super().__init__(chunks)
            self.text_stream = generated()

        async def texts(self):
            yield "a"

        def close(self):
            self.closed = threading.current_thread()

    inner = WithTexts("ab")
    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(inner))(1)
        for name in ("text_stream", "texts"):
            with pytest.raises(AttributeError, match="would run in another event loop"):
                getattr(stream, name)
        await stream.close()

    assert inner.closed is not threading.current_thread()


async def count_tasks(_request):
    return len(asyncio.all_tasks())


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_ended_calls_leave_no_task_behind():
    async with AsyncioLayer() as bridge:
        before = await bridge(count_tasks)(1)
        for reply in ("done", ValueError()):
            for _ in range(10):
                with contextlib.suppress(ValueError):
                    await bridge(ScriptedService(reply))(1)
        assert await bridge(count_tasks)(1) == before


async def test_the_shielded_part_of_a_cancelled_call_runs_to_its_end():
    done = []

    async def model(_request):
        with anyio.CancelScope(shield=True):
            called.set()
            await anyio.to_thread.run_sync(go_on.wait, 60)
            done.append("what is shielded")
        await anyio.sleep_forever()  # until the cancellation arrives from the other event loop
        done.append("what is not")

    called, go_on = threading.Event(), threading.Event()
    async with AsyncioLayer() as bridge, anyio.create_task_group() as tasks:
        tasks.start_soon(bridge(model), 1)
        await until(called.is_set)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
        go_on.set()

    assert done == ["what is shielded"]


async def test_closing_a_stream_continues_after_its_caller_was_cancelled():
    class Slow(AsyncioStream):
        async def aclose(self):
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
                self.closed = True

    inner = Slow("ab")
    async with AsyncioLayer() as bridge:
        with anyio.CancelScope() as scope:
            async with contextlib.aclosing(await bridge(ScriptedService(inner))(1)) as stream:
                await anext(stream)
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        await until(lambda: inner.closed)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancelled_read_does_not_affect_the_next_read():
    reading = threading.Event()

    class Slow(AsyncioStream):
        async def __anext__(self):
            if not reading.is_set():
                reading.set()
                await asyncio.Event().wait()
            return asyncio.current_task().cancelling()

    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(Slow("ab")))(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, stream)
            await until(reading.is_set)
            tasks.cancel_scope.cancel()
        assert await anext(stream) == 0


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_chunk_that_arrived_as_its_reader_was_cancelled_is_read_next():
    class Cancelling(AsyncioStream):
        async def __anext__(self):
            if len(self.left) == 2:
                token.run_sync_soon(tasks.cancel_scope.cancel)
            return await super().__anext__()

    token = anyio.lowlevel.current_token().native_token
    dropped = 0

    async with AsyncioLayer() as bridge:
        while not dropped:  # the chunk does not always arrive late enough
            stream = await bridge(ScriptedService(Cancelling("ab")))(1)
            got = []
            async with anyio.create_task_group() as tasks:
                got.append(await anext(stream))
            dropped += not got
            got += [chunk async for chunk in stream]
            assert got == ["a", "b"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_bridged_stream_can_be_copied():
    async with AsyncioLayer() as bridge:
        stream = await bridge(ScriptedService(AsyncioStream("ab")))(1)
        assert await anext(copy.copy(stream)) == "a"


async def test_a_memory_layer_inside_a_bridge_knows_the_task_that_reads_its_stream():
    store = InMemorySessionStore()
    layer = memory_over(store)

    async with AsyncioLayer() as bridge:
        service = bridge(layer(ScriptedService(AsyncioStream("ab"), "done")))

        async def read_one():
            stream = await service([user("a")])
            await anext(stream)
            left.append(stream)  # keeps the stream from being closed

        left = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_one)

        with anyio.fail_after(60):
            assert await service([user("b")]) == "done"

    assert len(await store.load("s")) == 2
