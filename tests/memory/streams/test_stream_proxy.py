"""Stream proxies: the attributes, methods and context managers of a client's stream stay usable."""

from __future__ import annotations

import contextlib

import anyio
import pytest

from helpers.internals import StreamProxy
from helpers.layers import TwoSessions, memory_over
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.services import Boom
from helpers.streams import ClientStream, StreamManager, TextStream, read_all
from tower_memory.testing import ScriptedService


async def test_a_stream_through_two_memory_layers_is_saved_by_both(store):
    turns = TwoSessions(store)
    for read_it in (lambda s: read_all(s.text_stream), ClientStream.rest, read_all):
        service = turns.one(turns.two(ScriptedService(ClientStream("ab"))))
        stream = await service([user("a")])
        texts = await (stream.rest() if read_it is ClientStream.rest else read_it(stream))
        assert "".join(texts).lower() == "ab"
    assert len(await store.load("1")) == 6
    # All items that the outer layer adds are new to the inner layer.
    assert len(await store.load("2")) == 2 + 4 + 6


async def test_the_streams_own_attributes_and_its_context_manager_stay_usable(store):
    own = ClientStream("ab")
    stream = await memory_over(store)(ScriptedService(own))([user("a")])

    assert isinstance(stream, ClientStream)
    assert (stream.response.status, stream.count) == (200, 2)

    stream.note = "kept"
    assert own.note == "kept"
    assert stream.others is own.others

    async with stream as entered:
        assert entered is stream
        assert await read_all(stream) == ["a", "b"]
        raise KeyError  # the context manager of the stream swallows it

    assert (own.entered, own.closed) == (1, 1)
    assert repr(own) in repr(stream)
    with pytest.raises(AttributeError, match="nothing"):
        stream.nothing  # noqa: B018
    assert await store.load("s") == [user("a"), assistant("ab")]


@pytest.mark.parametrize(
    "consume", [ClientStream.rest, lambda stream: read_all(stream.text_stream)]
)
async def test_chunks_read_by_the_methods_of_a_stream_are_recorded(store, consume):
    stream = await memory_over(store)(ScriptedService(ClientStream("ab")))([user("a")])
    way = stream.rest() if consume is ClientStream.rest else consume(stream)
    assert "".join(await way).lower() == "ab"
    assert await store.load("s") == [user("a"), assistant("ab")]


async def test_closing_a_stream_with_its_own_method_frees_its_session(store):
    own = ClientStream("ab")
    service = memory_over(store)(ScriptedService(own, "done"))
    stream = await service([user("a")])
    await stream.close()
    assert own.closed == 1
    # Another task than the caller of the service asks next.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
    assert len(await store.load("s")) == 2


async def test_a_stream_with_a_synchronous_close_frees_its_session(store):
    class Closing(ClientStream):
        def close(self):
            self.closed += 1
            return "closed"

    service = memory_over(store)(ScriptedService(Closing("ab"), Closing("ab"), "done"))
    stream = await service([user("a")])

    assert stream.close() == "closed"

    await (await service([user("a")])).aclose()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])

    assert len(await store.load("s")) == 2


async def test_a_context_manager_that_gives_a_stream_is_treated_as_a_stream(store):
    manager = StreamManager(ClientStream("ab"))
    async with await memory_over(store)(ScriptedService(manager))([user("a")]) as stream:
        assert stream.count == 2
        assert await read_all(stream) == ["a", "b"]
    assert manager.left == [None]
    assert await store.load("s") == [user("a"), assistant("ab")]


@pytest.mark.parametrize(("given", "error"), [(Boom(), Boom), (3, TypeError)])
async def test_a_context_manager_that_gives_no_stream_frees_the_session(store, given, error):
    manager = StreamManager(given)
    service = memory_over(store)(ScriptedService(manager, "done"))
    stream = await service([user("a")])
    with pytest.raises(error, match="StreamManager must give .*, got int" if given == 3 else None):
        async with stream:
            pytest.fail("it was entered")
    assert manager.left == ([None] if error is TypeError else [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
    assert await store.load("s") == [user("b"), assistant("done")]


async def test_a_generator_is_read_by_iterating_it(store):
    async def chunks():
        yield "a"

    stream = await memory_over(store)(ScriptedService(chunks()))([user("a")])
    with pytest.raises(AttributeError, match="asend: iterate an observed generator to read it"):
        stream.asend  # noqa: B018
    assert await read_all(stream) == ["a"]
    await stream.aclose()


async def test_a_close_that_returns_an_awaitable_ends_the_turn_when_it_was_awaited(store):
    class Closing(ClientStream):
        def close(self):
            return super().close()

    layer = memory_over(store, keep_interrupted=True)
    stream = await layer(ScriptedService(Closing("ab")))([user("a")])
    await anext(stream)
    await stream.close()
    assert (await store.load("s"))[-1] == assistant(f"a\n\n{INTERRUPTED_REPLY}")


def test_a_stream_proxy_without_init_is_garbage_collected_silently():
    stream = object.__new__(StreamProxy)
    with pytest.raises(AttributeError, match="observed"):
        stream.left  # noqa: B018
    del stream


async def test_a_context_manager_cannot_be_read_before_it_is_entered(store):
    stream = await memory_over(store)(ScriptedService(StreamManager(ClientStream("a"))))(
        [user("a")]
    )
    with pytest.raises(TypeError, match="enter the StreamManager first: 'async with await service"):
        await anext(stream)


async def test_a_stream_may_be_only_iterable_without_a_close(store):
    class Iterable:
        def __aiter__(self):
            return TextStream("ab")

    service = memory_over(store)(ScriptedService(Iterable(), Iterable()))
    async with contextlib.aclosing(await service([user("a")])) as stream:
        assert await read_all(stream) == ["a", "b"]
    await (await service([user("b")])).aclose()
    assert len(await store.load("s")) == 2
