"""The limits of a layer: chunks, seconds and calls."""

from __future__ import annotations

import math
import weakref

import anyio
import pytest

from helpers.feeds import END, FedModel, asked, read_in, resumable_layer, turn_id_of
from helpers.streams import read_all
from helpers.waiting import until
from tower_memory import MemoryLayer
from tower_memory.resumable import ReplyMissing, ResumableLayer, TooManyCalls


async def async_key(request):
    """Return a key too late: each coroutine would be a key of its own."""
    return "t1"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"key": "t1"}, TypeError, "key must be a plain function of the request, got str"),
        ({"key": async_key}, TypeError, "key must be a plain function of the request, got <func"),
        ({"keep_seconds": -1}, ValueError, "keep_seconds must be 0 or more seconds, got -1"),
        ({"keep_seconds": "1"}, TypeError, "keep_seconds must be a number of seconds"),
        ({"max_chunks": 0}, ValueError, "max_chunks must be 1 or more, got 0"),
        ({"max_calls": 0}, ValueError, "max_calls must be 1 or more, got 0"),
        ({"exit_seconds": -1}, ValueError, "exit_seconds must be 0 or more seconds, got -1"),
    ],
)
def test_a_wrong_parameter_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        ResumableLayer(**{"key": lambda request: "t1", **wrong})


@pytest.mark.parametrize("key", [None, [], {"id": "a secret"}, ("a secret", [])], ids=repr)
async def test_a_key_that_cannot_name_a_call_is_refused(key):
    model = FedModel()
    async with ResumableLayer(key=lambda request: key) as layer:
        with pytest.raises(TypeError, match="the result of key.request. must be") as refused:
            await layer(model)(asked())
    assert "secret" not in str(refused.value)
    assert model.requests == []


async def test_a_key_may_be_any_hashable_value():
    model = FedModel()
    async with ResumableLayer(key=lambda request: ("ada", request["id"])) as layer:
        await layer(model)(asked())
        assert layer.running() == (("ada", "t1"),)
        await layer.stop(("ada", "t1"))


def test_an_object_that_is_no_service_is_refused():
    with pytest.raises(TypeError, match="service must be callable"):
        resumable_layer()(1)


async def test_a_service_that_is_not_async_keeps_its_reply_in_the_error():
    async with resumable_layer() as layer:
        with pytest.raises(TypeError, match="must be async") as raised:
            await layer(lambda request: "paid")(asked())
    assert raised.value.response == "paid"


async def test_a_reply_with_more_chunks_than_the_limit_goes_on_for_its_readers_only():
    model = FedModel()
    async with resumable_layer(max_chunks=3, exit_seconds=0) as layer:
        stream, slow = [await layer(model)(asked()) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            chunks = read_in(tasks, stream)
            for number, chunk in enumerate("abcd"):
                model.feed.send(chunk)
                await until(lambda read=number + 1: len(chunks) == read)
            with pytest.raises(ReplyMissing, match="is 3 chunks ahead of this reader"):
                await anext(slow)
            for join in (layer.join("t1"), layer(model)(asked())):
                with pytest.raises(ReplyMissing, match="more than 3 chunks.*first ones are drop"):
                    await join
            model.feed.send("e", None)
        assert chunks == [*"abcde", END]
        with pytest.raises(ReplyMissing):
            await layer.join("t1")


async def test_a_stream_that_never_waits_does_not_run_ahead_of_its_readers():
    async def ask(request):
        async def chunks():
            for number in range(100):
                yield number

        return chunks()

    async with resumable_layer(max_chunks=10) as layer:
        assert await read_all(await layer(ask)(asked())) == list(range(100))


async def test_a_reply_with_as_many_chunks_as_the_limit_is_whole():
    model = FedModel()
    async with resumable_layer(max_chunks=3) as layer:
        stream = await layer(model)(asked())
        model.feed.send(*"abc", None)
        assert await read_all(stream) == [*"abc"]
        assert await read_all(await layer.join("t1")) == [*"abc"]


async def until_dropped(layer):
    """Wait until the finished reply of the layer is not kept any more."""

    async def join():
        while True:
            await layer.join("t1")
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60), pytest.raises(ReplyMissing):
        await join()


async def test_a_finished_reply_is_dropped_after_its_seconds():
    model = FedModel()
    async with resumable_layer(keep_seconds=0) as layer:
        stream = await layer(model)(asked())
        model.feed.send("a", None)
        assert await read_all(stream) == ["a"]
        await until_dropped(layer)
        again = await layer(model)(asked())
        model.feeds[1].send("b", None)
        assert await read_all(again) == ["b"]


async def test_a_slow_reader_reads_a_dropped_reply_to_its_end():
    model = FedModel()
    async with resumable_layer(keep_seconds=0) as layer:
        stream, slow = [await layer(model)(asked()) for _ in range(2)]
        model.feed.send(*"abc", None)
        await read_all(stream)
        await until_dropped(layer)
        assert await read_all(slow) == [*"abc"]


async def test_a_call_above_the_limit_is_refused_and_joining_is_not():
    model = FedModel()
    async with resumable_layer(max_calls=2, exit_seconds=0) as layer:
        chat = layer(model)
        for turn_id in "12":
            await chat(asked(turn_id))
        with pytest.raises(TooManyCalls, match="2 calls are running, which is max_calls") as error:
            await chat(asked("3"))
        assert (error.value.max_calls, len(model.requests)) == (2, 2)
        await chat(asked("1"))
        await layer.stop("1")
        await chat(asked("3"))
        assert layer.running() == ("2", "3")


async def test_at_most_as_many_finished_replies_are_kept_as_calls_may_run():
    model = FedModel()
    async with resumable_layer(max_calls=2, keep_seconds=math.inf) as layer:
        for position, turn_id in enumerate("123"):
            stream = await layer(model)(asked(turn_id))
            model.feeds[position].send(None)
            await read_all(stream)
        with pytest.raises(ReplyMissing):
            await layer.join("1")
        for turn_id in "23":
            assert await read_all(await layer.join(turn_id)) == []


class Chunk:
    """A chunk that can be counted."""


async def test_no_chunk_and_no_reply_remains_in_memory_after_the_limits():
    model, chunks = FedModel(), []
    async with resumable_layer(max_chunks=10, keep_seconds=0) as layer:
        stream = await layer(model)(asked())
        for _ in range(100):
            chunk = Chunk()
            chunks.append(weakref.ref(chunk))
            model.feed.send(chunk)
            del chunk
        await anyio.wait_all_tasks_blocked()
        alive = [ref for ref in chunks if ref() is not None]
        assert alive == chunks[-10:]
        model.feed.send(None)
        del stream
        await until(lambda: not any(ref() for ref in chunks))


async def test_a_thousand_readers_of_one_reply_all_read_the_whole_reply():
    model = FedModel()
    async with resumable_layer() as layer, anyio.create_task_group() as tasks:
        readers = [read_in(tasks, await layer(model)(asked())) for _ in range(1000)]
        for chunk in "abcde":
            await anyio.wait_all_tasks_blocked()
            model.feed.send(chunk)
        model.feed.send(None)
    assert readers == [[*"abcde", END]] * 1000
    assert len(model.requests) == 1


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.long)])
async def test_many_simultaneous_replies_are_all_read_and_saved(store, count):
    model = FedModel()
    memory = MemoryLayer.over(store, session_id=turn_id_of, turn_id=turn_id_of, journal=True)
    async with resumable_layer() as layer, anyio.create_task_group() as tasks:
        chat = layer(memory(model))
        readers = [read_in(tasks, await chat(asked(str(n)))) for n in range(count)]
        assert len(layer.running()) == count
        for chunk in [*"abc", None]:
            for feed in model.feeds:
                feed.send(chunk)
            await anyio.wait_all_tasks_blocked()
        assert layer.running() == ()
    assert readers == [[*"abc", END]] * count
    assert {len(await store.load(str(n))) for n in range(count)} == {2}
