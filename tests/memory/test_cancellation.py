"""Turns and streams that are cancelled at each of their suspensions.

They are cancelled by an anyio scope and natively.
"""

from __future__ import annotations

import anyio
import pytest

from helpers.cancelling import by_scope, cancel_at_every_suspension, every_cancellation
from helpers.layers import memory_over
from helpers.locks import assert_no_lock_is_left
from helpers.stores import ITEMS, assert_store_works
from tower_memory import SqliteSessionStore


@every_cancellation
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_turn_whose_model_answered_is_saved_and_returned(path, cancelled, overlap):
    answered = set()

    async def model(request):
        await anyio.lowlevel.checkpoint()
        answered.add(request["nth"])
        return "b"

    async with SqliteSessionStore(path) as store:
        memory = memory_over(
            store,
            session_id=lambda request: f"s{request['nth']}",
            turn_id=lambda request: "t",
            overlap=overlap,
        )

        async def check(nth, reply, was_cancelled):
            history = await store.load(f"s{nth}")
            assert list(history) in ([], ITEMS)
            if cancelled is by_scope:
                assert was_cancelled == (nth not in answered)
            if was_cancelled and nth not in answered:
                assert history.revision == 0
            if not was_cancelled:
                assert (reply, list(history)) == ("b", ITEMS)
            assert_no_lock_is_left()
            await assert_store_works(store)

        await cancel_at_every_suspension(
            lambda nth: memory(model)({"nth": nth, "messages": ITEMS[:1]}), cancelled, check
        )
        assert answered


@every_cancellation
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_stream_is_saved_if_it_ended_and_frees_its_session_if_not(
    path, cancelled, overlap, keep
):
    ended = set()

    async def chunks(nth):
        for chunk in "bc":
            await anyio.lowlevel.checkpoint()
            yield chunk
        ended.add(nth)

    async def model(request):
        await anyio.lowlevel.checkpoint()
        return chunks(request["nth"])

    async with SqliteSessionStore(path) as store:
        memory = memory_over(
            store,
            session_id=lambda request: f"s{request['nth']}",
            overlap=overlap,
            keep_interrupted=keep,
        )

        async def read(nth):
            async with await memory(model)({"nth": nth, "messages": ITEMS[:1]}) as stream:
                return [chunk async for chunk in stream]

        async def check(nth, read, was_cancelled):
            contents = [item["content"] for item in await store.load(f"s{nth}")]
            mark = "\n\n(interrupted: this reply is not complete)"
            parts = [["a", f"{text}{mark}"] for text in ("b", "bc") if keep]
            assert contents in ([], ["a", "bc"], *parts)
            if cancelled is by_scope:
                assert was_cancelled == (nth not in ended)
                assert (contents == ["a", "bc"]) == (nth in ended)
            if not was_cancelled:
                assert (read, contents) == (["b", "c"], ["a", "bc"])
            assert_no_lock_is_left()
            await assert_store_works(store)

        await cancel_at_every_suspension(read, cancelled, check)
        assert ended
