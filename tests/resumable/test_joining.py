"""Callers that leave, and callers that join a call by its key."""

from __future__ import annotations

import asyncio
import gc
import logging

import anyio
import pytest

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.feeds import END, FedModel, asked, read_in, resumable_layer
from helpers.journals import states
from helpers.messages import assistant, user
from helpers.services import BlockingModel, Boom, must_not_be_called
from helpers.streams import ClientStream, StreamManager, fail_to_save, read_all
from helpers.waiting import until
from tower_memory import (
    LoadSession,
    MemoryLayer,
    SaveError,
    SessionConflict,
    SessionError,
    TurnExists,
)
from tower_memory.resumable import ReplyMissing, ReplyStream, ResumableLayer

SAVED = [user("Hi"), assistant("abc")]


async def test_a_call_goes_on_without_its_reader_and_is_joined_from_its_first_chunk(
    chat, model, store
):
    async with await chat(asked()) as stream:
        model.feed.send("a")
        assert await anext(stream) == "a"

    async with anyio.create_task_group() as tasks:
        joined = read_in(tasks, await chat(asked()))
        await until(lambda: joined == ["a"])
        model.feed.send("b", "c", None)
    assert joined == ["a", "b", "c", END]
    assert (await store.load("s"), await states(store)) == (SAVED, [])
    assert len(model.requests) == 1


async def test_a_finished_reply_is_joined_without_a_call_of_the_model(chat, model, store, layer):
    stream = await chat(asked())
    model.feed.send(*"abc", None)
    assert await read_all(stream) == [*"abc"]
    assert layer.running() == ()
    assert await read_all(await chat(asked())) == [*"abc"]
    assert await read_all(await layer.join("t1")) == [*"abc"]
    assert len(model.requests) == 1


async def test_the_turn_is_saved_before_a_reader_sees_the_end(chat, model, store):
    stream = await chat(asked())
    model.feed.send(*"abc", None)
    async for _ in stream:
        pass
    assert await store.load("s") == SAVED


async def test_each_reader_reads_at_its_own_pace(chat, model):
    slow = await chat(asked())
    model.feed.send(*"abc", None)
    assert await read_all(await chat(asked())) == [*"abc"]
    assert await read_all(slow) == [*"abc"]


async def test_all_readers_get_the_same_chunk_objects(layer):
    model = FedModel()
    chat = layer(model)
    one, two = await chat(asked()), await chat(asked())
    model.feed.send(chunk := object())
    assert await anext(one) is await anext(two) is chunk


async def test_a_cancelled_caller_does_not_stop_its_call(layer, memory):
    model = BlockingModel()

    async def ask(request):
        return await model(request["messages"])

    chat = layer(memory(ask))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(chat, asked())
        await until(lambda: model.called)
        tasks.cancel_scope.cancel()
    assert layer.running() == ("t1",)
    model.go_on.set()
    assert await chat(asked()) == "re: Hi"
    assert model.called == ["Hi"]


async def test_equal_requests_at_the_same_time_call_the_model_once_and_share_its_answer(layer):
    answers, go_on, calls = [], anyio.Event(), []

    async def ask(request):
        calls.append(request)
        await go_on.wait()
        return {"answer": len(calls)}

    chat = layer(ask)

    async def call():
        answers.append(await chat(asked()))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(call)
        await until(lambda: calls)
        go_on.set()
    assert calls == [asked()]
    assert [answer is answers[0] for answer in answers] == [True] * 5


async def test_the_service_of_a_caller_that_joins_is_not_called(layer, memory, model):
    await layer(memory(model))(asked())
    assert isinstance(await layer(memory(must_not_be_called))(asked()), ReplyStream)


async def test_another_request_with_the_same_key_is_refused(chat, model, store):
    stream = await chat(asked(text="Hi"))
    with pytest.raises(SessionConflict, match="'t1' was made with another request") as refused:
        await chat(asked(text="Ho"))
    assert refused.value.session_id is None

    model.feed.send(*"abc", None)
    await read_all(stream)
    with pytest.raises(SessionConflict):  # while the reply is kept, too
        await chat(asked(text="Ho"))
    assert len(model.requests) == 1


async def test_a_caller_may_change_its_request_after_the_call(chat, model):
    request = asked()
    await chat(request)
    request["messages"].append(user("more"))
    request["messages"][0]["content"] = "changed"
    assert isinstance(await chat(asked()), ReplyStream)
    with pytest.raises(SessionConflict):
        await chat(request)


async def test_a_request_of_any_type_is_compared_by_equality():
    async def ask(request):
        return request

    async with ResumableLayer(key=lambda request: 1) as layer:
        chat = layer(ask)
        assert await chat((1, ["a"])) == (1, ["a"])
        assert await chat((1, ["a"])) == (1, ["a"])
        with pytest.raises(SessionConflict):
            await chat([1, ["a"]])


async def test_a_failure_reaches_all_readers_after_the_chunks_that_arrived(
    chat, model, layer, store
):
    streams = [await chat(asked()) for _ in range(3)]
    model.feed.send("a", Boom("lost"))
    for stream in streams:
        assert await anext(stream) == "a"
        for _ in range(2):
            with pytest.raises(Boom, match="lost"):
                await anext(stream)
    assert not any(stream.is_stopped for stream in streams)
    assert layer.running() == ()
    assert (await store.load("s"))[0] == user("Hi")  # keep_interrupted


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("chunks", [[], ["a"]], ids=["answer", "stream"])
async def test_a_cancellation_by_the_client_itself_is_a_failure(layer, memory, chunks):
    """It must not look like the end of a reply that was stopped."""

    async def ask(request):
        async def cut():
            for chunk in chunks:
                yield chunk
            raise asyncio.CancelledError

        return cut() if chunks else await anext(cut())

    async def read():
        async for chunk in await layer(memory(ask))(asked()):
            received.append(chunk)  # noqa: PERF401 - the stream fails

    received = []
    with pytest.raises(RuntimeError, match="the service was cancelled by its own code"):
        await read()
    assert (received, layer.running()) == (chunks, ())


async def test_a_failure_before_the_answer_reaches_all_callers_and_is_not_kept(layer):
    calls, outcomes, go_on = [], [], anyio.Event()

    async def ask(request):
        calls.append(request)
        await go_on.wait()
        raise Boom

    chat = layer(ask)

    async def call():
        with pytest.raises(Boom):
            await chat(asked())
        outcomes.append("failed")

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call)
        await until(lambda: calls)
        go_on.set()
    assert (outcomes, len(calls)) == (["failed"] * 3, 1)
    with pytest.raises(Boom):
        await chat(asked())
    assert len(calls) == 2


async def test_the_traceback_of_a_failure_does_not_grow_with_its_readers(chat, model):
    streams = [await chat(asked()) for _ in range(20)]
    model.feed.send(Boom())
    lengths = set()
    for stream in streams:
        with pytest.raises(Boom) as raised:
            await anext(stream)
        lengths.add(len(raised.traceback))
    assert len(lengths) == 1


async def test_a_failure_of_generated_code_reaches_its_caller(layer):
    """Code that `exec` runs has no module, and so no package."""
    made = {}
    exec("async def fail(request):\n    raise ValueError('no module')", made)
    with pytest.raises(ValueError, match="no module"):
        await layer(made["fail"])(asked())


async def test_a_save_that_fails_reaches_the_readers_with_the_reply(layer, store, model):
    memory = MemoryLayer(LoadSession(store), fail_to_save, session_id="s", overlap="append")
    chat = layer(memory(model))
    streams = [await chat(asked()), await chat(asked())]
    model.feed.send("a", None)
    for stream in streams:
        with pytest.raises(SaveError) as failed:
            await read_all(stream)
        assert failed.value.response.chunks == ("a",)


async def test_a_failure_that_no_reader_gets_is_logged_without_content(chat, model, caplog, layer):
    async with await chat(asked()):
        pass
    model.feed.send(Boom("a secret"))
    await until(lambda: not layer.running())
    (record,) = caplog.records  # without a garbage collection
    assert (record.levelno, record.event, record.key) == (logging.WARNING, "unread", "t1")
    assert record.getMessage() == (
        "the call 't1' has failed, and no caller was there to get its error: Boom"
    )


async def test_a_failure_that_a_reader_gets_is_not_logged(chat, model, caplog):
    stream = await chat(asked())
    model.feed.send(Boom())
    with pytest.raises(Boom):
        await anext(stream)
    del stream
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("by_key", [False, True], ids=["request", "key"])
async def test_a_call_that_would_wait_for_itself_is_refused(layer, by_key):
    async def ask(request):
        return await (layer.join("t1") if by_key else chat(request))

    chat = layer(ask)
    with anyio.fail_after(10), pytest.raises(SessionError, match="'t1' would wait for itself"):
        await chat(asked())
    assert layer.running() == ()


async def test_an_unknown_key_cannot_be_joined(layer):
    with pytest.raises(ReplyMissing, match="'t9' is not here.*load its session") as missing:
        await layer.join("t9")
    assert missing.value.key == "t9"
    with pytest.raises(ReplyMissing):
        await resumable_layer().join("t9")  # a layer that is not entered has no calls


async def test_a_turn_that_is_saved_is_not_made_again(chat, model, layer):
    stream = await chat(asked())
    model.feed.send("a", None)
    await read_all(stream)
    await layer.stop("t1")  # drops the reply
    with pytest.raises(TurnExists):
        await chat(asked())


async def test_a_stream_that_is_entered_is_entered_and_left_by_the_layer(layer):
    manager = StreamManager(ClientStream("abc"))

    async def ask(request):
        return manager

    stream = await layer(ask)(asked())
    assert await read_all(stream) == [*"abc"]
    assert (manager.stream.entered, manager.left) == (0, [None])


async def test_a_stream_that_cannot_be_entered_fails_for_its_readers(layer):
    async def ask(request):
        return StreamManager(Boom("no connection"))

    stream = await layer(ask)(asked())
    with pytest.raises(Boom, match="no connection"):
        await anext(stream)


async def test_closing_a_reader_ends_only_this_reader(chat, model):
    one, two = await chat(asked()), await chat(asked())
    async with anyio.create_task_group() as tasks:
        waiting = read_in(tasks, one)
        await anyio.wait_all_tasks_blocked()
        await one.aclose()
        await one.aclose()
        await until(lambda: waiting == [END])
    model.feed.send(*"abc", None)
    assert await read_all(two) == [*"abc"]
    assert await read_all(one) == []


@every_cancellation
async def test_a_cancelled_read_loses_no_chunk(chat, model, cancelled):
    stream = await chat(asked())
    model.feed.send(*"abc", None)
    await read_all(stream)
    streams = []

    async def read_one():
        streams.append(await chat(asked()))
        return await anext(streams[-1])

    async def check(nth, chunk, was_cancelled):
        if streams:
            first = [] if was_cancelled else [chunk]
            assert first + await read_all(streams[-1]) == [*"abc"]

    await cancel_at_every_suspension(lambda nth: read_one(), cancelled, check)


async def test_two_tasks_may_read_one_stream(chat, model):
    stream = await chat(asked())
    async with anyio.create_task_group() as tasks:
        one, two = read_in(tasks, stream), read_in(tasks, stream)
        await anyio.wait_all_tasks_blocked()
        model.feed.send(*"abc", None)
    assert sorted(one + two) == sorted([*"abc", END, END])


async def test_a_reader_shows_its_key_and_position(chat, model, layer):
    stream = await chat(asked())
    model.feed.send("a secret")
    await anext(stream)
    assert repr(stream) == "<ReplyStream of 't1' at chunk 1>"
    assert repr(layer) == "ResumableLayer(key=turn_id_of)"
    assert repr(chat).startswith("ResumableLayer(key=turn_id_of) > MemoryLayer(")
