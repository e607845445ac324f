"""The renewals of the leases of turns in progress, with journal=True."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextlib import nullcontext
from contextvars import ContextVar

import anyio
import pytest
from trio.testing import MockClock

from helpers.internals import KeptLease, process_owner, renew_every, set_lease
from helpers.journals import Never, UntilNever, journalled, states
from helpers.locks import count_enclosing_turns
from helpers.messages import assistant, user
from helpers.recording_store import recording_class
from helpers.services import BlockingModel, Boom, repeat_last
from helpers.streams import TextStream, read_all
from helpers.waiting import until
from tower_memory import (
    InMemorySessionStore,
    SessionCleared,
    SessionConflict,
    SessionError,
    Turn,
    TurnExists,
)
from tower_memory.bridges import ThreadedStore

A, B = user("a"), assistant("re: a")

KEEPER = "tower_memory lease keeper"
PAUSE = 0.001

with_frozen_clock = pytest.mark.parametrize(
    "anyio_backend",
    [pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="trio")],
)
"""Run a test on trio alone, with a clock that jumps to the end of each sleep."""


@pytest.fixture
def at_once(monkeypatch):
    """Renew leases with pauses that are only long enough to let the threads of stores run."""
    renew_every(monkeypatch, PAUSE)


async def lease_end(store, session_id="s"):
    (pending,) = await store.pending(session_id)
    return pending.lease_until


async def until_renewed(store, session_id="s"):
    """Wait until the lease of a pending turn was renewed twice."""
    with anyio.fail_after(60):
        for _ in range(2):
            last = await lease_end(store, session_id)
            while await lease_end(store, session_id) == last:
                await anyio.lowlevel.checkpoint()


def task_ids():
    """Return the ids of all tasks of this event loop."""
    return {each.id for each in anyio.get_running_tasks()}


def count_keepers():
    """Return the number of tasks that renew leases in this event loop."""
    return sum(each.name == KEEPER for each in anyio.get_running_tasks())


async def until_no_keeper():
    """Wait until no task renews leases; leave the interpreter to the threads of stores."""
    with anyio.fail_after(60):
        while count_keepers() > 0:  # noqa: ASYNC110 - no event tells it
            await anyio.sleep(PAUSE)


class Watched(recording_class("TurnJournal")):
    """A store that records its calls, and calls a function before some of them.

    Attributes:
        before: Async functions without parameters, by the names of the methods.
    """

    def __init__(self, store=None):
        super().__init__()
        self.store = InMemorySessionStore() if store is None else store
        self.before = {}

    async def record(self, name, args, kwargs):
        await super().record(name, args, kwargs)
        if name in self.before:
            await self.before[name]()
        return await getattr(self.store, name)(*args, **kwargs)

    def count(self, name):
        return sum(called == name for called, *_ in self.calls)


def waiting_for(event, *, shield=True):
    """Return a function that waits for *event*, and with *shield* cannot be cancelled."""

    async def wait():
        with anyio.CancelScope(shield=shield):
            await event.wait()

    return wait


# Turns in progress


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_call_renews_its_lease_until_its_end(store, overlap):
    async def model(messages):
        await until_renewed(store)
        assert (await states(store), await store.load("s")) == ([("t", "running")], [])
        return await repeat_last(messages)

    assert await journalled(store, overlap=overlap)(model)([A]) == "re: a"
    await until_no_keeper()
    assert (await states(store), await store.load("s")) == ([], [A, B])


@pytest.mark.usefixtures("at_once")
async def test_an_open_stream_that_no_task_reads_renews_its_lease(store):
    async def model(messages):
        return TextStream("re: a")

    stream = await journalled(store)(model)([A])
    await until_renewed(store)
    assert await anext(stream) == "r"
    await until_renewed(store)
    assert await states(store) == [("t", "running")]

    await read_all(stream)
    await until_no_keeper()
    assert (await states(store), await store.load("s")) == ([], [A, B])


@with_frozen_clock
async def test_a_lease_is_renewed_every_20_seconds():
    store, times = Watched(), []

    async def note_time():
        times.append(anyio.current_time())

    async def model(messages):
        store.before["begin"] = note_time
        await anyio.sleep(90)
        return await repeat_last(messages)

    begun = anyio.current_time()
    await journalled(store)(model)([A])
    assert [time - begun for time in times] == pytest.approx([20, 40, 60, 80])


@pytest.mark.usefixtures("at_once")
async def test_a_turn_whose_lease_has_ended_while_the_process_slept_is_renewed(store, monkeypatch):
    async def model(messages):
        set_lease(monkeypatch, 60.0)
        await until_renewed(store)
        assert await states(store) == [("t", "running")]
        return await repeat_last(messages)

    set_lease(monkeypatch, 1e-9)
    await journalled(store)(model)([A])


# The task of the event loop


@pytest.mark.usefixtures("at_once")
async def test_many_turns_share_one_task_and_leave_none(store):
    before = task_ids()
    model = BlockingModel()
    service = journalled(
        store, session_id=lambda request: request[0]["content"], turn_id=None, overlap="append"
    )(model)
    sessions = [f"s{n}" for n in range(8)]

    async with anyio.create_task_group() as tasks:
        for session_id in sessions:
            tasks.start_soon(service, [user(session_id)])
        await until(lambda: model.under_way == len(sessions))
        assert count_keepers() == 1
        for session_id in sessions:
            await until_renewed(store, session_id)
        assert count_keepers() == 1
        model.go_on.set()

    await until(lambda: task_ids() == before)


@pytest.mark.parametrize("is_stream", [False, True], ids=["reply", "stream"])
@pytest.mark.parametrize("has_failed", [False, True], ids=["saved", "failed"])
async def test_no_task_is_left_after_a_turn(store, is_stream, has_failed):
    before = task_ids()

    async def fail():
        raise Boom

    async def model(messages):
        assert count_keepers() == 1
        if is_stream:
            return TextStream("re: a", fail if has_failed else None)
        return await (fail() if has_failed else repeat_last(messages))

    async def call():
        reply = await journalled(store)(model)([A])
        if is_stream:
            await read_all(reply)

    for _ in range(2):
        if has_failed:
            with pytest.raises(Boom):
                await call()
        else:
            await call()
        await until(lambda: task_ids() == before)
        await store.clear("s")


@pytest.mark.usefixtures("at_once")
async def test_renewals_are_part_of_no_turn_and_see_no_variable_of_the_caller():
    store, seen = Watched(), []
    variable = ContextVar("variable", default="neutral")

    async def look():
        seen.append((count_enclosing_turns(), variable.get()))

    async def model(messages):
        store.before["pending"] = look
        await until(lambda: seen)
        return await repeat_last(messages)

    variable.set("of the caller")
    await journalled(store)(model)([A])
    assert {*seen} == {(0, "neutral")}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_next_turn_starts_the_task_anew_if_it_was_cancelled(store):
    async def cancel_keeper():
        (task,) = (each for each in asyncio.all_tasks() if each.get_name() == KEEPER)
        task.cancel()
        await asyncio.wait([task])
        assert count_keepers() == 0

    async def inner(messages):
        for session_id in ("s", "other"):
            await until_renewed(store, session_id)
        return await repeat_last(messages)

    async def outer(messages):
        await cancel_keeper()
        return await journalled(store, session_id="other")(inner)(messages)

    assert await journalled(store)(outer)([A]) == "re: a"
    await until_no_keeper()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_turn_ends_without_an_error_after_the_task_was_cancelled_before_its_start(store):
    async def model(messages):
        for task in asyncio.all_tasks():
            if task.get_name() == KEEPER:  # it has not run yet
                task.cancel()
        return await repeat_last(messages)

    for _ in range(2):
        await journalled(store, turn_id=None)(model)([A])
    await until_no_keeper()
    assert len((await store.load("s")).turns) == 2


@pytest.mark.usefixtures("at_once")
def test_a_call_in_the_loop_of_a_threaded_store_renews_its_lease():
    store = ThreadedStore(InMemorySessionStore())

    async def model(messages):
        await until_renewed(store)
        return await repeat_last(messages)

    async def call():
        reply = await journalled(store)(model)([A])
        await until_no_keeper()
        return reply

    assert store.run(call) == "re: a"
    assert store.blocking.pending("s") == []
    anyio.run(store.aclose)


@pytest.mark.usefixtures("at_once")
async def test_a_call_renews_its_lease_in_a_store_of_another_event_loop():
    store = ThreadedStore(InMemorySessionStore())

    async def model(messages):
        await until_renewed(store)
        return await repeat_last(messages)

    assert await journalled(store)(model)([A]) == "re: a"
    await until_no_keeper()
    await store.aclose()


# Turns that are not renewed any more


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("in_thread", [False, True], ids=["same thread", "other thread"])
@pytest.mark.parametrize("overlap", ["serialize", "append"])
async def test_a_stream_that_is_dropped_is_not_renewed_any_more(store, overlap, in_thread):
    async def model(messages):
        return TextStream("re: a")

    streams = [await journalled(store, overlap=overlap)(model)([A])]
    await anext(streams[0])
    await until_renewed(store)

    if in_thread:
        dropping = threading.Thread(target=streams.clear)
        dropping.start()
        dropping.join()
    else:
        streams.clear()
    gc.collect()
    await until_no_keeper()
    assert await states(store) == [("t", "running")]  # until its lease ends


async def test_a_call_that_is_finalized_is_not_renewed_any_more(store):
    async def model(messages):
        await Never()

    calling = journalled(store, overlap="append")(model)([A])
    await UntilNever(calling)
    assert count_keepers() == 1
    calling.close()
    await until_no_keeper()
    assert await states(store) == [("t", "running")]


async def take_over(store):
    await store.begin(Turn("s", [A], turn_id="t"), lease=600, owner="another process")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda store: store.forget("s", "t"), []),
        (lambda store: store.clear("s"), []),
        (lambda store: store.erase(session_id="s"), []),
        (lambda store: store.append(Turn("s", [A], turn_id="t")), []),
        (lambda store: store.fail("s", "t", owner=process_owner()), [("t", "failed")]),
        (take_over, [("t", "running")]),
    ],
    ids=["forgotten", "cleared", "erased", "saved", "failed", "taken over"],
)
async def test_a_turn_that_is_over_or_has_another_owner_is_not_touched(
    store, end, expected, caplog, monkeypatch
):
    watched, ends = Watched(store), []

    async def end_before_the_renewal():
        del watched.before["pending"]
        await end(store)
        ends.extend(each.lease_until for each in await store.pending("s"))

    async def model(messages):
        watched.before["pending"] = end_before_the_renewal
        await until_no_keeper()
        assert await states(store) == expected
        assert [each.lease_until for each in await store.pending("s")] == ends
        raise Boom

    set_lease(monkeypatch, 1e-9 if end is take_over else 60.0)
    with pytest.raises(Boom), caplog.at_level(logging.WARNING, "tower_memory"):
        await journalled(watched)(model)([A])
    assert await states(store) == expected
    assert caplog.records == []


@pytest.mark.usefixtures("at_once")
async def test_a_turn_that_its_session_would_refuse_is_not_renewed_any_more(store, caplog):
    async def model(messages):
        await store.append(Turn("s", [A]))
        await until_no_keeper()
        return "re: a"

    with pytest.raises(SessionConflict) as caught, caplog.at_level(logging.WARNING, "tower_memory"):
        await journalled(store, overlap="reject")(model)([A])
    assert caught.value.response == "re: a"
    assert caplog.records == []


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda store: store.erase(session_id="s"), SessionCleared),
        (lambda store: store.append(Turn("s", [A, A], turn_id="t")), TurnExists),
        (lambda store: store.forget("s", "t"), None),
    ],
    ids=["erased", "saved", "forgotten"],
)
async def test_a_turn_that_ends_during_its_renewal_does_not_come_back(store, end, error, caplog):
    watched = Watched(store)

    async def end_in_the_renewal():
        del watched.before["begin"]
        await end(store)

    async def model(messages):
        watched.before["begin"] = end_in_the_renewal
        await until_no_keeper()
        assert await states(store) == []
        return "re: a"

    expected = nullcontext() if error is None else pytest.raises(error)
    with expected, caplog.at_level(logging.WARNING, "tower_memory"):
        await journalled(watched)(model)([A])
    assert await states(store) == []
    assert caplog.records == []


@pytest.mark.usefixtures("at_once")
async def test_a_failed_turn_stays_failed_though_its_renewal_was_in_progress():
    store, go_on = Watched(), anyio.Event()

    async def model(messages):
        store.before["begin"] = waiting_for(go_on)
        await until(lambda: store.count("begin") == 2)
        raise Boom

    async def call():
        with pytest.raises(Boom):
            await journalled(store)(model)([A])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await until(lambda: store.count("begin") == 2)
        for _ in range(20):  # the call has failed by now, and waits
            await anyio.lowlevel.checkpoint()
        assert store.count("fail") == 0
        go_on.set()

    assert await states(store) == [("t", "failed")]
    await until_no_keeper()


async def test_a_lease_that_has_ended_is_not_renewed_by_a_renewal_that_comes_late():
    called = []

    async def renew():
        called.append(1)
        return True

    lease = KeptLease()
    lease.start(renew)
    await lease.renew_once(renew)
    lease.end()
    await lease.renew_once(renew)
    assert called == [1]
    await until_no_keeper()


# Failures


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", ["pending", "begin"])
@pytest.mark.parametrize(
    ("failure", "text"),
    [(SessionError("disk full", session_id="s"), "session 's': disk full"), (Boom("a"), "Boom")],
    ids=["error", "foreign error"],
)
async def test_a_renewal_that_fails_is_logged_once_and_tried_again(caplog, name, failure, text):
    store = Watched()

    async def fail():
        raise failure

    async def model(messages):
        store.before[name] = fail
        calls = store.count(name)
        await until(lambda: store.count(name) > calls + 2)
        del store.before[name]
        await until_renewed(store.store)
        return await repeat_last(messages)

    with caplog.at_level(logging.WARNING, "tower_memory"):
        assert await journalled(store)(model)([A]) == "re: a"
    assert [record.getMessage() for record in caplog.records] == [
        f"session 's': the lease of the pending turn 't' could not be renewed: {text}"
    ]
    (record,) = caplog.records
    assert (record.event, record.session_id, record.turn_id) == ("unrenewed", "s", "t")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_store_that_raises_a_cancellation_of_its_own_stops_no_renewals(caplog):
    store = Watched()

    async def cancel():
        raise asyncio.CancelledError

    async def model(messages):
        store.before["pending"] = cancel
        await until(lambda: store.count("pending") > 2)
        del store.before["pending"]
        await until_renewed(store.store)
        return await repeat_last(messages)

    with caplog.at_level(logging.WARNING, "tower_memory"):
        assert await journalled(store)(model)([A]) == "re: a"
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "CancelledError"
    ]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("is_shielded", [False, True], ids=["plain", "shielded"])
async def test_a_store_that_hangs_delays_no_turn_of_another_store(is_shielded):
    hanging, other, go_on = Watched(), InMemorySessionStore(), anyio.Event()
    before = task_ids()

    async def inner(messages):
        hanging.before["pending"] = waiting_for(go_on, shield=is_shielded)
        await until(lambda: hanging.count("pending"))
        await until_renewed(other)
        assert hanging.count("pending") == 1  # a turn has one renewal at a time
        return await repeat_last(messages)

    async def outer(messages):
        return await journalled(other)(inner)(messages)

    assert await journalled(hanging)(outer)([A]) == "re: a"
    if is_shielded:
        go_on.set()
    await until(lambda: task_ids() == before)


@with_frozen_clock
async def test_a_renewal_that_hangs_is_cancelled_after_10_seconds_and_tried_again(caplog):
    store, times = Watched(), []

    async def hang():
        started = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            times.append((started, anyio.current_time()))

    async def model(messages):
        store.before["pending"] = hang
        await anyio.sleep(55)
        return await repeat_last(messages)

    begun = anyio.current_time()
    with caplog.at_level(logging.WARNING, "tower_memory"):
        assert await journalled(store)(model)([A]) == "re: a"
    spans = [moment - begun for span in times for moment in span]
    assert spans == pytest.approx([20, 30, 40, 50])
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "TimeoutError"
    ]


@pytest.mark.usefixtures("at_once")
async def test_a_turn_that_fails_during_a_renewal_that_hangs_waits_for_it_at_most_the_grace(
    caplog, monkeypatch
):
    store, go_on = Watched(), anyio.Event()

    async def model(messages):
        store.before["pending"] = waiting_for(go_on)
        await until(lambda: store.count("pending"))
        raise Boom

    with pytest.raises(Boom), caplog.at_level(logging.WARNING, "tower_memory"):
        await journalled(store, grace=0)(model)([A])
    assert [record.event for record in caplog.records] == ["unmarked"]
    go_on.set()
    await until_no_keeper()
    assert await states(store) == [("t", "running")]
