"""Stream leases: an open stream holds its session until it ends or its readers have ended."""

from __future__ import annotations

import asyncio
import gc

import anyio
import pytest

from helpers.layers import TwoSessions, memory_over
from helpers.locks import count_locks, count_waiters, expect_readers_at_once
from helpers.messages import assistant, user
from helpers.services import Boom
from helpers.streams import TextStream, read_all, stream_last
from helpers.waiting import until
from tower_memory import InMemorySessionStore, SessionConflict, SessionError
from tower_memory.testing import ScriptedService


async def assert_a_turn_waits_for(stream, store):
    """Fail unless the next turn of the session begins after another task has read *stream*."""
    model = ScriptedService("done")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store)(model), [user("b")])
        await until(count_waiters)
        await anyio.wait_all_tasks_blocked()
        assert model.requests == []
        tasks.start_soon(read_all, stream)
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


@pytest.mark.parametrize("started", ["before", "after"])
async def test_a_stream_leases_its_session_until_any_task_reads_its_end(store, started):
    stream = await memory_over(store)(stream_last)([user("a")])
    if started == "after":
        assert await anext(stream) == "r"
    await assert_a_turn_waits_for(stream, store)


async def test_a_task_that_gave_its_stream_away_waits_for_it_like_any_other(store):
    model = ScriptedService("done")
    async with anyio.create_task_group() as tasks:
        stream = await memory_over(store)(stream_last)([user("a")])
        tasks.start_soon(read_all, stream)
        await memory_over(store)(model)([user("b")])
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def test_a_task_that_calls_again_before_its_stream_ended_does_not_deadlock(store):
    stream = await memory_over(store)(stream_last)([user("a")])
    async for chunk in stream:
        if chunk == ":":
            await memory_over(store)(ScriptedService("done"))([user("b")])
    kept = [user("b"), assistant("done"), user("a"), assistant("re: a")]
    assert await store.load("s") == kept  # both turns, in the order of their commits


async def test_a_stream_that_would_deadlock_with_itself_raises(store):
    async def asking_again():
        yield "a"
        await service([user("again")])

    service = memory_over(store)(ScriptedService(asking_again()))
    stream = await service([user("a")])
    with pytest.raises(SessionError, match="would wait for itself"):
        await read_all(stream)
    assert await store.load("s") == []


async def test_two_turns_get_the_session_of_a_stream_that_its_task_abandoned(store):
    service = memory_over(store)(
        ScriptedService(TextStream("a", anyio.sleep_forever), "one", "two")
    )
    got_one = anyio.Event()

    async def look():
        async for _ in await service([user("a")]):
            got_one.set()
            await until(lambda: count_waiters() == 2)
            return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await got_one.wait()
        tasks.start_soon(service, [user("b")])
        tasks.start_soon(service, [user("c")])

    assert len(await store.load("s")) == 4


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_natively_cancelled_stream_frees_its_session(store):
    reading = asyncio.Event()

    async def consume():
        async for _ in await memory_over(store)(
            ScriptedService(TextStream("a", anyio.sleep_forever))
        )([user("a")]):
            reading.set()

    task = asyncio.create_task(consume())
    await reading.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await memory_over(store)(ScriptedService("done"))([user("b")]) == "done"
    assert len(await store.load("s")) == 2


async def test_a_stream_that_outlives_its_event_loop_does_no_harm(anyio_backend):
    store = InMemorySessionStore()
    streams = []

    async def begin():
        stream = await memory_over(store)(ScriptedService(TextStream("ab")))([user("a")])
        await anext(stream)
        streams.append(stream)

    def outlive():
        anyio.run(begin, backend=anyio_backend)
        streams.clear()
        gc.collect()
        service = memory_over(store)(ScriptedService("done"))
        return anyio.run(service, [user("b")], backend=anyio_backend)

    assert await anyio.to_thread.run_sync(outlive) == "done"
    assert len(await store.load("s")) == 2


async def test_no_turn_waits_for_a_stream_whose_readers_have_ended(store):
    """This holds even if an object still refers to the stream, such as a traceback."""
    service = memory_over(store)(ScriptedService(TextStream("ab"), "one", "two"))
    failures = []

    async def consume():
        stream = await service([user("a")])
        async for _ in stream:
            await until(lambda: count_waiters() == 1)  # the turn of b
            raise Boom

    async def failing():
        try:
            await consume()
        except Boom as error:
            failures.append(error)

    with anyio.fail_after(20):  # less than the time for the first reader of a stream
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(failing)
            await until(count_locks)
            tasks.start_soon(service, [user("b")])
        await service([user("c")])
    assert failures
    assert len(await store.load("s")) == 4


async def receive(service, messages):
    """Return the stream of a call that a task of its own has made, as of `asyncio.gather`."""
    streams = []

    async def call():
        streams.append(await service(messages))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
    return streams.pop()


async def test_a_turn_waits_for_a_stream_that_was_received_from_a_finished_task(store):
    stream = await receive(memory_over(store)(stream_last), [user("a")])
    await assert_a_turn_waits_for(stream, store)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", ["gather", "wait_for", "task group"])
async def test_a_turn_waits_for_a_stream_received_through_asyncio(store, way):
    model = ScriptedService("done")
    call = memory_over(store)(stream_last)([user("a")])
    if way == "gather":
        (stream,) = await asyncio.gather(call)
    elif way == "wait_for":
        stream = await asyncio.wait_for(asyncio.create_task(call), 60)
    else:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call)
        stream = task.result()

    later = asyncio.create_task(memory_over(store)(model)([user("b")]))
    await until(count_waiters)
    await anyio.wait_all_tasks_blocked()
    assert model.requests == []
    await read_all(stream)
    await later
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def test_a_rejecting_turn_is_refused_while_a_received_stream_is_unread(store):
    service = memory_over(store, overlap="reject")(ScriptedService(TextStream("a"), "done"))
    stream = await receive(service, [user("a")])
    with pytest.raises(SessionConflict):
        await service([user("b")])
    assert await read_all(stream) == ["a"]


async def test_a_received_stream_that_is_dropped_unread_frees_its_session(store):
    service = memory_over(store)(ScriptedService(TextStream("a"), "done"))
    stream = await receive(service, [user("a")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
        await until(count_waiters)
        del stream
        gc.collect()
    assert await store.load("s") == [user("b"), assistant("done")]


@pytest.mark.parametrize("asks", ["holder", "other task"])
async def test_a_received_stream_that_stays_unread_frees_its_session_in_time(
    store, asks, monkeypatch
):
    expect_readers_at_once(monkeypatch)
    service = memory_over(store)(ScriptedService(TextStream("a"), "done"))
    stream = await receive(service, [user("a")])
    with anyio.fail_after(60):
        if asks == "holder":
            await service([user("b")])
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service, [user("b")])
    assert await read_all(stream) == ["a"]
    contents = [item["content"] for item in await store.load("s")]
    assert contents == ["b", "done", "a", "a"]  # a late reader still saves its turn


async def test_a_stream_that_several_tasks_read_in_parts_holds_its_session_to_its_end(store):
    model = ScriptedService("done")
    stream = await memory_over(store)(stream_last)([user("a")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store)(model), [user("b")])
        await until(count_waiters)
        await anyio.wait_all_tasks_blocked()
        assert model.requests == []
        await read_all(stream)
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def test_two_readers_do_not_deadlock(store):
    turns = TwoSessions(store)
    both = [anyio.Event(), anyio.Event()]

    async def talk(number, mine, others):
        stream = await mine(ScriptedService(TextStream("ab")))([user("x")])
        async for _ in stream:
            both[number].set()
            await both[1 - number].wait()
            await others(ScriptedService("done"))([user("y")])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk, 0, turns.one, turns.two)
            tasks.start_soon(talk, 1, turns.two, turns.one)

    assert len(await store.load("1")) == len(await store.load("2")) == 6


async def test_a_reader_and_a_turn_do_not_deadlock(store):
    turns = TwoSessions(store)
    reading, inside = anyio.Event(), anyio.Event()

    async def talk():
        async for _ in await turns.one(ScriptedService(TextStream("ab")))([user("x")]):
            reading.set()
            await inside.wait()
            await turns.two(ScriptedService("done"))([user("y")])

    async def model(_messages):
        inside.set()
        await until(count_waiters)
        await turns.one(ScriptedService("done"))([user("z")])
        return "ok"

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            await reading.wait()
            tasks.start_soon(turns.two(model), [user("w")])

    assert len(await store.load("1")) == 4
    assert len(await store.load("2")) == 6


# Trio finalizes the read together with the stream.
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_abandoned_read_frees_the_session(store):
    service = memory_over(store, keep_interrupted=True)(
        ScriptedService(TextStream("a", anyio.sleep_forever), "done")
    )
    stream = await service([user("a")])
    reading = stream.__anext__()
    suspended = reading.send(None)
    del suspended
    reading.close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
    assert len(await store.load("s")) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only asyncio makes a task of one read
async def test_a_generator_may_be_read_by_a_new_task_at_each_step(store):
    async def spoken():
        async with await memory_over(store)(stream_last)([user("a")]) as stream:
            async for chunk in stream:
                yield chunk

    async def step():
        return await anext(generator, None)

    generator = spoken()
    chunks = [await asyncio.create_task(step()) for _ in "re: a|"]

    assert chunks == [*"re: a", None]
    assert await store.load("s") == [user("a"), assistant("re: a")]
