"""Turns that begin before the model call, with journal=True."""

from __future__ import annotations

import gc
import logging
import os
from datetime import timedelta
from math import inf

import anyio
import pytest

from helpers.cancelling import by_scope, cancel_at_every_suspension, every_cancellation
from helpers.internals import process_owner
from helpers.journals import Never, UntilNever, journalled, states
from helpers.locks import assert_no_lock_is_left
from helpers.messages import assistant, user
from helpers.recording_store import recording_class
from helpers.services import Boom, FlakyModel, at_once, must_not_be_called, repeat_last
from helpers.stores import ITEMS, assert_store_works
from helpers.streams import TextStream, fail_to_save, raise_boom, read_all, stream_last
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveError,
    SaveSession,
    ScopedStore,
    SessionCleared,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
    TurnExists,
    TurnMissing,
)

A, B = user("a"), assistant("re: a")


async def fail(_messages):
    raise Boom


async def test_a_turn_is_pending_during_the_model_call_and_whole_after_it(store):
    async def model(messages):
        (pending,) = await store.pending("s")
        assert (pending.turn_id, pending.items, pending.state) == ("t", [A], "running")
        assert (dict(pending.metadata), pending.replaces) == ({}, None)
        lease = pending.lease_until - pending.created_at
        assert abs(lease - timedelta(seconds=60)) <= timedelta(microseconds=1)
        assert await store.load("s") == []
        return await repeat_last(messages)

    memory = journalled(store, metadata=lambda request, response: {"model": "m"})
    assert await memory(model)([A]) == "re: a"
    history = await store.load("s")
    assert (await states(store), history) == ([], [A, B])
    assert [(turn.turn_id, dict(turn.metadata)) for turn in history.turns] == [
        ("t", {"model": "m"})
    ]


async def test_a_turn_without_turn_id_is_saved_under_the_id_with_which_it_began(store):
    begun = []

    async def model(messages):
        begun.extend(await states(store))
        return await repeat_last(messages)

    service = journalled(store, turn_id=None)(model)
    for _ in range(2):
        await service([A])
    saved = [turn.turn_id for turn in (await store.load("s")).turns]
    assert [(each, "running") for each in saved] == begun
    assert len({*saved}) == 2
    assert await states(store) == []


@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_question_survives_a_failed_model_and_is_answered_by_a_retry(store, overlap):
    memory = journalled(store, overlap=overlap)
    with pytest.raises(Boom):
        await memory(fail)([A])
    assert (await states(store), await store.load("s")) == ([("t", "failed")], [])
    (pending,) = await store.pending("s")
    assert pending.items == [A]

    assert await memory(repeat_last)([A]) == "re: a"
    assert (await states(store), await store.load("s")) == ([], [A, B])
    with pytest.raises(TurnExists):
        await memory(must_not_be_called)([A])
    assert await states(store) == []


@pytest.mark.parametrize("turn_id", [None, lambda request: "t"], ids=["default id", "own id"])
async def test_a_reply_is_not_lost_if_another_process_answered_the_turn_meanwhile(store, turn_id):
    other = assistant("another reply")

    async def model(messages):
        (pending,) = await store.pending("s")
        await store.append(Turn("s", [A, other], turn_id=pending.turn_id))
        return await repeat_last(messages)

    with pytest.raises(TurnExists) as caught:
        await journalled(store, turn_id=turn_id)(model)([A])
    assert (caught.value.response, [*caught.value.items]) == ("re: a", [A, other])
    assert await store.load("s") == [A, other]


async def test_a_failed_question_can_be_forgotten(store):
    with pytest.raises(Boom):
        await journalled(store)(fail)([A])
    await store.forget("s", "t")
    assert await states(store) == []


async def test_a_turn_that_another_process_runs_conflicts_before_the_model_call(store):
    await store.begin(Turn("s", [A], turn_id="t"), lease=600, owner="another process")
    with pytest.raises(SessionConflict, match="turn 't' is running elsewhere until") as caught:
        await journalled(store)(must_not_be_called)([A])
    assert caught.value.response is None
    assert await states(store) == [("t", "running")]
    assert_no_lock_is_left()

    await store.fail("s", "t", owner="another process")
    assert await journalled(store)(repeat_last)([A]) == "re: a"
    assert await states(store) == []


async def test_the_same_process_begins_its_turn_again_at_once(store):
    await store.begin(Turn("s", [A], turn_id="t"), lease=600, owner=process_owner())
    assert await journalled(store)(repeat_last)([A]) == "re: a"
    assert await states(store) == []


def test_a_forked_process_is_another_owner():
    reading, writing = os.pipe()
    owner = process_owner()
    assert process_owner() == owner
    child = os.fork()
    if child == 0:
        os.write(writing, process_owner().encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as lines:
        assert lines.read() not in ("", owner)


async def test_a_turn_begins_with_the_conditions_of_its_save(store):
    revision = await store.append(Turn("s", [user("old")], turn_id="old"))
    memory = journalled(store, replaces=lambda request: "old")

    async def model(messages):
        (pending,) = await store.pending("s")
        assert pending.replaces == "old"
        return await repeat_last(messages)

    await memory(model)([A])
    assert await store.load("s") == [A, B]

    memory = journalled(store, turn_id=lambda request: "t2", replaces=lambda request: "old")
    with pytest.raises(TurnMissing):
        await memory(must_not_be_called)([A])
    memory = journalled(
        store, turn_id=lambda request: "t2", replaces=lambda request: ("t", revision)
    )
    with pytest.raises(SessionConflict):
        await memory(must_not_be_called)([A])
    assert await states(store) == []


@pytest.mark.parametrize(
    ("between", "error"),
    [
        (lambda store: store.clear("s"), SessionCleared),
        (lambda store: store.append(Turn("s", [A])), SessionConflict),
    ],
    ids=["cleared", "changed"],
)
async def test_a_session_that_changes_after_the_load_is_refused_before_the_model(
    store, between, error
):
    await store.append(Turn("s", [A]))

    async def load(session_id):
        history = await store.load(session_id)
        await between(store)
        return history

    memory = MemoryLayer(load, SaveSession(store), session_id="s", overlap="reject", journal=True)
    with pytest.raises(error) as caught:
        await memory(must_not_be_called)([A])
    assert caught.value.response is None
    assert await states(store) == []


async def test_a_session_cleared_during_the_call_has_no_pending_turn(store):
    async def model(messages):
        await store.clear("s")
        return "reply"

    with pytest.raises(SessionCleared):
        await journalled(store)(model)([A])
    assert await states(store) == []


async def test_a_request_that_the_dialect_cannot_hydrate_begins_no_turn(store):
    class Refusing:
        def new_items(self, request):
            return request

        def with_history(self, request, history):
            raise Boom

        def reply_items(self, request, response):
            return []

    with pytest.raises(Boom):
        await journalled(store, dialect=Refusing())(must_not_be_called)([A])
    assert await states(store) == []


async def test_a_reply_that_cannot_be_read_or_saved_leaves_the_turn_failed(store):
    async def unreadable(messages):
        return object()

    with pytest.raises(SaveError) as caught:
        await journalled(store)(unreadable)([A])
    assert (caught.value.turn, await states(store)) == (None, [("t", "failed")])

    memory = MemoryLayer(
        LoadSession(store),
        fail_to_save,
        session_id="s",
        store=store,
        turn_id=lambda request: "t",
        journal=True,
    )
    with pytest.raises(SaveError, match="disk full") as caught:
        await memory(repeat_last)([A])
    assert await states(store) == [("t", "failed")]
    await store.append(caught.value.turn)
    assert (await states(store), await store.load("s")) == ([], [A, B])


# Streams


async def test_a_stream_is_pending_until_its_end(store):
    stream = await journalled(store)(stream_last)([A])
    assert await anext(stream) == "r"
    assert await states(store) == [("t", "running")]
    await read_all(stream)
    assert (await states(store), await store.load("s")) == ([], [A, B])


@pytest.mark.parametrize("overlap", ["serialize", "append"])
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
async def test_a_stream_that_is_closed_early_has_failed_unless_it_is_kept(store, overlap, keep):
    memory = journalled(store, overlap=overlap, keep_interrupted=keep)
    async with await memory(stream_last)([A]) as stream:
        await anext(stream)
    assert await states(store) == ([] if keep else [("t", "failed")])
    assert len(await store.load("s")) == (2 if keep else 0)


@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
async def test_a_stream_that_was_not_read_has_failed(store, keep):
    async with await journalled(store, keep_interrupted=keep)(stream_last)([A]):
        pass
    assert (await states(store), await store.load("s")) == ([("t", "failed")], [])


async def test_a_kept_stream_without_text_has_failed(store):
    async def model(messages):
        return TextStream([{"choices": [{"delta": {"role": "assistant"}}]}], raise_boom)

    stream = await journalled(store, keep_interrupted=True)(model)([A])
    with pytest.raises(Boom):
        await read_all(stream)
    assert (await states(store), await store.load("s")) == ([("t", "failed")], [])


async def test_a_stream_that_fails_has_failed_and_can_be_repeated(store):
    async def model(messages):
        return TextStream("re", raise_boom)

    stream = await journalled(store)(model)([A])
    with pytest.raises(Boom):
        await read_all(stream)
    assert await states(store) == [("t", "failed")]
    await read_all(await journalled(store)(stream_last)([A]))
    assert (await states(store), await store.load("s")) == ([], [A, B])


async def test_a_stream_whose_save_fails_has_failed(store):
    memory = MemoryLayer(
        LoadSession(store), fail_to_save, session_id="s", store=store, journal=True
    )
    with pytest.raises(SaveError):
        await read_all(await memory(stream_last)([A]))
    assert [state for _, state in await states(store)] == ["failed"]


async def test_a_lost_stream_runs_until_its_lease_ends_and_is_repeated_at_once(store):
    stream = await journalled(store)(stream_last)([A])
    await anext(stream)
    del stream
    gc.collect()
    assert await states(store) == [("t", "running")]
    assert await journalled(store)(repeat_last)([A]) == "re: a"
    assert (await states(store), await store.load("s")) == ([], [A, B])


async def test_a_call_that_is_finalized_leaves_its_turn_running(store):
    async def model(messages):
        await Never()

    calling = journalled(store, overlap="append")(model)([A])
    await UntilNever(calling)
    calling.close()
    assert await states(store) == [("t", "running")]


# Failures of the journal


async def recording(**answers):
    """Return a recording store that loads an empty history, and gives the other answers."""
    empty = await InMemorySessionStore().load("s")
    return recording_class("TurnJournal")(load=empty, **answers)


@pytest.mark.parametrize(
    ("failure", "text"),
    [(SessionError("disk full", session_id="s"), "session 's': disk full"), (Boom("a"), "Boom")],
    ids=["error", "foreign error"],
)
async def test_a_journal_that_cannot_mark_a_failed_turn_says_so_in_the_log(caplog, failure, text):
    store = await recording(fail=failure)
    with pytest.raises(Boom) as caught, caplog.at_level(logging.WARNING, "tower_memory"):
        await journalled(store)(fail)([A])
    assert caught.value is not failure
    assert [record.getMessage() for record in caplog.records] == [
        f"session 's': the pending turn 't' could not be marked as failed: {text}"
    ]
    (record,) = caplog.records
    assert (record.event, record.session_id, record.turn_id) == ("unmarked", "s", "t")
    assert [name for name, *_ in store.calls] == ["load", "begin", "fail"]


async def test_marking_a_failed_turn_takes_at_most_the_grace(caplog):
    class Hanging(recording_class("TurnJournal")):
        async def fail(self, *args, **kwargs):
            await anyio.sleep_forever()

    store = Hanging(load=await InMemorySessionStore().load("s"))
    started = anyio.current_time()
    with pytest.raises(Boom), caplog.at_level(logging.WARNING, "tower_memory"):
        await journalled(store, grace=0)(fail)([A])
    assert caplog.records[0].getMessage().endswith("could not be marked as failed: TimeoutError")
    assert anyio.current_time() < started + 5


async def test_an_error_of_begin_is_raised_before_the_model_call():
    failure = SessionError("disk full", session_id="s")
    store = await recording(begin=failure)
    with pytest.raises(SessionError) as caught:
        await journalled(store)(must_not_be_called)([A])
    assert caught.value is failure
    assert [name for name, *_ in store.calls] == ["load", "begin"]


# Parameters


@pytest.mark.parametrize("overlap", ["serialize", "append"])
def test_a_journal_needs_a_store_that_keeps_pending_turns(overlap):
    plain = recording_class()()
    with pytest.raises(TypeError, match="journal=True needs a store that is a TurnJournal, got"):
        MemoryLayer.over(plain, session_id="s", overlap=overlap, journal=True)
    for wrapped in (plain, InMemorySessionStore()):
        store = ScopedStore(wrapped, "anna")
        if wrapped is plain:
            with pytest.raises(TypeError, match="got .*; pass such a store, or journal=False"):
                MemoryLayer.over(store, session_id="s", overlap=overlap, journal=True)
        else:
            MemoryLayer.over(store, session_id="s", overlap=overlap, journal=True)


def test_a_journal_needs_a_store_that_is_visible():
    async def save(turn):
        return 1

    load = LoadSession(InMemorySessionStore())
    with pytest.raises(TypeError, match="TurnJournal, none is visible behind save"):
        MemoryLayer(load, save, session_id="s", overlap="append", journal=True)


@pytest.mark.parametrize("bad", [None, 1, "yes", InMemorySessionStore()])
def test_journal_must_be_true_or_false(bad):
    with pytest.raises(TypeError, match="journal must be True or False, got"):
        MemoryLayer.over(InMemorySessionStore(), session_id="s", journal=bad)


# With other layers


async def test_retries_inside_memory_share_one_pending_turn(store):
    begun = []

    class Watched(FlakyModel):
        async def __call__(self, messages):
            begun.extend(await states(store))
            return await super().__call__(messages)

    service = journalled(store)(RetryLayer(on=at_once)(Watched(2)))
    assert await service([A]) == "through"
    assert begun == [("t", "running")] * 3
    assert await states(store) == []


async def test_each_retry_outside_memory_begins_the_turn_again(store):
    service = RetryLayer(on=at_once)(journalled(store)(FlakyModel(2)))
    assert await service([A]) == "through"
    assert (await states(store), len(await store.load("s"))) == ([], 2)


async def test_a_journal_of_a_tenant_is_that_of_its_scope():
    store = InMemorySessionStore()
    with pytest.raises(Boom):
        await journalled(ScopedStore(store, "anna"))(fail)([A])
    assert await states(ScopedStore(store, "anna")) == [("t", "failed")]
    assert await states(ScopedStore(store, "ben")) == []


# Cancellation


@every_cancellation
@pytest.mark.parametrize("overlap", ["serialize", "append"])
async def test_a_cancelled_turn_is_pending_or_whole_once_it_has_begun(path, cancelled, overlap):
    called, answered = set(), set()

    async def model(request):
        called.add(request["nth"])
        await anyio.lowlevel.checkpoint()
        answered.add(request["nth"])
        return "b"

    async with SqliteSessionStore(path) as store:
        memory = journalled(store, session_id=lambda request: f"s{request['nth']}", overlap=overlap)

        async def check(nth, reply, was_cancelled):
            await assert_store_works(store)  # a write that was cancelled natively is over then
            whole, pending = list(await store.load(f"s{nth}")), await states(store, f"s{nth}")
            assert (bool(whole), bool(pending)) != (True, True)
            assert whole in ([], ITEMS)
            assert {state for _, state in pending} <= {"failed", "running"}
            if nth in called:
                assert whole or pending
            if cancelled is by_scope:
                assert was_cancelled == (nth not in answered)
                assert bool(whole) == (nth in answered)
                assert pending in ([], [("t", "failed")])
            if not was_cancelled:
                assert (reply, whole) == ("b", ITEMS)
            assert_no_lock_is_left()

            # A retry in the same process answers the question in any case.
            if not whole:
                await memory(model)({"nth": nth, "messages": ITEMS[:1]})
            assert (list(await store.load(f"s{nth}")), await states(store, f"s{nth}")) == (
                ITEMS,
                [],
            )

        await cancel_at_every_suspension(
            lambda nth: memory(model)({"nth": nth, "messages": ITEMS[:1]}), cancelled, check
        )
        assert answered


@every_cancellation
async def test_a_cancelled_stream_is_pending_or_whole_once_it_has_begun(path, cancelled):
    called, ended = set(), set()

    async def chunks(nth):
        await anyio.lowlevel.checkpoint()
        yield "b"
        ended.add(nth)

    async def model(request):
        called.add(request["nth"])
        return chunks(request["nth"])

    async with SqliteSessionStore(path) as store:
        memory = journalled(store, session_id=lambda request: f"s{request['nth']}")

        async def read(nth):
            async with await memory(model)({"nth": nth, "messages": ITEMS[:1]}) as stream:
                return [chunk async for chunk in stream]

        async def check(nth, reply, was_cancelled):
            await assert_store_works(store)  # a write that was cancelled natively is over then
            whole, pending = list(await store.load(f"s{nth}")), await states(store, f"s{nth}")
            assert (bool(whole), bool(pending)) != (True, True)
            assert whole in ([], ITEMS)
            if nth in called:
                assert whole or pending
            if cancelled is by_scope:
                assert bool(whole) == (nth in ended)
                assert pending in ([], [("t", "failed")])
            if not was_cancelled:
                assert (reply, whole) == (["b"], ITEMS)
            assert_no_lock_is_left()

        await cancel_at_every_suspension(read, cancelled, check)
        assert ended


@every_cancellation
async def test_a_failed_turn_is_marked_even_if_its_caller_is_cancelled_meanwhile(path, cancelled):
    called = set()

    async def model(request):
        called.add(request["nth"])
        raise Boom

    async with SqliteSessionStore(path) as store:
        memory = journalled(store, session_id=lambda request: f"s{request['nth']}")

        async def call(nth):
            with pytest.raises(Boom):
                await memory(model)({"nth": nth, "messages": ITEMS[:1]})

        async def check(nth, _reply, _was_cancelled):
            await assert_store_works(store)  # a write that was cancelled natively is over then
            if nth in called:
                assert await states(store, f"s{nth}") == [("t", "failed")]

        await cancel_at_every_suspension(call, cancelled, check)
        assert called


async def test_the_grace_of_a_journal_may_be_infinite(store):
    with pytest.raises(Boom):
        await journalled(store, grace=inf)(fail)([A])
    assert await states(store) == [("t", "failed")]
