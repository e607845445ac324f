"""The span of a streamed reply ends with the stream, which stays as it is."""

from __future__ import annotations

import asyncio
import gc
from contextlib import nullcontext
from contextvars import copy_context

import anyio
import pytest
from opentelemetry.trace import StatusCode, get_current_span

from helpers.layers import memory_over
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.services import Boom
from helpers.streams import (
    ClientStream,
    StreamManager,
    TextStream,
    cancel_while_it_waits,
    fail_to_save,
    raise_boom,
    read_all,
)
from helpers.waiting import until
from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveError
from tower_memory.bridges import AsyncioLayer
from tower_memory.resumable import ResumableLayer
from tower_memory.testing import ScriptedService


@pytest.fixture
def store():
    return InMemorySessionStore()


async def generated():
    """Yield one chunk, and never end."""
    yield "a"
    await anyio.sleep_forever()


def text():
    return TextStream("ab")


def client():
    return ClientStream("ab")


def managed():
    return StreamManager(TextStream("ab"))


def failing():
    return TextStream("a", raise_boom)


def failing_manager():
    return StreamManager(Boom())


async def read_in_block(stream):
    async with stream as opened:
        await read_all(opened)


async def leave_early(stream):
    async with stream as opened:
        await anext(opened)


async def leave_with_an_error(stream):
    with pytest.raises(Boom):
        async with stream:
            raise Boom


async def close_early(stream):
    await anext(stream)
    await stream.aclose()


async def close_by_its_own_method(stream):
    await stream.close()


async def read_and_cancel(stream):
    await anext(stream)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(stream)


# The end of the span


ENDS = [
    (text, read_all, "ok"),
    (text, read_in_block, "ok"),
    (client, read_in_block, "ok"),
    (managed, read_in_block, "ok"),
    (text, leave_early, "interrupted"),
    (client, leave_early, "interrupted"),
    (client, leave_with_an_error, "interrupted"),
    (text, close_early, "interrupted"),
    (client, close_by_its_own_method, "interrupted"),
    (failing, read_all, "error"),
    (failing_manager, read_in_block, "error"),
    (generated, read_and_cancel, "cancelled"),
]


@pytest.mark.parametrize(
    ("make", "read", "outcome"),
    ENDS,
    ids=[f"{make.__name__}-{read.__name__}" for make, read, _ in ENDS],
)
async def test_the_span_ends_once_when_the_stream_ends(recorded, make, read, outcome):
    stream = await recorded.layer(ScriptedService(make()))("request")
    assert recorded.names == []
    with pytest.raises(Boom) if outcome == "error" else nullcontext():
        await read(stream)
    await stream.aclose()  # does nothing to the span

    assert recorded.outcome("call") == outcome
    is_error = recorded.span("call").status.status_code is StatusCode.ERROR
    assert is_error is (outcome == "error")
    given = {"operation": "call", "outcome": outcome}
    given |= {"error.type": "Boom"} if is_error else {}
    assert recorded.points("call.duration") == [(given, 1)]


async def test_a_stream_that_survives_a_cancelled_read_goes_on(recorded):
    class Pausing(TextStream):
        go_on = anyio.Event()

        async def __anext__(self):
            if len(self.left) == 1:
                await self.go_on.wait()
            return await super().__anext__()

    stream = await recorded.layer(ScriptedService(source := Pausing("ab")))("request")
    await read_and_cancel(stream)
    assert recorded.names == []
    source.go_on.set()
    assert await read_all(stream) == ["b"]
    assert recorded.outcome("call") == "ok"


async def test_a_stream_that_ends_right_after_a_cancelled_read_is_interrupted(recorded):
    class Ending(TextStream):
        async def __anext__(self):
            if self.left is None:
                raise StopAsyncIteration
            if not self.left:
                self.left = None
                await anyio.sleep_forever()
            return await super().__anext__()

    stream = await recorded.layer(ScriptedService(Ending("a")))("request")
    await read_and_cancel(stream)
    assert await read_all(stream) == []
    assert recorded.outcome("call") == "interrupted"


async def test_a_dropped_stream_ends_its_span_soon(recorded):
    stream = await recorded.layer(ScriptedService(TextStream("ab")))("request")
    await anext(stream)
    del stream
    gc.collect()
    await until(lambda: recorded.names)
    assert recorded.attributes("call") == {"outcome": "dropped"}


def test_a_stream_that_outlives_its_event_loop_ends_no_span(recorded, anyio_backend):
    stream = anyio.run(
        recorded.layer(ScriptedService(TextStream("ab"))), "request", backend=anyio_backend
    )
    del stream
    gc.collect()
    assert recorded.names == []


class Suspended:
    """An awaitable that never ends."""

    def __await__(self):
        while True:
            yield


@pytest.mark.parametrize("step", ["read", "leave"])
async def test_a_reader_that_is_closed_while_it_waits_ends_the_span_soon(recorded, step):
    """It is closed in another context than it ran in, as the garbage collector does it."""

    class Waiting(TextStream):
        async def __anext__(self):
            await Suspended()

        aclose = __anext__

    stream = await recorded.layer(ScriptedService(Waiting("a")))("request")
    reading = stream.__anext__() if step == "read" else stream.aclose()
    outside = get_current_span()
    copy_context().run(reading.send, None)
    reading.close()
    assert get_current_span() is outside
    await until(lambda: recorded.names)
    assert recorded.outcome("call") == "dropped"


async def test_a_stream_with_a_synchronous_close_ends_its_span_at_once(recorded):
    class Closing(TextStream):
        def close(self):
            self.left = []

    stream = await recorded.layer(ScriptedService(Closing("ab")))("request")
    stream.close()
    assert recorded.outcome("call") == "interrupted"
    assert await read_all(stream) == []


async def test_a_synchronous_close_that_fails_ends_the_span_with_its_error(recorded):
    class Failing(TextStream):
        def close(self):
            raise Boom

    stream = await recorded.layer(ScriptedService(Failing("ab")))("request")
    with pytest.raises(Boom):
        await anyio.to_thread.run_sync(stream.close)  # where no event loop runs
    assert recorded.attributes("call").items() >= {"outcome": "error", "error.type": "Boom"}.items()


async def test_a_context_manager_must_be_entered_before_it_is_read(recorded):
    stream = await recorded.layer(ScriptedService(StreamManager(TextStream("a"))))("request")
    with pytest.raises(TypeError, match="enter the StreamManager first"):
        await anext(stream)
    assert recorded.attributes("call")["error.type"] == "TypeError"


# With memory


async def test_the_span_of_a_turn_ends_after_its_save(store, recorded):
    chat = recorded.layer(recorded.memory(store)(ScriptedService(TextStream("ab"))))
    async with await chat([user("a")]) as stream:
        assert await read_all(stream) == ["a", "b"]
        assert recorded.names == ["load", "save", "turn"]
    assert recorded.parent("save") == "turn"
    assert recorded.attributes("turn").items() >= {"items": 2, "revision": 1}.items()
    assert await store.load("s") == [user("a"), assistant("ab")]


async def test_an_interrupted_stream_that_is_saved_has_its_turn(store, recorded):
    chat = recorded.traced_memory(store, keep_interrupted=True, turn_id=lambda _: "t1")
    await leave_early(await chat(ScriptedService(TextStream("ab")))([user("a")]))
    kept = {"gen_ai.conversation.id": "s", "turn.id": "t1", "items": 2, "revision": 1}
    assert recorded.attributes("turn") == {**kept, "outcome": "interrupted"}


async def test_a_stream_whose_save_fails_has_the_error(store, recorded):
    memory = MemoryLayer(LoadSession(store), fail_to_save, session_id="s", store=store)
    with pytest.raises(SaveError):
        await read_all(await recorded.layer(memory(ScriptedService(TextStream("a"))))([user("a")]))
    assert recorded.attributes("turn")["error.type"] == "SaveError"


async def test_spans_made_while_a_stream_is_read_are_children_of_its_span(store, recorded):
    class Client(TextStream):
        async def __anext__(self):
            if self.left:
                return await super().__anext__()
            recorded.tracer.start_span("other client").end()
            raise StopAsyncIteration

    outside = get_current_span()
    stream = await recorded.traced_memory(store)(ScriptedService(Client("ab")))([user("a")])
    async for _ in stream:
        assert get_current_span() is outside
    assert recorded.parent("other client") == "turn"


# The stream itself


async def test_a_traced_stream_keeps_its_type_its_attributes_and_its_methods(store, recorded):
    for read_it in (lambda s: read_all(s.text_stream), ClientStream.rest, read_all):
        own = ClientStream("ab")
        for service in (
            recorded.layer(ScriptedService(own)),
            recorded.layer(memory_over(store)(recorded.layer(ScriptedService(own)))),
        ):
            own.left = list("ab")
            stream = await service([user("a")])
            assert isinstance(stream, ClientStream)
            assert stream.response is own.response
            stream.extra = 1
            assert (own.extra, stream.count) == (1, 2)
            own.text_stream = own._texts()
            texts = await (stream.rest() if read_it is ClientStream.rest else read_it(stream))
            assert "".join(texts).lower() == "ab"
    assert (await store.load("s"))[-1] == assistant("ab")
    assert [*map(recorded.names.count, ("call", "turn"))] == [6, 3]


async def test_a_traced_generator_that_a_cancelled_read_finished_is_interrupted_at_once(
    store, recorded
):
    """The memory layer sees through the tracing layer, also if a bridge is inside."""
    waits = []

    async def waiting():
        yield "a"
        waits.append("for ever")
        await asyncio.Event().wait()

    async with AsyncioLayer() as bridge:
        service = memory_over(store, keep_interrupted=True)(
            recorded.layer(bridge(ScriptedService(waiting())))
        )
        stream = await service([user("a")])
        await anext(stream)
        await cancel_while_it_waits(stream, lambda: waits)
        interrupted = [user("a"), assistant(f"a\n\n{INTERRUPTED_REPLY}")]
        assert await store.load("s") == interrupted
    assert recorded.outcome("call") == "cancelled"


# Bridges and resumable calls


async def test_spans_nest_through_a_bridge(store, recorded):
    async def ask(_messages):
        recorded.tracer.start_span("other client").end()
        await asyncio.sleep(0)

        async def words():
            recorded.tracer.start_span("other stream").end()
            yield "a"

        return words()

    async with AsyncioLayer() as bridge:
        chat = recorded.traced_memory(store)(bridge(ask))
        assert await read_all(await chat([user("a")])) == ["a"]
    assert recorded.parent("other client") == recorded.parent("other stream") == "turn"


async def test_a_memory_behind_a_bridge_reports_its_turn(store, recorded):
    async with AsyncioLayer() as bridge:
        chat = recorded.layer(bridge(memory_over(store)(ScriptedService("Hello"))))
        await chat([user("a")])
    assert recorded.attributes("turn").items() >= {"items": 2, "revision": 1}.items()


async def test_the_span_of_a_resumable_call_outlives_its_reader(store, recorded):
    go_on = anyio.Event()
    memory = recorded.traced_memory(store)
    async with ResumableLayer(key=lambda request: "t1") as resumable:
        chat = resumable(memory(ScriptedService(TextStream("ab", go_on.wait))))
        with recorded.tracer.start_as_current_span("other framework"):
            await leave_early(await chat([user("a")]))
        assert recorded.names == ["other framework"]
        go_on.set()
        await until(lambda: "turn" in recorded.names)
    assert recorded.parent("turn") == "other framework"
    assert recorded.attributes("turn").items() >= {"items": 2, "outcome": "ok"}.items()


async def test_a_tracing_layer_around_a_resumable_layer_ends_with_its_reader(store, recorded):
    memory = memory_over(store)
    async with ResumableLayer(key=lambda request: "t1") as resumable:
        chat = recorded.layer(resumable(memory(ScriptedService(TextStream("ab")))))
        assert await read_all(await chat([user("a")])) == ["a", "b"]
    assert recorded.attributes("turn").items() >= {"items": 2, "outcome": "ok"}.items()
