"""Streamed replies: passed on at once, saved when they end, and never saved in part."""

from __future__ import annotations

import contextlib
import gc

import anyio
import pytest

from helpers.layers import memory_over
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.services import Boom
from helpers.streams import (
    TextStream,
    fail_to_save,
    raise_boom,
    read_all,
    read_until_it_fails,
    stream_last,
)
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveError,
    SessionConflict,
    SessionError,
    TimeoutLayer,
)
from tower_memory.dialects import Streamed
from tower_memory.testing import ScriptedService


async def test_chunks_are_passed_on_at_once_as_they_are_and_the_turn_is_saved_at_their_end(store):
    chunks = [{"choices": [{"delta": {"content": "a"}}]}, object(), {"choices": []}, {"x": 1}]
    asked = anyio.Event()

    async def stream():
        for chunk in chunks:
            yield chunk
            assert not asked.is_set()
        asked.set()

    service = memory_over(store)(ScriptedService(stream()))
    got = await service([user("a")])

    for chunk in chunks:
        assert await anext(got) is chunk  # and no chunk is read ahead
        assert await store.load("s") == []

    with pytest.raises(StopAsyncIteration):
        await anext(got)
    assert await store.load("s") == [user("a"), assistant("a")]
    with pytest.raises(StopAsyncIteration):
        await anext(got)
    assert len(await store.load("s")) == 2


async def test_the_next_turn_is_given_what_was_streamed(store):
    service = memory_over(store)(stream_last)
    assert "".join(await read_all(await service([user("a")]))) == "re: a"
    model = ScriptedService("done")
    await memory_over(store)(model)([user("b")])
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def closed(stream):
    await anext(stream)
    await stream.aclose()
    assert await read_all(stream) == []


async def closed_before_it_is_read(stream):
    await stream.aclose()


async def left_in_its_context(stream):
    async with stream as entered:
        async for _ in entered:
            break


async def left_by_an_error(stream):
    with contextlib.suppress(Boom):
        async with stream:
            await anext(stream)
            raise Boom


async def left_early(stream):
    async for _ in stream:
        break


async def cancelled(stream):
    with anyio.CancelScope() as scope:
        async for _ in stream:
            scope.cancel()


async def cancelled_in_its_context(stream):
    with anyio.CancelScope() as scope:
        async with stream:
            async for _ in stream:
                scope.cancel()


async def never_read(_stream):
    pass


ENDS = [
    read_until_it_fails,
    closed,
    closed_before_it_is_read,
    left_in_its_context,
    left_by_an_error,
    left_early,
    cancelled,
    cancelled_in_its_context,
    never_read,
]


@pytest.mark.parametrize("keeps_it", [True, False], ids=["still held", "let go of"])
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_that_does_not_end_saves_nothing_and_frees_its_session(
    store, end, overlap, keeps_it
):
    service = memory_over(store, overlap=overlap)(
        ScriptedService(TextStream("ab", raise_boom), "done")
    )
    stream = await service([user("a")])
    await end(stream)
    if not keeps_it:
        del stream
    with anyio.fail_after(60):
        assert await service([user("b")]) == "done"
    assert await store.load("s") == [user("b"), assistant("done")]


@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
@pytest.mark.parametrize("end", [*ENDS[:2], *ENDS[3:5], cancelled_in_its_context])
async def test_an_interrupted_reply_can_be_saved_with_a_mark(store, end, overlap):
    layer = memory_over(store, overlap=overlap, keep_interrupted=True)
    await end(await layer(ScriptedService(TextStream("ab", raise_boom)))([user("a")]))
    first, second = await store.load("s")
    assert first == user("a")
    assert second["content"] in (f"a\n\n{INTERRUPTED_REPLY}", f"ab\n\n{INTERRUPTED_REPLY}")


async def test_an_interrupted_stream_without_chunks_saves_nothing(store):
    layer = memory_over(store, keep_interrupted=True)
    await closed_before_it_is_read(await layer(stream_last)([user("a")]))
    await read_until_it_fails(await layer(ScriptedService(TextStream("", raise_boom)))([user("a")]))
    assert await store.load("s") == []


async def test_an_abandoned_stream_cannot_be_saved_and_is_reported(store, caplog):
    layer = memory_over(store, keep_interrupted=True)
    stream = await layer(ScriptedService(TextStream("ab")))([user("a")])
    await anext(stream)

    del stream
    gc.collect()

    (record,) = caplog.records
    assert record.getMessage() == (
        "session 's': TextStream was dropped or closed without 'await', so its received chunks (1) are "
        "lost; read it in an 'async with'"
    )
    assert (record.name, record.levelname, record.event) == (
        *("tower_memory", "WARNING", "lost_stream"),
    )
    assert (record.session_id, record.stream, record.chunks) == ("s", "TextStream", 1)
    assert await memory_over(store)(ScriptedService("done"))([user("b")]) == "done"
    assert len(await store.load("s")) == 2


async def test_an_interrupted_stream_that_cannot_be_saved_raises_with_its_chunks():
    store = InMemorySessionStore()

    layer = MemoryLayer(
        LoadSession(store), fail_to_save, session_id="s", store=store, keep_interrupted=True
    )
    stream = await layer(ScriptedService(TextStream("ab", raise_boom)))([user("a")])
    with pytest.raises(SaveError, match="disk full") as caught:
        await read_all(stream)
    error = caught.value
    assert error.response.chunks == ("a", "b")
    assert isinstance(error.__cause__.__context__, Boom)
    await store.append(error.turn)
    assert await store.load("s") == [user("a"), assistant(f"ab\n\n{INTERRUPTED_REPLY}")]


async def test_a_stream_of_unknown_chunks_raises_with_its_chunks_at_its_end(store):
    async def numbers():
        yield 1
        yield 2

    stream = await memory_over(store)(ScriptedService(numbers()))([user("a")])
    assert [await anext(stream), await anext(stream)] == [1, 2]
    with pytest.raises(SaveError, match="a stream must give .* chunks or text, got int") as caught:
        await anext(stream)
    assert caught.value.response.chunks == (1, 2)
    assert caught.value.turn is None
    assert await store.load("s") == []


async def test_a_stream_without_chunks_raises_at_its_end(store):
    stream = await memory_over(store)(ScriptedService(TextStream("")))([user("a")])
    with pytest.raises(SaveError, match="got nothing"):
        await anext(stream)


async def test_if_the_save_of_a_stream_fails_the_error_has_the_turn_to_save_again():
    store = InMemorySessionStore()

    layer = MemoryLayer(LoadSession(store), fail_to_save, session_id="s", store=store)
    stream = await layer(stream_last)([user("a")])
    with pytest.raises(SaveError, match="disk full") as caught:
        await read_all(stream)
    assert isinstance(caught.value.response, Streamed)
    await store.append(caught.value.turn)
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_stream_that_ends_at_the_deadline_is_saved(store):
    async def just_in_time():
        yield "a"
        scope.deadline = anyio.current_time()

    stream = await memory_over(store)(ScriptedService(just_in_time()))([user("a")])
    with anyio.CancelScope() as scope:
        assert await read_all(stream) == ["a"]
    assert len(await store.load("s")) == 2


async def test_a_rejecting_stream_conflicts_at_its_end_if_the_session_changed(store):
    stream = await memory_over(store, overlap="reject")(stream_last)([user("a")])
    await memory_over(store, overlap="append")(ScriptedService("other"))([user("b")])
    with pytest.raises(SessionConflict) as caught:
        await read_all(stream)
    assert "".join(caught.value.response.chunks) == "re: a"
    assert list(caught.value.turn.items) == [user("a"), assistant("re: a")]


async def test_a_timeout_covers_a_stream_until_it_is_returned(store):
    service = TimeoutLayer(60)(memory_over(store)(stream_last))
    assert "".join(await read_all(await service([user("a")]))) == "re: a"


async def test_a_stream_closed_by_another_task_is_interrupted_even_if_its_reader_ends_normally(
    store,
):
    class Closing(TextStream):
        async def wait(self):
            await self.closed.wait()

        async def aclose(self):
            self.closed.set()
            await anyio.wait_all_tasks_blocked()

    pieces = Closing("a")
    pieces.closed = anyio.Event()
    pieces.at_the_end = pieces.wait
    service = memory_over(store)(ScriptedService(pieces))
    stream = await service([user("a")])
    got = []

    async def consume():
        got.extend(await read_all(stream))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()

    assert got == ["a"]
    assert await store.load("s") == []


async def test_every_reader_sees_the_end_only_after_the_turn_is_saved():
    store = InMemorySessionStore()
    saving, go_on = anyio.Event(), anyio.Event()

    async def save(turn):
        saving.set()
        await go_on.wait()
        return await store.append(turn)

    stream = await MemoryLayer(LoadSession(store), save, session_id="s", store=store)(stream_last)(
        [user("a")]
    )
    seen = []

    async def see(end):
        await end()
        seen.append(len(await store.load("s")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(see, lambda: read_all(stream))
        await saving.wait()
        tasks.start_soon(see, lambda: read_all(stream))
        tasks.start_soon(see, stream.aclose)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        go_on.set()

    assert seen == [2, 2, 2]


async def test_a_failed_stream_does_not_end_normally_when_it_is_read_again(store):
    stream = await memory_over(store)(ScriptedService(TextStream("ab", raise_boom)))([user("a")])
    await read_until_it_fails(stream)
    with pytest.raises(SessionError, match="session 's': this stream failed before its end"):
        await anext(stream)
    await stream.aclose()
    assert await read_all(stream) == []


async def test_a_stream_whose_turn_could_not_be_saved_does_not_end_normally():
    layer = MemoryLayer(
        LoadSession(InMemorySessionStore()), fail_to_save, session_id="s", overlap="append"
    )
    stream = await layer(stream_last)([user("a")])
    with pytest.raises(SaveError):
        await read_all(stream)
    with pytest.raises(SessionError, match="failed before its end"):
        await anext(stream)


async def test_an_interrupted_stream_with_empty_chunks_saves_nothing(store):
    async def saying_nothing():
        yield {"choices": []}  # as some servers begin a stream
        await anyio.sleep_forever()

    service = memory_over(store, keep_interrupted=True)(ScriptedService(saying_nothing()))
    async with await service([user("a")]) as stream:
        await anext(stream)
    assert await store.load("s") == []
