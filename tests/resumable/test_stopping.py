"""Stopping a call for all its readers."""

from __future__ import annotations

import anyio
import pytest

from helpers.feeds import END, FedModel, Feed, asked, generated, read_in, turn_id_of
from helpers.journals import states
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.services import Boom
from helpers.streams import StreamManager, read_all
from helpers.waiting import until
from tower_memory import MemoryLayer, Turn
from tower_memory.resumable import CallStopped, ReplyMissing

STOPPED = [user("Hi"), assistant(f"ab\n\n{INTERRUPTED_REPLY}")]


OLD = [user("old"), assistant("old")]


@pytest.fixture
async def replacing(layer, model, store):
    """Return a service whose turns replace a stored turn."""
    await store.append(Turn("s", OLD, turn_id="old"))
    memory = MemoryLayer.over(
        store,
        session_id="s",
        turn_id=turn_id_of,
        replaces=lambda request: "old",
        keep_interrupted=True,
    )
    return layer(memory(model))


async def test_a_stop_ends_the_streams_of_all_readers_and_keeps_the_part(chat, model, store, layer):
    async with anyio.create_task_group() as tasks:
        streams = [await chat(asked()) for _ in range(3)]
        readers = [read_in(tasks, stream) for stream in streams]
        model.feed.send("a", "b")
        await until(lambda: readers == [["a", "b"]] * 3)
        assert not any(stream.is_stopped for stream in streams)

        assert await layer.stop("t1") is True
        assert (await store.load("s"), await states(store)) == (STOPPED, [])
    assert readers == [["a", "b", END]] * 3
    assert all(stream.is_stopped for stream in streams)
    assert layer.running() == ()


async def test_a_stopped_reply_is_not_kept(chat, model, layer):
    await chat(asked())
    await layer.stop("t1")
    with pytest.raises(ReplyMissing):
        await layer.join("t1")


async def test_a_stop_counts_as_closing_the_stream_so_the_part_replaces_the_old_turn(
    replacing, layer, model, store
):
    stream = await replacing(asked())
    model.feed.send("a", "b")
    assert [await anext(stream), await anext(stream)] == ["a", "b"]
    await layer.stop("t1")
    assert await store.load("s") == STOPPED


async def test_a_stream_that_fails_does_not_replace_the_old_turn(replacing, model, store):
    stream = await replacing(asked())
    model.feed.send("a", Boom())
    with pytest.raises(Boom):
        await read_all(stream)
    assert await store.load("s") == OLD


async def test_a_stop_passes_through_a_stream_around_the_recorded_stream(layer, memory, store):
    model = FedModel(generated)

    def shouting(inner):
        async def shout(request):
            stream = await inner(request)

            async def upper():
                async for chunk in stream:
                    yield chunk.upper()

            return upper()

        return shout

    stream = await layer(shouting(memory(model)))(asked())
    model.feed.send("a", "b")
    assert [await anext(stream), await anext(stream)] == ["A", "B"]
    await layer.stop("t1")
    assert (await store.load("s"), stream.is_stopped) == (STOPPED, True)


async def test_a_stop_closes_a_stream_that_is_no_generator(layer):
    model = FedModel()
    stream = await layer(model)(asked())
    await layer.stop("t1")
    assert (model.feed.closed, await read_all(stream)) == (1, [])


async def test_a_stop_leaves_the_context_manager_of_a_stream(layer):
    async def ask(request):
        return manager

    feed = Feed()
    manager = StreamManager(feed)
    stream = await layer(ask)(asked())
    feed.send("a")
    await anext(stream)
    await layer.stop("t1")
    assert manager.left == [None]


async def test_a_stop_before_the_answer_raises_for_all_callers(layer, memory, store):
    outcomes = []
    chat = layer(memory(sleep_forever))

    async def call():
        with pytest.raises(CallStopped, match="'t1' was stopped before") as stopped:
            await chat(asked())
        outcomes.append(stopped.value.key)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(call)
        await until(layer.running)
        await anyio.wait_all_tasks_blocked()
        assert await layer.stop("t1") is True
    assert outcomes == ["t1", "t1"]
    assert (await store.load("s"), await states(store)) == ([], [("t1", "failed")])


async def sleep_forever(request):
    await anyio.sleep_forever()


async def test_a_stop_that_comes_during_the_save_waits_for_it(layer, store, model):
    is_saving, go_on = anyio.Event(), anyio.Event()

    async def save(turn):
        is_saving.set()
        await go_on.wait()
        return await store.append(turn)

    memory = MemoryLayer(store.load, save, session_id="s", overlap="append")
    stream = await layer(memory(model))(asked())
    model.feed.send("a", None)
    await is_saving.wait()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(layer.stop, "t1")
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert await read_all(stream) == ["a"]
    assert await store.load("s") == [user("Hi"), assistant("a")]
    with pytest.raises(ReplyMissing):  # the stop drops it, even so
        await layer.join("t1")


async def test_an_error_of_closing_a_stopped_stream_reaches_its_readers(layer):
    class Unclosable(FedModel):
        async def __call__(self, request):
            await super().__call__(request)
            self.feed.aclose = self.fail
            return self.feed

        async def fail(self):
            raise Boom

    stream = await layer(Unclosable())(asked())
    await layer.stop("t1")
    with pytest.raises(Boom):
        await anext(stream)


async def test_a_stop_of_a_finished_or_unknown_call_returns_false(chat, model, layer):
    stream = await chat(asked())
    model.feed.send("a", None)
    await read_all(stream)
    assert await layer.stop("t1") is False
    with pytest.raises(ReplyMissing):
        await layer.join("t1")
    assert await layer.stop("t1") is False


async def test_a_stop_whose_caller_is_cancelled_stops_the_call_nevertheless(
    chat, model, layer, store
):
    stream = await chat(asked())
    model.feed.send("a", "b")
    assert [await anext(stream), await anext(stream)] == ["a", "b"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(layer.stop, "t1")
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert await read_all(stream) == []
    assert await store.load("s") == STOPPED


@pytest.mark.parametrize("is_closing", [False, True], ids=["read", "closed"])
async def test_a_call_that_stops_itself_does_not_wait_for_itself(layer, is_closing):
    async def ask(request):
        async def chunks():
            try:
                yield "a"
                if not is_closing:
                    await layer.stop("t1")
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    stopped.append(await layer.stop("t1"))

        return chunks()

    stopped = []
    with anyio.fail_after(10):
        stream = await layer(ask)(asked())
        assert await anext(stream) == "a"
        await layer.stop("t1")
    assert (await read_all(stream), stopped, layer.running()) == ([], [True], ())


async def test_a_stream_that_never_waits_can_be_stopped(layer):
    async def ask(request):
        async def chunks():
            while True:
                yield "a"

        return chunks()

    stream = await layer(ask)(asked())
    assert await anext(stream) == "a"
    assert await layer.stop("t1")
    await read_all(stream)
    assert stream.is_stopped
