"""Entering and leaving the layer."""

from __future__ import annotations

import asyncio
import signal
import threading
from subprocess import PIPE

import anyio
import pytest

from helpers.feeds import END, FedModel, asked, generated, read_in, resumable_layer
from helpers.internals import resumable_calls
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.processes import start_python
from helpers.services import Boom
from helpers.streams import read_all
from helpers.waiting import until
from tower_memory import SqliteSessionStore
from tower_memory.resumable import CallStopped

PART = [user("Hi"), assistant(f"a\n\n{INTERRUPTED_REPLY}")]


async def test_leaving_waits_for_the_running_calls(memory, model, store):
    async with anyio.create_task_group() as tasks:
        async with resumable_layer() as layer:
            chunks = read_in(tasks, await layer(memory(model))(asked()))
            model.feed.send("a")
            await until(lambda: chunks == ["a"])

            async def end_later():
                await anyio.wait_all_tasks_blocked()
                model.feed.send(None)

            tasks.start_soon(end_later)
        assert layer.running() == ()
        assert await store.load("s") == [user("Hi"), assistant("a")]
    assert chunks == ["a", END]


async def test_leaving_stops_the_calls_that_do_not_end_and_keeps_their_parts(memory, model, store):
    async with anyio.create_task_group() as tasks:
        async with resumable_layer(exit_seconds=0) as layer:
            stream = await layer(memory(model))(asked())
            chunks = read_in(tasks, stream)
            model.feed.send("a")
            await until(lambda: chunks == ["a"])
        assert await store.load("s") == PART
    assert (chunks, stream.is_stopped) == (["a", END], True)


async def test_a_caller_that_waits_for_an_answer_is_told_that_the_layer_is_left(memory):
    async def sleep_forever(request):
        await anyio.sleep_forever()

    async def call(chat):
        with pytest.raises(CallStopped):
            await chat(asked())

    async with anyio.create_task_group() as tasks, resumable_layer(exit_seconds=0) as layer:
        tasks.start_soon(call, layer(memory(sleep_forever)))
        await until(layer.running)


async def test_an_error_inside_the_context_stays_as_it_is(memory, model, store):
    async def serve():
        async with resumable_layer(exit_seconds=0) as layer:
            stream = await layer(memory(model))(asked())
            model.feed.send("a")
            await anext(stream)
            raise Boom

    with pytest.raises(Boom):
        await serve()
    assert await store.load("s") == PART


async def test_a_cancellation_of_the_context_lets_the_calls_end(memory, model, store):
    streams = []

    async def serve():
        async with resumable_layer() as layer:
            streams.append(await layer(memory(model))(asked()))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await until(lambda: model.feeds)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            model.feed.send(*"abc", None)
            assert await read_all(streams[0]) == [*"abc"]
    assert await store.load("s") == [user("Hi"), assistant("abc")]


async def test_a_cancelled_context_stops_the_calls_that_do_not_end(memory, model, store):
    with anyio.CancelScope() as scope:
        async with resumable_layer(exit_seconds=0) as layer:
            stream = await layer(memory(model))(asked())
            model.feed.send("a")
            await anext(stream)
            scope.cancel()
            await anyio.sleep_forever()
    assert await store.load("s") == PART


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_second_native_cancellation_ends_the_wait(memory, model, store):
    async def serve():
        async with resumable_layer() as layer:
            stream = await layer(memory(model))(asked())
            model.feed.send("a")
            await anext(stream)
            await anyio.sleep_forever()

    before = asyncio.all_tasks()
    task = asyncio.create_task(serve())
    for _ in range(2):
        await anyio.wait_all_tasks_blocked()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.load("s") == PART
    assert asyncio.all_tasks() == before


async def test_an_interrupt_of_the_process_lets_the_calls_end(memory, model, store):
    async def end_later():
        await anyio.wait_all_tasks_blocked()
        model.feed.send(None)

    async def serve(tasks):
        async with resumable_layer() as layer:
            stream = await layer(memory(model))(asked())
            model.feed.send("a")
            await anext(stream)
            tasks.start_soon(end_later)
            raise KeyboardInterrupt

    async with anyio.create_task_group() as tasks:
        with pytest.raises(KeyboardInterrupt):
            await serve(tasks)
    assert await store.load("s") == [user("Hi"), assistant("a")]


async def test_a_stream_that_cannot_be_closed_does_not_hold_up_the_exit(monkeypatch):
    monkeypatch.setattr(resumable_calls, "_CLOSING_SECONDS", 0)

    class Hanging(FedModel):
        async def __call__(self, request):
            feed = await super().__call__(request)
            feed.aclose = anyio.sleep_forever
            return feed

    async with resumable_layer(exit_seconds=0) as layer:
        stream = await layer(Hanging())(asked())
    assert (await read_all(stream), stream.is_stopped) == ([], True)


async def test_a_finished_stream_that_cannot_be_closed_is_not_kept_after_the_exit(monkeypatch):
    """Leaving would otherwise wait for *keep_seconds*."""
    monkeypatch.setattr(resumable_calls, "_CLOSING_SECONDS", 0)
    is_closing = anyio.Event()

    class Hanging(FedModel):
        async def __call__(self, request):
            feed = await super().__call__(request)
            feed.aclose = self.close
            feed.send("a", None)
            return feed

        async def close(self):
            is_closing.set()
            await anyio.sleep_forever()

    with anyio.fail_after(10):
        async with resumable_layer(exit_seconds=0, keep_seconds=1_000_000) as layer:
            stream = await layer(Hanging())(asked())
            await is_closing.wait()
    assert (await read_all(stream), stream.is_stopped) == (["a"], False)


async def test_calls_outside_of_the_context_are_refused(model):
    layer = resumable_layer()
    chat = layer(model)
    with pytest.raises(RuntimeError, match="enter the resumable layer first"):
        await chat(asked())
    async with layer:
        pass
    with pytest.raises(RuntimeError, match="enter the resumable layer first"):
        await chat(asked())
    assert model.requests == []
    assert (layer.running(), await layer.stop("t1")) == ((), False)


async def test_a_layer_that_is_being_left_makes_no_new_call_and_joins_running_ones(model):
    outcomes = []

    async def call_late(layer):
        await anyio.wait_all_tasks_blocked()
        outcomes.append(await layer(model)(asked("t1")))
        with pytest.raises(RuntimeError, match="is being left"):
            await layer(model)(asked("t2"))
        model.feed.send("a", None)

    async with anyio.create_task_group() as tasks:
        async with resumable_layer() as layer:
            await layer(model)(asked("t1"))
            tasks.start_soon(call_late, layer)
        assert await read_all(*outcomes) == ["a"]


async def test_a_layer_can_be_entered_again_but_not_twice_at_once(model):
    layer = resumable_layer(exit_seconds=0)
    for _ in range(2):
        async with layer:
            await layer(model)(asked())
            with pytest.raises(RuntimeError, match="is entered already"):
                await layer.__aenter__()
    assert len(model.requests) == 2


async def test_a_layer_serves_one_event_loop(model, anyio_backend_name):
    errors = []

    async def use(layer):
        for call in (layer(model)(asked()), layer.join("t1"), layer.stop("t1")):
            with pytest.raises(RuntimeError, match="entered in another event loop") as error:
                await call
            errors.append(error)

    async with resumable_layer() as layer:
        thread = threading.Thread(
            target=anyio.run, args=(use, layer), kwargs={"backend": anyio_backend_name}
        )
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
    assert (len(errors), model.requests) == (3, [])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_of_the_layer_that_is_cancelled_natively_stops_its_call(memory, store):
    model = FedModel(generated)
    before = asyncio.all_tasks()
    async with resumable_layer() as layer:
        stream = await layer(memory(model))(asked())
        model.feed.send("a")
        assert await anext(stream) == "a"
        new = asyncio.all_tasks() - before  # with the lease keeper
        (task,) = (each for each in new if "Calls._serve" in each.get_name())
        task.cancel()
        assert await read_all(stream) == []
        assert (stream.is_stopped, layer.running()) == (True, ())
    assert await store.load("s") == PART


SERVE = """
import sys
import anyio
from helpers.feeds import asked, generated, FedModel, resumable_layer
from tower_memory import MemoryLayer, SqliteSessionStore

async def serve(path):
    model = FedModel(generated)
    async with SqliteSessionStore(path) as store, resumable_layer(exit_seconds=0) as layer:
        memory = MemoryLayer.over(store, session_id="s", keep_interrupted=True, journal=True)
        stream = await layer(memory(model))(asked())
        model.feed.send("a")
        print(await anext(stream), flush=True)
        await anyio.sleep_forever()

anyio.run(serve, sys.argv[1], backend=sys.argv[2])
"""


async def test_an_interrupted_process_ends_and_keeps_the_parts_of_its_answers(
    path, anyio_backend_name
):
    with start_python(SERVE, path, anyio_backend_name, stderr=PIPE) as child:
        assert child.stdout.readline() == "a\n"
        child.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in child.communicate()[1]
    async with SqliteSessionStore(path) as store:
        assert (await store.load("s"), await store.pending("s")) == (PART, [])
