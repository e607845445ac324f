"""Cancellation at every await of a caller, of a stop, of a call, and of leaving the layer."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from helpers.cancelling import (
    CancelAtSuspension,
    cancel_at_every_suspension,
    every_cancellation,
)
from helpers.feeds import asked, generated, resumable_layer, turn_id_of
from helpers.internals import RunningCall
from helpers.locks import assert_no_lock_is_left
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.streams import TextStream, read_all
from helpers.waiting import until
from tower_memory import InMemorySessionStore, MemoryLayer
from tower_memory.resumable import CallStopped

WHOLE = [user("Hi"), assistant("abc")]
kinds = pytest.mark.parametrize("wrap", [None, generated], ids=["iterator", "generator"])


def part(text):
    """Return the items of a reply that was stopped after *text*."""
    return [user("Hi"), assistant(f"{text}\n\n{INTERRUPTED_REPLY}")]


class Chat:
    """A resumable service with memory; the key of a call is its turn and its session.

    Its streams are "abc", and then end or hang.
    """

    def __init__(self, wrap, at_the_end=None):
        self.store = InMemorySessionStore()
        self.layer = resumable_layer(exit_seconds=0)
        self.memory = MemoryLayer.over(
            self.store,
            session_id=turn_id_of,
            turn_id=turn_id_of,
            keep_interrupted=True,
            journal=True,
        )

        async def ask(request):
            stream = TextStream("abc", at_the_end)
            return wrap(stream) if wrap else stream

        self.chat = self.layer(self.memory(ask))

    async def saved(self, key):
        """Return the items of the turn, and the states of the pending turns of its session."""
        pending = [each.state for each in await self.store.pending(key)]
        return list(await self.store.load(key)), pending


@kinds
@every_cancellation
async def test_a_caller_that_is_cancelled_at_any_await_does_not_end_the_call(cancelled, wrap):
    chat = Chat(wrap)

    async def call_and_read(nth):
        async with await chat.chat(asked(str(nth))) as stream:
            return await read_all(stream)

    async def check(nth, chunks, was_cancelled):
        assert was_cancelled or chunks == [*"abc"]
        assert await read_all(await chat.layer.join(str(nth))) == [*"abc"]
        assert await chat.saved(str(nth)) == (WHOLE, [])

    async with chat.layer:
        await cancel_at_every_suspension(call_and_read, cancelled, check)
    assert_no_lock_is_left()


@kinds
@every_cancellation
async def test_a_stop_that_is_cancelled_at_any_await_stops_the_call(cancelled, wrap):
    chat = Chat(wrap, anyio.sleep_forever)
    stopped = {}

    async def read_and_stop(nth):
        stream = await chat.chat(asked(str(nth)))
        assert [await anext(stream) for _ in range(3)] == [*"abc"]
        stopped[nth] = stream
        return await chat.layer.stop(str(nth))

    async def check(nth, was_running, was_cancelled):
        if nth in stopped:
            assert was_cancelled or was_running
            await until(lambda: not chat.layer.running())
            assert await chat.saved(str(nth)) == (part("abc"), [])
            assert await read_all(stopped[nth]) == []
        else:  # it was cancelled before
            await chat.layer.stop(str(nth))

    async with chat.layer:
        await cancel_at_every_suspension(read_and_stop, cancelled, check)
    assert_no_lock_is_left()


@kinds
@pytest.mark.parametrize(
    ("anyio_backend", "end"),
    [
        pytest.param("asyncio", "stop", id="asyncio"),
        pytest.param("trio", "stop", id="trio"),
        pytest.param("asyncio", "abort", id="abort"),
        pytest.param("trio", "abort", id="abort on trio"),
        pytest.param("asyncio", "cancel", id="natively"),
    ],
)
async def test_a_call_that_is_ended_at_any_await_is_saved_whole_or_in_part_or_has_failed(
    monkeypatch, end, wrap
):
    chat = Chat(wrap)
    run = RunningCall.run
    suspended = []

    async def run_and_end(call):
        native = asyncio.current_task().cancel if end == "cancel" else None
        nth = len(suspended) + 1
        suspended.append(CancelAtSuspension(run(call), nth, native or getattr(call, end)))
        await suspended[-1]

    async def read(key):
        """Return the chunks of the call, and whether it was stopped."""
        try:
            stream = await chat.chat(asked(key))
            return await read_all(stream), stream.is_stopped
        except CallStopped:
            return [], True

    monkeypatch.setattr(RunningCall, "run", run_and_end)
    idle = len(anyio.get_running_tasks())
    async with chat.layer:
        nth = 0
        while nth == 0 or suspended[-1].reached:
            nth += 1
            chunks, is_stopped = await read(str(nth))
            items, pending = await chat.saved(str(nth))
            if not is_stopped:
                assert (chunks, items, pending) == ([*"abc"], WHOLE, [])
            elif chunks:
                # Native cancellation also passes the shield of a save, which is whole or absent.
                during_save = [WHOLE, []] if end == "cancel" and chunks == [*"abc"] else []
                assert items in [part("".join(chunks)), *during_save]
                assert pending == ([] if items else ["failed"])
            else:
                assert (items, pending) in (([], []), ([], ["failed"]))
    assert nth > 4
    assert_no_lock_is_left()
    assert len(anyio.get_running_tasks()) == idle


@kinds
@every_cancellation
async def test_leaving_that_is_cancelled_at_any_await_leaves_no_task(cancelled, wrap):
    idle = len(anyio.get_running_tasks())
    chats = []

    async def serve(nth):
        chat = Chat(wrap, anyio.sleep_forever)
        chats.append(chat)
        async with chat.layer:
            stream = await chat.chat(asked())
            return [await anext(stream) for _ in range(3)]

    async def check(nth, chunks, was_cancelled):
        assert chats[-1].layer.running() == ()
        items, pending = await chats[-1].saved("t1")
        assert (items, pending) in [
            *(([], []), ([], ["failed"])),
            *((part(text), []) for text in ("a", "ab", "abc")),
        ]
        assert was_cancelled or items == part("abc")
        assert_no_lock_is_left()
        await until(lambda: len(anyio.get_running_tasks()) <= idle + 1)

    await cancel_at_every_suspension(serve, cancelled, check)
