"""Turn ids: a turn that is already saved is not saved again."""

from __future__ import annotations

import anyio
import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.services import must_not_be_called, repeat_last
from tower_memory import (
    History,
    LoadSession,
    MemoryLayer,
    SaveSession,
    SessionError,
    Turn,
    TurnExists,
)


def numbered(store, **parameters):
    return memory_over(store, turn_id=lambda messages: messages[-1]["content"], **parameters)


async def test_a_turn_already_in_the_history_raises_with_its_items_before_the_model_call(store):
    await numbered(store)(repeat_last)([user("a")])
    with pytest.raises(TurnExists, match="turn 'a' is already saved") as caught:
        await numbered(store)(must_not_be_called)([user("a")])
    assert caught.value.items == (user("a"), assistant("re: a"))
    assert caught.value.response is None


async def overlapping(service, *replies):
    """Call *service* with the same request once for each of *replies*, all at the same time."""
    outcomes = []
    ready = [anyio.Event() for _ in replies]
    under_way = iter(range(len(replies)))

    async def model(_messages):
        mine = next(under_way)
        ready[mine].set()
        for each in ready:
            await each.wait()
        return replies[mine]

    async def call():
        try:
            outcomes.append(await service(model)([user("a")]))
        except SessionError as error:
            outcomes.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in replies:
            tasks.start_soon(call)

    return outcomes


@pytest.mark.parametrize("limit", [None, 5, 0])
async def test_a_turn_that_another_call_saved_meanwhile_raises_with_the_reply(store, limit):
    layer = MemoryLayer(
        LoadSession(store, limit=limit),
        SaveSession(store),
        session_id="s",
        overlap="append",
        turn_id=lambda messages: messages[-1]["content"],
    )
    outcomes = await overlapping(layer, "first", "second")
    (error,) = (outcome for outcome in outcomes if isinstance(outcome, TurnExists))
    (reply,) = (outcome for outcome in outcomes if isinstance(outcome, str))

    assert {reply, error.response} == {"first", "second"}
    assert error.items == (user("a"), assistant(reply))
    assert await store.load("s") == [user("a"), assistant(reply)]


async def test_a_turn_that_another_call_saved_with_the_same_reply_is_the_same_turn(store):
    assert await overlapping(numbered(store, overlap="append"), "same", "same") == ["same"] * 2
    assert await store.load("s") == [user("a"), assistant("same")]


class Saving:
    """A service that saves a turn and then calls *then*."""

    def __init__(self, store, then):
        self.store = store
        self.then = then

    async def __call__(self, turn):
        revision = await self.store.append(turn)
        await self.then()
        return revision


async def test_a_saved_turn_is_recognised_as_its_own_whatever_happens_after_the_save(store):
    async def another_turn():
        await store.append(Turn("s", [user("another")]))

    async def cleared():
        await store.clear("s")

    async def popped():
        await store.pop("s")

    for then, left in [(another_turn, 3), (popped, 1), (cleared, 0)]:
        layer = MemoryLayer(
            LoadSession(store), Saving(store, then), session_id="s", turn_id=lambda _: "t"
        )
        assert await layer(repeat_last)([user("a")]) == "re: a"
        assert len(await store.load("s")) == left
        await store.clear("s")


async def test_without_a_store_the_revision_shows_that_another_turn_was_saved():
    revisions = iter([1, 1])

    async def load(_session_id):
        return History(revision=next(revisions))

    async def save(_turn):
        return 1

    layer = MemoryLayer(load, save, session_id="s", overlap="append", turn_id=lambda _: "t")
    with pytest.raises(TurnExists) as caught:  # the revision has not changed
        await layer(repeat_last)([user("a")])
    assert (caught.value.items, caught.value.response) == (None, "re: a")


async def test_a_turn_without_items_never_counts_as_saved(store):
    class Silent:
        def new_items(self, _request):
            return []

        def with_history(self, request, _history):
            return request

        def reply_items(self, _request, _response):
            return []

    service = memory_over(store, dialect=Silent(), turn_id=lambda _: "t")(repeat_last)
    assert await service([user("a")]) == await service([user("a")]) == "re: a"
