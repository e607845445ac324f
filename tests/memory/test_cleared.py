"""Sessions that are cleared or erased while a turn is in progress: the turn does not revive them."""

from __future__ import annotations

import anyio
import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.services import BlockingModel, repeat_last
from helpers.streams import TextStream, raise_boom, read_all
from helpers.waiting import until
from tower_memory import (
    LoadSession,
    MemoryLayer,
    SaveSession,
    SessionCleared,
    SessionError,
    Turn,
)

OVERLAPS = ["serialize", "append", "reject"]
every_overlap = pytest.mark.parametrize("overlap", OVERLAPS)


async def clear(store):
    await store.clear("s")


async def erase(store):
    await store.erase(session_id="s")


every_removal = pytest.mark.parametrize("remove", [clear, erase])


async def fill(store, is_new):
    if not is_new:
        await store.append(Turn("s", [user("old")]))


def removing(store, remove, answer):
    """Return a model that removes the session and then gives the answer to the last message."""

    async def model(messages):
        await remove(store)
        return answer(f"re: {messages[-1]['content']}")

    return model


@every_overlap
@every_removal
@pytest.mark.parametrize("is_new", [False, True])
async def test_a_turn_whose_session_is_removed_meanwhile_raises_with_its_reply(
    store, overlap, remove, is_new
):
    await fill(store, is_new)
    service = memory_over(store, overlap=overlap)(removing(store, remove, str))
    with pytest.raises(SessionCleared, match="session 's': it was cleared or erased") as caught:
        await service([user("a")])

    error = caught.value
    assert error.response == "re: a"
    assert error.turn.items == (user("a"), assistant("re: a"))
    assert isinstance(error.__cause__, SessionCleared)
    assert await store.load("s") == []


@every_overlap
@every_removal
async def test_a_stream_whose_session_is_removed_meanwhile_raises_in_place_of_its_end(
    store, overlap, remove
):
    await fill(store, is_new=False)
    service = memory_over(store, overlap=overlap)(removing(store, remove, TextStream))
    stream = await service([user("a")])
    with pytest.raises(SessionCleared) as caught:
        await read_all(stream)

    assert caught.value.response.chunks == tuple("re: a")
    assert caught.value.turn.items == (user("a"), assistant("re: a"))
    assert await store.load("s") == []


@every_removal
async def test_a_closed_stream_whose_session_is_removed_meanwhile_raises_at_its_close(
    store, remove
):
    await fill(store, is_new=False)
    stream = await memory_over(store, keep_interrupted=True)(removing(store, remove, TextStream))(
        [user("a")]
    )
    assert await anext(stream) == "r"
    with pytest.raises(SessionCleared) as caught:
        await stream.aclose()

    assert caught.value.response.interrupted
    assert caught.value.turn.items[0] == user("a")
    assert await store.load("s") == []


async def test_a_stream_that_fails_after_its_session_was_cleared_raises_that_it_was_cleared(store):
    """The error of the stream is the context of the error of the save."""

    def failing(text):
        return TextStream(text, raise_boom)

    await fill(store, is_new=False)
    service = memory_over(store, keep_interrupted=True)(removing(store, clear, failing))
    stream = await service([user("a")])
    with pytest.raises(SessionCleared) as caught:
        await read_all(stream)
    assert caught.value.response.interrupted
    assert await store.load("s") == []


async def test_a_turn_of_a_cleared_session_can_be_saved_after_all(store):
    await fill(store, is_new=False)
    with pytest.raises(SessionCleared) as caught:
        await memory_over(store)(removing(store, clear, str))([user("a")])

    turn = caught.value.turn
    with pytest.raises(SessionCleared):
        await store.append(turn)
    await store.append(Turn(turn.session_id, turn.items, turn_id=turn.turn_id))
    assert await store.load("s") == [user("a"), assistant("re: a")]


@every_overlap
async def test_a_turn_that_begins_after_the_session_was_cleared_is_saved(store, overlap):
    service = memory_over(store, overlap=overlap)(repeat_last)
    await service([user("a")])
    await store.clear("s")
    await service([user("b")])
    assert await store.load("s") == [user("b"), assistant("re: b")]


@pytest.mark.parametrize(
    "overlap", ["serialize", "append"]
)  # with "reject", a change is a conflict
async def test_items_popped_or_added_meanwhile_clear_nothing(store, overlap):
    await store.append(Turn("s", [user("old")]))

    async def model(messages):
        await store.append(Turn("s", [user("between")]))
        await store.pop("s")
        return await repeat_last(messages)

    await memory_over(store, overlap=overlap)(model)([user("a")])
    assert await store.load("s") == [user("old"), user("a"), assistant("re: a")]


async def test_a_waiting_turn_is_saved_if_the_session_was_cleared_before_its_load(store):
    """It waited for the turn during which the session was cleared; only that turn is refused."""
    model, outcomes = BlockingModel(), []
    service = memory_over(store)(model)

    async def call(text):
        try:
            outcomes.append(await service([user(text)]))
        except SessionError as error:
            outcomes.append(type(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, "first")
        await until(lambda: model.called)
        tasks.start_soon(call, "second")
        await store.clear("s")
        model.go_on.set()

    assert outcomes == [SessionCleared, "re: second"]
    assert await store.load("s") == [user("second"), assistant("re: second")]


async def test_a_repeatable_turn_of_a_cleared_session_raises_that_it_was_cleared(store):
    layer = memory_over(store, turn_id=lambda messages: messages[-1]["content"])
    await layer(repeat_last)([user("a")])
    with pytest.raises(SessionCleared) as caught:
        await layer(removing(store, clear, str))([user("b")])
    assert caught.value.turn.turn_id == "b"
    assert await store.load("s") == []


async def test_a_store_behind_a_function_is_locked_if_it_is_given(store):
    """The layer cannot look through the function; its calls still run one after another."""

    async def save(turn):
        return await SaveSession(store)(turn)

    model = BlockingModel()
    service = MemoryLayer(LoadSession(store), save, session_id="s", store=store)(model)
    async with anyio.create_task_group() as tasks:
        for text in "ab":
            tasks.start_soon(service, [user(text)])
        await until(lambda: model.called)
        model.go_on.set()

    assert model.most_at_once == 1
    assert len(await store.load("s")) == 4
    with pytest.raises(TypeError, match="needs the store"):
        MemoryLayer(LoadSession(store), save, session_id="s")
