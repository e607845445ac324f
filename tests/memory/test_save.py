"""The save of a turn: failures, cancellation and deadlines."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from helpers.internals import grace_of
from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.services import Boom, repeat_last
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveError,
    SaveSession,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
    UnencodableItemError,
)
from tower_memory.dialects import ChatCompletions


async def test_a_dialect_that_fails_while_it_reads_the_reply_does_not_lose_it(store):
    class Failing:
        new_items = staticmethod(ChatCompletions().new_items)
        with_history = staticmethod(ChatCompletions().with_history)

        def reply_items(self, _request, _response):
            yield assistant("half")
            raise Boom

    with pytest.raises(SaveError) as caught:
        await memory_over(store, dialect=Failing())(repeat_last)([user("a")])
    assert caught.value.response == "re: a"
    assert await store.load("s") == []


async def test_an_error_whose_text_fails_does_not_lose_the_reply(store):
    class Speechless(Exception):
        def __str__(self):
            raise Boom

    async def save(_turn):
        raise Speechless

    layer = MemoryLayer(LoadSession(store), save, session_id="s", store=store)
    with pytest.raises(SaveError, match="Speechless") as caught:
        await layer(repeat_last)([user("a")])
    assert caught.value.response == "re: a"


async def test_a_call_that_fails_leaves_its_session_as_it_was(store):
    async def model(_messages):
        raise Boom

    with pytest.raises(Boom):
        await memory_over(store)(model)([user("a")])
    assert (await store.load("s")).revision == 0


async def test_a_call_that_is_cancelled_leaves_its_session_as_it_was(store):
    called = anyio.Event()

    async def model(_messages):
        called.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store)(model), [user("a")])
        await called.wait()
        tasks.cancel_scope.cancel()

    assert (await store.load("s")).revision == 0
    assert await memory_over(store)(repeat_last)([user("b")]) == "re: b"  # no lock is left


async def test_a_cancelled_save_runs_to_its_end_and_the_reply_is_returned(store):
    saving, go_on = anyio.Event(), anyio.Event()
    replies = []

    async def save(turn):
        saving.set()
        await go_on.wait()
        return await store.append(turn)

    async def call(scope):
        with scope:
            replies.append(
                await MemoryLayer(LoadSession(store), save, session_id="s", store=store)(
                    repeat_last
                )([user("a")])
            )

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, scope)
        await saving.wait()
        scope.cancel()
        go_on.set()

    assert replies == ["re: a"]
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_reply_that_arrives_at_the_deadline_is_saved_and_returned(store):
    async def just_in_time(messages):
        scope.deadline = anyio.current_time()
        return await repeat_last(messages)

    with anyio.fail_after(3600) as scope:
        assert await memory_over(store)(just_in_time)([user("a")]) == "re: a"
    assert len(await store.load("s")) == 2


async def test_a_save_that_outlasts_the_grace_past_a_deadline_raises_with_the_reply():
    store = InMemorySessionStore()

    async def save(_turn):
        await anyio.sleep_forever()

    async def just_in_time(messages):
        scope.deadline = anyio.current_time()
        return await repeat_last(messages)

    layer = MemoryLayer(LoadSession(store), save, session_id="s", store=store, grace=0.05)
    with anyio.fail_after(3600) as scope, pytest.raises(SaveError) as caught:
        await layer(just_in_time)([user("a")])

    error = caught.value
    assert error.response == "re: a"
    assert isinstance(error.__cause__, TimeoutError)

    await store.append(error.turn)
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_the_grace_defaults_to_the_busy_timeout_of_the_store():
    class Patient(InMemorySessionStore):
        busy_timeout = 0.05

        async def append(self, turn):
            await anyio.sleep_forever()

    async def just_in_time(messages):
        scope.deadline = anyio.current_time()
        return await repeat_last(messages)

    store = Patient()
    save = RetryLayer(on=SessionError)(SaveSession(store))
    layer = MemoryLayer(LoadSession(store), save, session_id="s", store=store)

    with anyio.fail_after(3600) as scope, pytest.raises(SaveError):
        await layer(just_in_time)([user("a")])
    assert grace_of(layer) == 0.05
    assert grace_of(memory_over(store, grace=1)) == 1
    assert grace_of(memory_over(InMemorySessionStore())) == 5
    assert grace_of(memory_over(SqliteSessionStore("a.db", busy_timeout=2.5))) == 2.5


async def test_if_a_save_fails_the_error_has_the_reply_and_the_turn_to_save_again(store):
    failures = [OSError("disk full")]

    async def save(turn):
        if failures:
            raise failures.pop()
        return await store.append(turn)

    layer = MemoryLayer(LoadSession(store), save, session_id="s", store=store)
    with pytest.raises(
        SaveError, match="session 's': the reply is on this error.*disk full"
    ) as caught:
        await layer(repeat_last)([user("a")])

    error = caught.value
    assert (error.session_id, error.response) == ("s", "re: a")
    assert isinstance(error.__cause__, OSError)
    assert await store.load("s") == []

    await save(error.turn)
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_save_that_failed_after_its_commit_can_be_retried_and_is_made_once(store):
    failures = [OSError("after committing")]

    async def save(turn):
        revision = await store.append(turn)
        if failures:
            raise failures.pop()
        return revision

    retried = RetryLayer(on=lambda _error: 0.0, attempts=2)(save)
    await MemoryLayer(LoadSession(store), retried, session_id="s", store=store)(repeat_last)(
        [user("a")]
    )
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_reply_that_cannot_be_stored_or_read_comes_back_on_the_error(store):
    async def unencodable(_messages):
        return assistant({1, 2})

    with pytest.raises(SaveError, match=r"items\[1\]\.content") as caught:
        await memory_over(store)(unencodable)([user("a")])
    assert caught.value.response["content"] == {1, 2}
    assert isinstance(caught.value.__cause__, UnencodableItemError)

    async def unreadable(_messages):
        return 42

    with pytest.raises(SaveError, match="response must be a chat completion.* got int") as caught:
        await memory_over(store)(unreadable)([user("a")])
    assert (caught.value.response, caught.value.turn) == (42, None)
    assert await store.load("s") == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only asyncio has it
async def test_a_natively_cancelled_turn_is_absent_and_others_go_on(store):
    called = asyncio.Event()

    async def model(_messages):
        called.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(memory_over(store)(model)([user("a")]))
    await called.wait()
    waiting = asyncio.create_task(memory_over(store)(repeat_last)([user("b")]))
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await waiting == "re: b"
    assert await store.load("s") == [user("b"), assistant("re: b")]


async def test_a_conflict_at_the_commit_has_the_reply_and_the_turn(store):
    async def model(messages):
        await store.append(Turn("s", [user("from elsewhere")]))
        return await repeat_last(messages)

    with pytest.raises(SessionConflict) as caught:
        await memory_over(store, overlap="reject")(model)([user("a")])

    error = caught.value
    assert (error.expected, error.actual) == (0, (await store.load("s")).revision)
    assert error.response == "re: a"
    assert list(error.turn.items) == [user("a"), assistant("re: a")]
    assert isinstance(error.__cause__, SessionConflict)
    assert await store.load("s") == [user("from elsewhere")]
