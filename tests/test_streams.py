"""Replies that are streamed: passed on at once, saved when they end, and never half a turn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import types
import warnings

import anyio
import pytest

from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveError,
    SaveSession,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    TimeoutLayer,
)
from tower_memory._overlap import _all_locks
from tower_memory._remembered import RememberedStream
from tower_memory.dialects import Streamed
from tower_memory.testing import ScriptedService


class Boom(Exception):
    """What a stream fails with."""


INTERRUPTED = "(interrupted: this reply is not complete)"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def remembering(store, **parameters):
    return MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", **parameters)


class Pieces:
    """A stream of text, which may fail or hang at its end."""

    def __init__(self, text, at_the_end=None):
        self.left = list(text)
        self.at_the_end = at_the_end

    def __aiter__(self):
        return self

    async def __anext__(self):
        await anyio.lowlevel.checkpoint()
        if self.left:
            return self.left.pop(0)
        if self.at_the_end is not None:
            await self.at_the_end()
        raise StopAsyncIteration


async def fail():
    raise Boom


async def not_saving(_turn):
    msg = "disk full"
    raise OSError(msg)


async def streaming(messages):
    return Pieces(f"re: {messages[-1]['content']}")


async def read(stream):
    return [chunk async for chunk in stream]


@pytest.fixture(params=["in memory", "sqlite"])
async def store(request):
    if request.param == "in memory":
        yield InMemorySessionStore()
    else:
        async with SqliteSessionStore.in_memory() as store:
            yield store


@pytest.fixture(autouse=True)
async def no_lock_is_left_behind(anyio_backend):
    yield
    gc.collect()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    assert not _all_locks.get({})


async def test_chunks_are_passed_on_at_once_as_they_are_and_the_turn_is_saved_at_their_end(store):
    chunks = [{"choices": [{"delta": {"content": "a"}}]}, object(), {"choices": []}, {"x": 1}]
    asked = anyio.Event()

    async def stream():
        for chunk in chunks:
            yield chunk
            assert not asked.is_set()
        asked.set()

    service = remembering(store)(ScriptedService(stream()))
    got = await service([user("a")])
    for chunk in chunks:
        assert await anext(got) is chunk  # and none is read ahead
        assert await store.load("s") == []
    with pytest.raises(StopAsyncIteration):
        await anext(got)
    assert await store.load("s") == [user("a"), assistant("a")]
    with pytest.raises(StopAsyncIteration):
        await anext(got)
    assert len(await store.load("s")) == 2


async def test_the_next_turn_is_given_what_was_streamed(store):
    service = remembering(store)(streaming)
    assert "".join(await read(await service([user("a")]))) == "re: a"
    model = ScriptedService("done")
    await remembering(store)(model)([user("b")])
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


# A stream that does not come to its end


async def read_until_it_fails(stream):
    with pytest.raises(Boom):
        await read(stream)


async def closed(stream):
    await anext(stream)
    await stream.aclose()
    assert await read(stream) == []


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
    never_read,
]


@pytest.mark.parametrize("keeps_it", [True, False], ids=["still held", "let go of"])
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
@pytest.mark.parametrize("end", ENDS)
async def test_a_stream_that_does_not_end_saves_nothing_and_frees_its_session(
    store, end, overlap, keeps_it
):
    service = remembering(store, overlap=overlap)(ScriptedService(Pieces("ab", fail), "done"))
    stream = await service([user("a")])
    await end(stream)
    if not keeps_it:
        del stream
    with anyio.fail_after(60):
        assert await service([user("b")]) == "done"
    assert await store.load("s") == [user("b"), assistant("done")]


@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
@pytest.mark.parametrize("end", [*ENDS[:2], *ENDS[3:5], cancelled])
async def test_what_came_of_it_can_be_kept_marked_as_interrupted(store, end, overlap):
    layer = remembering(store, overlap=overlap, keep_interrupted=True)
    await end(await layer(ScriptedService(Pieces("ab", fail)))([user("a")]))
    first, second = await store.load("s")
    assert first == user("a")
    assert second["content"] in (f"a\n\n{INTERRUPTED}", f"ab\n\n{INTERRUPTED}")


async def test_of_a_stream_of_which_nothing_came_nothing_is_kept(store):
    layer = remembering(store, keep_interrupted=True)
    await closed_before_it_is_read(await layer(streaming)([user("a")]))
    await read_until_it_fails(await layer(ScriptedService(Pieces("", fail)))([user("a")]))
    assert await store.load("s") == []


async def test_what_was_let_go_of_cannot_be_kept_and_warns(store):
    layer = remembering(store, keep_interrupted=True)
    stream = await layer(ScriptedService(Pieces("ab")))([user("a")])
    await anext(stream)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del stream
        gc.collect()
    (warning,) = caught
    assert warning.category is ResourceWarning
    assert "was not closed; to keep what came of it, use 'async with'" in str(warning.message)
    assert await remembering(store)(ScriptedService("done"))([user("b")]) == "done"
    assert len(await store.load("s")) == 2


async def test_an_interrupted_stream_that_cannot_be_saved_says_so_with_what_came_of_it():
    store = InMemorySessionStore()

    layer = MemoryLayer(LoadSession(store), not_saving, session_id="s", keep_interrupted=True)
    stream = await layer(ScriptedService(Pieces("ab", fail)))([user("a")])
    with pytest.raises(SaveError, match="disk full") as caught:
        await read(stream)
    error = caught.value
    assert error.response.chunks == ("a", "b")
    assert isinstance(error.__cause__.__context__, Boom)
    await store.append(error.turn)
    assert await store.load("s") == [user("a"), assistant(f"ab\n\n{INTERRUPTED}")]


# What fails when it ended


async def test_a_stream_that_cannot_be_read_raises_with_its_chunks_when_it_ended(store):
    async def numbers():
        yield 1
        yield 2

    stream = await remembering(store)(ScriptedService(numbers()))([user("a")])
    assert [await anext(stream), await anext(stream)] == [1, 2]
    with pytest.raises(SaveError, match="a stream must give .* chunks or text, got int") as caught:
        await anext(stream)
    assert caught.value.response.chunks == (1, 2)
    assert caught.value.turn is None
    assert await store.load("s") == []


async def test_a_stream_that_gave_nothing_cannot_be_read(store):
    stream = await remembering(store)(ScriptedService(Pieces("")))([user("a")])
    with pytest.raises(SaveError, match="got nothing"):
        await anext(stream)


async def test_when_its_save_fails_the_error_has_the_turn_to_save_again():
    store = InMemorySessionStore()

    layer = MemoryLayer(LoadSession(store), not_saving, session_id="s")
    stream = await layer(streaming)([user("a")])
    with pytest.raises(SaveError, match="disk full") as caught:
        await read(stream)
    assert isinstance(caught.value.response, Streamed)
    await store.append(caught.value.turn)
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_stream_that_ends_as_the_time_runs_out_is_saved(store):
    async def just_in_time():
        yield "a"
        scope.deadline = anyio.current_time()

    stream = await remembering(store)(ScriptedService(just_in_time()))([user("a")])
    with anyio.CancelScope() as scope:
        assert await read(stream) == ["a"]
    assert len(await store.load("s")) == 2


async def test_with_reject_a_session_that_changed_meanwhile_conflicts_at_the_end(store):
    stream = await remembering(store, overlap="reject")(streaming)([user("a")])
    await remembering(store, overlap="append")(ScriptedService("other"))([user("b")])
    with pytest.raises(SessionConflict) as caught:
        await read(stream)
    assert "".join(caught.value.response.chunks) == "re: a"
    assert list(caught.value.turn.items) == [user("a"), assistant("re: a")]


# The order of turns


async def until(condition):
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()


def waiting():
    return sum(len(lock.waiting) for lock in _all_locks.get({}).values())


@pytest.mark.parametrize("started", ["before", "after"])
async def test_a_stream_holds_its_session_until_it_ends_whichever_task_ends_it(store, started):
    stream = await remembering(store)(streaming)([user("a")])
    model = ScriptedService("done")
    if started == "after":
        assert await anext(stream) == "r"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(store)(model), [user("b")])
        await until(waiting)
        await anyio.wait_all_tasks_blocked()
        assert model.requests == []
        tasks.start_soon(read, stream)
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def test_the_task_that_gave_its_stream_away_waits_for_it_like_any_other(store):
    model = ScriptedService("done")
    async with anyio.create_task_group() as tasks:
        stream = await remembering(store)(streaming)([user("a")])
        tasks.start_soon(read, stream)
        await remembering(store)(model)([user("b")])
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def test_a_task_that_asks_again_before_its_stream_ended_does_not_wait_for_itself(store):
    stream = await remembering(store)(streaming)([user("a")])
    async for chunk in stream:
        if chunk == ":":
            await remembering(store)(ScriptedService("done"))([user("b")])
    kept = [user("b"), assistant("done"), user("a"), assistant("re: a")]
    assert await store.load("s") == kept  # both, in the order they commit


async def test_a_stream_that_would_wait_for_itself_raises(store):
    async def asking_again():
        yield "a"
        await service([user("again")])

    service = remembering(store)(ScriptedService(asking_again()))
    stream = await service([user("a")])
    with pytest.raises(SessionError, match="would wait for itself"):
        await read(stream)
    assert await store.load("s") == []


async def test_two_turns_wait_for_a_stream_that_is_let_go_of_in_a_task(store):
    service = remembering(store)(ScriptedService(Pieces("a", anyio.sleep_forever), "one", "two"))
    got_one = anyio.Event()

    async def look():
        async for _ in await service([user("a")]):
            got_one.set()
            await until(lambda: waiting() == 2)
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
        async for _ in await remembering(store)(ScriptedService(Pieces("a", anyio.sleep_forever)))(
            [user("a")]
        ):
            reading.set()

    task = asyncio.create_task(consume())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await remembering(store)(ScriptedService("done"))([user("b")]) == "done"
    assert len(await store.load("s")) == 2


async def test_a_stream_that_outlives_its_event_loop_does_no_harm(anyio_backend):
    store = InMemorySessionStore()
    streams = []

    async def begin():
        stream = await remembering(store)(ScriptedService(Pieces("ab")))([user("a")])
        await anext(stream)
        streams.append(stream)

    def outlive():
        anyio.run(begin, backend=anyio_backend)
        streams.clear()
        gc.collect()
        service = remembering(store)(ScriptedService("done"))
        return anyio.run(service, [user("b")], backend=anyio_backend)

    assert await anyio.to_thread.run_sync(outlive) == "done"
    assert len(await store.load("s")) == 2


async def test_a_timeout_covers_a_stream_until_it_is_there(store):
    service = TimeoutLayer(60)(remembering(store)(streaming))
    assert "".join(await read(await service([user("a")]))) == "re: a"


class Turns:
    """Two services that remember, each in a session of its own."""

    def __init__(self, store):
        self.one, self.two = (
            MemoryLayer(LoadSession(store), SaveSession(store), session_id=name) for name in "12"
        )


async def test_a_stream_whose_readers_are_over_is_waited_for_by_nobody(store):
    """Though something still refers to it, such as the traceback of what they failed with."""
    service = remembering(store)(ScriptedService(Pieces("ab"), "one", "two"))
    failures = []

    async def consume():
        stream = await service([user("a")])
        async for _ in stream:
            await until(lambda: waiting() == 1)  # for this one
            raise Boom

    async def failing():
        try:
            await consume()
        except Boom as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(failing)
        await until(lambda: _all_locks.get({}))
        tasks.start_soon(service, [user("b")])
    with anyio.fail_after(60):
        await service([user("c")])
    assert failures
    assert len(await store.load("s")) == 4


async def test_a_stream_that_one_task_opened_and_others_read_a_piece_of_is_read_on(store):
    model = ScriptedService("done")
    stream = await remembering(store)(streaming)([user("a")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(store)(model), [user("b")])
        await until(waiting)
        await anyio.wait_all_tasks_blocked()
        assert model.requests == []
        await read(stream)
    assert model.requests == [[user("a"), assistant("re: a"), user("b")]]


async def test_readers_that_would_wait_for_each_other_do_not(store):
    turns = Turns(store)
    both = [anyio.Event(), anyio.Event()]

    async def talk(number, mine, others):
        stream = await mine(ScriptedService(Pieces("ab")))([user("x")])
        async for _ in stream:
            both[number].set()
            await both[1 - number].wait()
            await others(ScriptedService("done"))([user("y")])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk, 0, turns.one, turns.two)
            tasks.start_soon(talk, 1, turns.two, turns.one)
    assert len(await store.load("1")) == len(await store.load("2")) == 6


async def test_a_reader_and_a_turn_that_would_wait_for_each_other_do_not(store):
    turns = Turns(store)
    reading, inside = anyio.Event(), anyio.Event()

    async def talk():
        async for _ in await turns.one(ScriptedService(Pieces("ab")))([user("x")]):
            reading.set()
            await inside.wait()
            await turns.two(ScriptedService("done"))([user("y")])

    async def model(_messages):
        inside.set()
        await until(waiting)
        await turns.one(ScriptedService("done"))([user("z")])
        return "ok"

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(talk)
            await reading.wait()
            tasks.start_soon(turns.two(model), [user("w")])
    assert len(await store.load("1")) == 4
    assert len(await store.load("2")) == 6


async def test_what_another_task_closes_is_interrupted_whatever_its_reader_makes_of_that(store):
    class Closing(Pieces):
        async def wait(self):
            await self.closed.wait()

        async def aclose(self):
            self.closed.set()
            await anyio.wait_all_tasks_blocked()

    pieces = Closing("a")
    pieces.closed = anyio.Event()
    pieces.at_the_end = pieces.wait
    service = remembering(store)(ScriptedService(pieces))
    stream = await service([user("a")])
    got = []

    async def consume():
        got.extend(await read(stream))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()
    assert got == ["a"]
    assert await store.load("s") == []


async def test_whoever_sees_the_end_sees_it_when_the_turn_is_saved():
    store = InMemorySessionStore()
    saving, go_on = anyio.Event(), anyio.Event()

    async def save(turn):
        saving.set()
        await go_on.wait()
        return await store.append(turn)

    stream = await MemoryLayer(LoadSession(store), save, session_id="s")(streaming)([user("a")])
    seen = []

    async def see(end):
        await end()
        seen.append(len(await store.load("s")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(see, lambda: read(stream))
        await saving.wait()
        tasks.start_soon(see, lambda: read(stream))
        tasks.start_soon(see, stream.aclose)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        go_on.set()
    assert seen == [2, 2, 2]


async def test_a_stream_that_failed_does_not_seem_to_have_ended_well(store):
    stream = await remembering(store)(ScriptedService(Pieces("ab", fail)))([user("a")])
    await read_until_it_fails(stream)
    with pytest.raises(SessionError, match="session 's': this stream failed before its end"):
        await anext(stream)
    await stream.aclose()
    assert await read(stream) == []


async def test_nor_does_one_whose_turn_could_not_be_saved():
    layer = MemoryLayer(LoadSession(InMemorySessionStore()), not_saving, session_id="s")
    stream = await layer(streaming)([user("a")])
    with pytest.raises(SaveError):
        await read(stream)
    with pytest.raises(SessionError, match="failed before its end"):
        await anext(stream)


async def test_of_chunks_that_say_nothing_nothing_is_kept(store):
    async def saying_nothing():
        yield {"choices": []}  # as some servers begin
        await anyio.sleep_forever()

    service = remembering(store, keep_interrupted=True)(ScriptedService(saying_nothing()))
    async with await service([user("a")]) as stream:
        await anext(stream)
    assert await store.load("s") == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio finalizes it with the stream
async def test_a_read_that_is_itself_let_go_of_frees_the_session(store):
    service = remembering(store, keep_interrupted=True)(
        ScriptedService(Pieces("a", anyio.sleep_forever), "done")
    )
    stream = await service([user("a")])
    reading = stream.__anext__()
    suspended = reading.send(None)
    del suspended
    reading.close()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
    assert len(await store.load("s")) == 2


async def test_a_stream_in_two_memories_is_remembered_by_both(store):
    turns = Turns(store)
    for read_it in (lambda s: read(s.text_stream), Stream.rest, read):
        service = turns.one(turns.two(ScriptedService(Stream("ab"))))
        stream = await service([user("a")])
        texts = await (stream.rest() if read_it is Stream.rest else read_it(stream))
        assert "".join(texts).lower() == "ab"
    assert len(await store.load("1")) == 6
    assert len(await store.load("2")) == 2 + 4 + 6  # to which all that the outer adds is new


# What else a stream has


async def read_later():
    yield "something else"


class Stream:
    """Like a client library's: an iterator with methods and attributes, and a context manager."""

    def __init__(self, chunks):
        self.left = list(chunks)
        self.entered = self.closed = 0
        self.text_stream = self._texts()
        self.response = types.SimpleNamespace(status=200)
        self.others = read_later()

    def __aiter__(self):
        return self

    async def __anext__(self):
        await anyio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def __aenter__(self):
        self.entered += 1
        return self

    async def __aexit__(self, *failure):
        await self.close()
        return failure[0] is KeyError

    async def close(self):
        self.closed += 1

    async def _texts(self):
        async for chunk in self:
            yield chunk.upper()

    async def rest(self):
        return [chunk async for chunk in self]

    @property
    def count(self):
        return len(self.left)


async def test_the_streams_own_attributes_and_its_context_manager_stay_usable(store):
    own = Stream("ab")
    stream = await remembering(store)(ScriptedService(own))([user("a")])
    assert isinstance(stream, Stream)
    assert (stream.response.status, stream.count) == (200, 2)
    stream.note = "kept"
    assert own.note == "kept"
    assert stream.others is own.others
    async with stream as entered:
        assert entered is stream
        assert await read(stream) == ["a", "b"]
        raise KeyError  # which the stream's own manager swallows
    assert (own.entered, own.closed) == (1, 1)
    assert repr(own) in repr(stream)
    with pytest.raises(AttributeError, match="nothing"):
        stream.nothing  # noqa: B018
    assert await store.load("s") == [user("a"), assistant("ab")]


@pytest.mark.parametrize("consume", [Stream.rest, lambda stream: read(stream.text_stream)])
async def test_what_its_methods_read_of_it_is_seen(store, consume):
    stream = await remembering(store)(ScriptedService(Stream("ab")))([user("a")])
    way = stream.rest() if consume is Stream.rest else consume(stream)
    assert "".join(await way).lower() == "ab"
    assert await store.load("s") == [user("a"), assistant("ab")]


async def test_closing_it_its_own_way_frees_its_session(store):
    own = Stream("ab")
    service = remembering(store)(ScriptedService(own, "done"))
    stream = await service([user("a")])
    await stream.close()
    assert own.closed == 1
    async with anyio.create_task_group() as tasks:  # not the task that had it
        tasks.start_soon(service, [user("b")])
    assert len(await store.load("s")) == 2


async def test_one_that_is_closed_without_awaiting_frees_its_session_too(store):
    class Closing(Stream):
        def close(self):
            self.closed += 1
            return "closed"

    service = remembering(store)(ScriptedService(Closing("ab"), Closing("ab"), "done"))
    stream = await service([user("a")])
    assert stream.close() == "closed"
    await (await service([user("a")])).aclose()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
    assert len(await store.load("s")) == 2


class Manager:
    """What gives a stream when it is entered."""

    def __init__(self, stream):
        self.stream = stream
        self.left = []

    async def __aenter__(self):
        await anyio.lowlevel.checkpoint()
        if isinstance(self.stream, Exception):
            raise self.stream
        return self.stream

    async def __aexit__(self, *failure):
        self.left.append(failure[0])


async def test_a_manager_that_gives_a_stream_is_one(store):
    manager = Manager(Stream("ab"))
    async with await remembering(store)(ScriptedService(manager))([user("a")]) as stream:
        assert stream.count == 2
        assert await read(stream) == ["a", "b"]
    assert manager.left == [None]
    assert await store.load("s") == [user("a"), assistant("ab")]


@pytest.mark.parametrize(("given", "error"), [(Boom(), Boom), (3, TypeError)])
async def test_a_manager_that_gives_none_frees_the_session(store, given, error):
    manager = Manager(given)
    service = remembering(store)(ScriptedService(manager, "done"))
    stream = await service([user("a")])
    with pytest.raises(error):
        async with stream:
            pytest.fail("it was entered")
    assert manager.left == ([None] if error is TypeError else [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service, [user("b")])
    assert await store.load("s") == [user("b"), assistant("done")]


async def test_a_generator_is_read_by_iterating_it(store):
    async def chunks():
        yield "a"

    stream = await remembering(store)(ScriptedService(chunks()))([user("a")])
    with pytest.raises(AttributeError, match="asend: a generator that is remembered is read by"):
        stream.asend  # noqa: B018
    assert await read(stream) == ["a"]
    await stream.aclose()


async def test_a_close_that_gives_something_to_await_ends_the_turn_when_it_was(store):
    class Closing(Stream):
        def close(self):
            return super().close()

    layer = remembering(store, keep_interrupted=True)
    stream = await layer(ScriptedService(Closing("ab")))([user("a")])
    await anext(stream)
    await stream.close()
    assert (await store.load("s"))[-1] == assistant(f"a\n\n{INTERRUPTED}")


def test_one_that_was_never_made_is_let_go_of_without_a_word():
    stream = object.__new__(RememberedStream)
    with pytest.raises(AttributeError, match="reading"):
        stream.left  # noqa: B018
    del stream


async def test_a_manager_is_not_read_before_it_is_entered(store):
    stream = await remembering(store)(ScriptedService(Manager(Stream("a"))))([user("a")])
    with pytest.raises(TypeError, match="enter <.*> first: 'async with await service"):
        await anext(stream)


async def test_a_stream_that_is_only_iterable_and_cannot_be_closed_is_one(store):
    class Iterable:
        def __aiter__(self):
            return Pieces("ab")

    service = remembering(store)(ScriptedService(Iterable(), Iterable()))
    async with contextlib.aclosing(await service([user("a")])) as stream:
        assert await read(stream) == ["a", "b"]
    await (await service([user("b")])).aclose()
    assert len(await store.load("s")) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # whose tasks run more than coroutines
async def test_a_generator_may_be_read_by_one_task_a_step(store):
    async def spoken():
        async with await remembering(store)(streaming)([user("a")]) as stream:
            async for chunk in stream:
                yield chunk

    async def step():
        return await anext(generator, None)

    generator = spoken()
    chunks = [await asyncio.create_task(step()) for _ in "re: a|"]
    assert chunks == [*"re: a", None]
    assert await store.load("s") == [user("a"), assistant("re: a")]
