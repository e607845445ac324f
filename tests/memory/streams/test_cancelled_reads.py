"""Cancelled reads of a stream: a stream that survives one goes on, another is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import anyio
import pytest

from helpers.layers import TwoSessions, memory_over
from helpers.locks import count_locks, count_waiters
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.streams import TextStream, cancel_while_it_waits, read_all
from helpers.waiting import until
from tower_memory import SessionConflict, SessionError
from tower_memory.bridges import AsyncioLayer
from tower_memory.testing import ScriptedService

INTERRUPTED = [user("a"), assistant(f"a\n\n{INTERRUPTED_REPLY}")]


class PausingStream(TextStream):
    """A stream that waits for `go_on` before its last chunk."""

    def __init__(self, text):
        super().__init__(text)
        self.go_on = anyio.Event()

    async def __anext__(self):
        if len(self.left) == 1:
            await self.go_on.wait()
        return await super().__anext__()


async def generated():
    """Yield one chunk, and never end."""
    yield "a"
    await anyio.sleep_forever()


class GeneratorStream:
    """A stream of a client library that reads from an async generator of its own."""

    def __init__(self):
        self.iterator = generated()

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.iterator.__anext__()


class Slotted:
    """The same without a dictionary of attributes, so that the generator cannot be seen."""

    __slots__ = ("iterator",)

    __init__ = GeneratorStream.__init__
    __aiter__ = GeneratorStream.__aiter__
    __anext__ = GeneratorStream.__anext__


async def cancel_by_scope(stream):
    """Cancel one read with a scope, as a heartbeat does."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)
    assert scope.cancelled_caught


async def cancel_natively(stream):
    """Cancel one read, in a task of its own, with asyncio's cancellation."""
    reading = asyncio.ensure_future(anext(stream))
    await anyio.wait_all_tasks_blocked()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def cancel_by_wait_for(stream):
    """Cancel one read by its timeout."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.001)


every_read = pytest.mark.parametrize(
    ("anyio_backend", "cancel_a_read"),
    [
        pytest.param("asyncio", cancel_by_scope, id="asyncio"),
        pytest.param("trio", cancel_by_scope, id="trio"),
        pytest.param("asyncio", cancel_natively, id="natively"),
        pytest.param("asyncio", cancel_by_wait_for, id="wait_for"),
    ],
)


@every_read
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_stream_that_survives_cancelled_reads_goes_on_and_is_saved_whole(
    store, cancel_a_read, overlap, keep
):
    source = PausingStream("ab")
    layer = memory_over(store, overlap=overlap, keep_interrupted=keep)
    stream = await layer(ScriptedService(source))([user("a")])
    assert await anext(stream) == "a"

    for _ in range(2):
        await cancel_a_read(stream)
        assert await store.load("s") == []
        assert count_locks() == (overlap != "append")

    source.go_on.set()
    assert await read_all(stream) == ["b"]
    assert await store.load("s") == [user("a"), assistant("ab")]


@every_read
async def test_a_stream_holds_its_session_after_a_cancelled_read(store, cancel_a_read):
    source, model = PausingStream("ab"), ScriptedService("done")
    stream = await memory_over(store)(ScriptedService(source))([user("a")])
    await anext(stream)
    await cancel_a_read(stream)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store)(model), [user("b")])
        await until(count_waiters)
        await anyio.wait_all_tasks_blocked()
        assert model.requests == []
        source.go_on.set()
        await read_all(stream)

    assert model.requests == [[user("a"), assistant("ab"), user("b")]]


@every_read
@pytest.mark.parametrize("make", [generated, GeneratorStream])
async def test_a_generator_that_a_cancelled_read_finished_is_interrupted_at_once(
    store, make, cancel_a_read
):
    service = memory_over(store, keep_interrupted=True)(ScriptedService(make()))
    stream = await service([user("a")])
    await anext(stream)
    await cancel_a_read(stream)

    assert await store.load("s") == INTERRUPTED
    assert count_locks() == 0
    with pytest.raises(SessionError, match="this stream failed before its end"):
        await anext(stream)


@every_read
async def test_a_generator_through_two_layers_is_interrupted_for_both(store, cancel_a_read):
    layers = [memory_over(store, session_id, keep_interrupted=True) for session_id in "12"]
    stream = await layers[0](layers[1](ScriptedService(generated())))([user("a")])
    await anext(stream)
    await cancel_a_read(stream)
    assert await store.load("1") == await store.load("2") == INTERRUPTED


@every_read
async def test_a_generator_that_a_cancelled_read_finished_saves_nothing_by_default(
    store, cancel_a_read
):
    stream = await memory_over(store)(ScriptedService(generated()))([user("a")])
    await anext(stream)
    await cancel_a_read(stream)
    assert await store.load("s") == []
    assert count_locks() == 0


@every_read
@pytest.mark.parametrize("make", [Slotted, lambda: TextStream("a")], ids=["cut", "perhaps whole"])
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
async def test_a_stream_that_ends_right_after_a_cancelled_read_is_interrupted(
    store, make, keep, cancel_a_read
):
    source = make()
    service = memory_over(store, keep_interrupted=keep)(ScriptedService(source))
    stream = await service([user("a")])
    await anext(stream)
    if isinstance(source, TextStream):
        source.at_the_end = anyio.sleep_forever
    await cancel_a_read(stream)
    if isinstance(source, TextStream):
        source.at_the_end = None

    with pytest.raises(SessionError, match="session 's': .* right after a cancelled read"):
        await anext(stream)
    assert await store.load("s") == (INTERRUPTED if keep else [])
    assert count_locks() == 0
    with pytest.raises(SessionError, match="this stream failed before its end"):
        await anext(stream)


@every_read
async def test_a_stream_that_was_closed_after_a_cancelled_read_keeps_its_chunks(
    store, cancel_a_read
):
    service = memory_over(store, keep_interrupted=True)(ScriptedService(PausingStream("ab")))
    async with await service([user("a")]) as stream:
        await anext(stream)
        await cancel_a_read(stream)
        assert await store.load("s") == []
    assert await store.load("s") == INTERRUPTED


async def test_a_reader_that_is_cancelled_as_a_whole_keeps_the_chunks_by_leaving(store):
    service = memory_over(store, keep_interrupted=True)(ScriptedService(PausingStream("ab")))
    with anyio.CancelScope() as scope:
        async with await service([user("a")]) as stream:
            async for _ in stream:
                scope.cancel()
    assert await store.load("s") == INTERRUPTED


async def test_chunks_are_lost_if_no_reader_closes_a_stream_after_a_cancelled_read(store, caplog):
    service = memory_over(store, keep_interrupted=True)(ScriptedService(PausingStream("ab")))
    stream = await service([user("a")])
    await anext(stream)
    await cancel_by_scope(stream)
    del stream
    await anyio.lowlevel.checkpoint()  # until then Python keeps the cancellation's traceback
    gc.collect()
    assert "PausingStream was dropped" in caplog.text
    assert await store.load("s") == []


async def test_a_rejecting_turn_is_refused_after_a_cancelled_read(store):
    source = PausingStream("ab")
    service = memory_over(store, overlap="reject")(ScriptedService(source, "done"))
    stream = await service([user("a")])
    await anext(stream)
    await cancel_by_scope(stream)

    refused = []

    async def ask():
        with pytest.raises(SessionConflict) as caught:
            await service([user("b")])
        refused.append(caught.value.session_id)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
    assert refused == ["s"]
    await stream.aclose()


async def test_a_bridged_stream_goes_on_after_a_cancelled_read(store):
    waits = []

    class Waiting(TextStream):
        async def __anext__(self):
            await asyncio.sleep(0)  # fails outside of asyncio
            if len(self.left) == 1 and not waits:
                waits.append("for ever")
                await asyncio.Event().wait()
            return await super().__anext__()

    async with AsyncioLayer() as bridge:
        service = memory_over(store)(bridge(ScriptedService(Waiting("ab"))))
        async with await service([user("a")]) as stream:
            await anext(stream)
            await cancel_while_it_waits(stream, lambda: waits)
            assert await read_all(stream) == ["b"]
    assert await store.load("s") == [user("a"), assistant("ab")]


async def test_a_bridged_generator_that_a_cancelled_read_finished_is_interrupted_at_once(store):
    waits = []

    async def waiting():
        yield "a"
        waits.append("for ever")
        await asyncio.Event().wait()

    async with AsyncioLayer() as bridge:
        service = memory_over(store, keep_interrupted=True)(bridge(ScriptedService(waiting())))
        stream = await service([user("a")])
        await anext(stream)
        await cancel_while_it_waits(stream, lambda: waits)
        assert await store.load("s") == INTERRUPTED


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_bridged_stream_whose_end_came_as_its_reader_was_cancelled_is_whole(store):
    token = anyio.lowlevel.current_token().native_token
    scopes = []

    class Cancelling(TextStream):
        async def __anext__(self):
            if not self.left and scopes:
                token.run_sync_soon(scopes.pop().cancel)
            return await super().__anext__()

    is_missed = False
    async with AsyncioLayer() as bridge:
        while not is_missed:  # the end does not always arrive late enough
            service = memory_over(store)(bridge(ScriptedService(Cancelling("a"))))
            stream = await service([user("a")])
            await anext(stream)
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await read_all(stream)
            if scope.cancelled_caught:
                assert await store.load("s") == []
                with contextlib.suppress(SessionError):
                    is_missed = await read_all(stream) == []
            else:
                await store.clear("s")
    assert await store.load("s") == [user("a"), assistant("a")]


async def test_turns_of_two_sessions_survive_a_cancelled_read_of_one_stream(store):
    source, turns = PausingStream("ab"), TwoSessions(store)
    stream = await turns.one(turns.two(ScriptedService(source)))([user("a")])
    await anext(stream)
    await cancel_by_scope(stream)
    source.go_on.set()
    assert await read_all(stream) == ["b"]
    assert await store.load("1") == await store.load("2") == [user("a"), assistant("ab")]
