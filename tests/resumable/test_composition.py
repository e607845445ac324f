"""A resumable layer together with retries, timeouts, bridges, and a deadline of its caller."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from helpers.feeds import asked, resumable_layer, turn_id_of
from helpers.internals import remote_task
from helpers.messages import assistant, user
from helpers.services import FlakyModel, at_once
from helpers.streams import TextStream, read_all
from helpers.waiting import until
from tower_memory import (
    InMemorySessionStore,
    MemoryLayer,
    RetryLayer,
    ScopedStore,
    ServiceBuilder,
    SessionCleared,
    SqliteSessionStore,
    TimeoutLayer,
    Turn,
)
from tower_memory.bridges import AsyncioLayer, ThreadedStore
from tower_memory.resumable import ResumableLayer

SAVED = [user("Hi"), assistant("abc")]


async def test_retries_inside_share_one_call(layer, memory, store):
    flaky = FlakyModel(2)
    chat = (
        ServiceBuilder()
        .layer(layer)
        .layer(memory)
        .layer(RetryLayer(on=at_once))
        .layer(TimeoutLayer(60))
        .service(flaky)
    )
    assert await chat(asked()) == await chat(asked()) == "through"
    assert flaky.calls == 3
    assert await store.load("s") == [user("Hi"), assistant("through")]


async def test_a_timeout_inside_ends_the_call_for_all(layer, memory):
    async def sleep_forever(request):
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        await layer(memory(TimeoutLayer(0)(sleep_forever)))(asked())
    assert layer.running() == ()


async def test_a_timeout_outside_ends_only_the_wait_of_one_caller(layer, memory):
    go_on = anyio.Event()

    async def slow(request):
        await go_on.wait()
        return "abc"

    chat = layer(memory(slow))
    with pytest.raises(TimeoutError):
        await TimeoutLayer(0)(chat)(asked())
    go_on.set()
    assert await chat(asked()) == "abc"


async def test_the_deadline_of_the_first_caller_does_not_end_the_call(layer, memory, store, model):
    with anyio.move_on_after(0):
        await layer(memory(model))(asked())
        await anyio.sleep_forever()
    await until(lambda: model.feeds)
    model.feed.send(*"abc", None)
    assert await read_all(await layer.join("t1")) == [*"abc"]
    assert await store.load("s") == SAVED


async def test_a_bridge_inside_serves_readers_on_every_runtime(layer, memory, store):
    async def tell(request):
        async def letters():
            for letter in "abc":
                await asyncio.sleep(0)
                yield letter

        return letters()

    async with AsyncioLayer() as bridge:
        chat = layer(memory(bridge(tell)))
        streams = [await chat(asked()), await chat(asked())]
        assert [await read_all(stream) for stream in streams] == [[*"abc"]] * 2
    assert await store.load("s") == SAVED


async def test_a_stop_reaches_through_a_bridge(layer, memory, store):
    async def tell(request):
        async def letters():
            yield "a"
            await anyio.sleep_forever()

        return letters()

    async with AsyncioLayer() as bridge:
        stream = await layer(memory(bridge(tell)))(asked())
        assert await anext(stream) == "a"
        await layer.stop("t1")
        assert await read_all(stream) == []
    assert (await store.load("s"))[0] == user("Hi")
    assert (await store.load("s"))[1]["content"].startswith("a\n\n")


def test_calls_from_threads_join_each_other_in_the_loop_of_a_threaded_store():
    async def answer(request):
        answered.append(request)
        return "abc"

    answered, end, is_entered = [], [], threading.Event()
    store = ThreadedStore(SqliteSessionStore.in_memory())
    layer = resumable_layer()
    memory = MemoryLayer.over(store, session_id="s", turn_id=turn_id_of)

    async def serve(_request):
        end.append(anyio.Event())
        async with layer:
            is_entered.set()
            await end[0].wait()

    async def stop_serving(_request):
        end[0].set()

    serving = threading.Thread(target=store.run, args=(serve, None))
    serving.start()
    is_entered.wait()
    replies = [store.run(layer(memory(answer)), asked()) for _ in range(2)]
    store.run(stop_serving, None)
    serving.join()
    store.close()
    assert (replies, len(answered)) == (["abc", "abc"], 1)


async def test_a_turn_that_a_reader_makes_inside_its_loop_waits_for_the_stream(
    layer, memory, store
):
    async def ask(request):
        return TextStream("abc") if request["id"] == "t1" else "later"

    chat = layer(memory(ask))
    async for chunk in await chat(asked()):
        if chunk == "a":
            assert await chat(asked("t2", "Ho")) == "later"
    assert await store.load("s") == [*SAVED, user("Ho"), assistant("later")]


async def test_two_tenants_with_one_turn_id_have_calls_of_their_own():
    all_users = InMemorySessionStore()
    async with ResumableLayer(key=lambda request: (request["user"], request["id"])) as layer:

        async def ask(request):
            return f"Hello {request['user']}"

        for name in "ab":
            memory = MemoryLayer.over(ScopedStore(all_users, name), session_id="s")
            assert await layer(memory(ask))({**asked(), "user": name}) == f"Hello {name}"


async def test_a_session_that_is_erased_stops_no_call_and_the_error_reaches_the_readers(
    layer, memory, store, model
):
    await store.append(Turn("s", SAVED))
    stream = await layer(memory(model))(asked())
    await store.erase(session_id="s")
    model.feed.send("a", None)
    with pytest.raises(SessionCleared) as error:
        await read_all(stream)
    assert error.value.response.chunks == ("a",)


async def test_a_call_works_for_no_task_of_another_event_loop_that_its_caller_works_for(layer):
    """That task may end before the call, and would then count as a reader that has gone."""

    async def ask(request):
        return remote_task.get()

    token = remote_task.set("a task of trio")
    try:
        assert await layer(ask)(asked()) is None
    finally:
        remote_task.reset(token)
