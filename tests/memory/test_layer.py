"""The memory layer: the requests of the model, and the services and dialects it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import ref

import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, user
from helpers.services import repeat_last
from tower_memory import History, MemoryLayer, Turn, TurnInfo


async def test_the_model_gets_the_history_before_the_new_messages(store):
    given = []

    async def model(messages):
        given.append(messages)
        return await repeat_last(messages)

    service = memory_over(store)(model)
    assert await service([user("a")]) == "re: a"
    assert await service([user("b")]) == "re: b"

    turns = [user("a"), assistant("re: a"), user("b"), assistant("re: b")]
    assert given == [turns[:1], turns[:3]]
    assert await store.load("s") == turns


async def test_a_turn_is_saved_in_one_write(store):
    await memory_over(store)(repeat_last)([user("a"), user("b")])
    (start,) = (await store.load("s")).turns
    assert start.position == 0


async def test_the_request_is_not_changed_and_the_response_is_the_same_object(store):
    @dataclass
    class Reply:
        role: str
        content: str

    reply = Reply("assistant", "Hi")
    request = {"model": "m", "messages": [user("a")], "tools": [object()]}
    before = {**request, "messages": list(request["messages"])}

    async def model(given):
        assert given["tools"] is request["tools"]
        given["messages"].append("the model's own")
        given["messages"][0]["content"] = "changed"
        return reply

    await store.append(Turn("s", [user("old")]))
    assert await memory_over(store)(model)(request) is reply
    assert request == before
    assert await store.load("s") == [user("old"), user("a"), assistant("Hi")]


async def test_a_model_that_changes_the_request_does_not_change_the_saved_items(store):
    async def model(messages):
        messages[-1]["content"] = "changed"
        return "ok"

    await memory_over(store)(model)([user("said")])
    assert await store.load("s") == [user("said"), assistant("ok")]


async def test_one_layer_serves_many_sessions(store):
    service = memory_over(store, session_id=lambda request: request["user"])(
        lambda request: repeat_last(request["messages"])
    )
    for name in ("ann", "bob", "ann"):
        await service({"user": name, "messages": [user(name)]})
    assert len(await store.load("ann")) == 4
    assert len(await store.load("bob")) == 2


async def test_any_service_may_load_and_save():
    saved = []

    async def load(session_id):
        return History([user(f"loaded for {session_id}")], revision=1)

    async def save(turn):
        saved.append(turn)
        return 2

    async def model(messages):
        return f"given {len(messages)}"

    assert (
        await MemoryLayer(load, save, session_id="s", overlap="append")(model)([user("a")])
        == "given 2"
    )

    (turn,) = saved
    assert (turn.session_id, list(turn.items)) == ("s", [user("a"), assistant("given 2")])


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_history_can_be_garbage_collected_once_the_model_has_answered(is_streamed):
    class Message(dict):
        """A message that supports weak references."""

    watched, held = [], []

    async def load(_session_id):
        loaded = Message(user("a"))
        watched.append(ref(loaded))
        return History([loaded])

    async def model(_messages):
        async def chunks():
            held.append(watched[0]())
            yield "done"

        return chunks() if is_streamed else "done"

    async def save(_turn):
        held.append(watched[0]())
        return 1

    response = await MemoryLayer(load, save, session_id="s", overlap="append")(model)([user("b")])
    if is_streamed:
        assert [chunk async for chunk in response] == ["done"]

    assert held == [None] * (2 if is_streamed else 1)


async def test_all_messages_that_an_agent_adds_to_its_request_are_saved(store):
    async def agent(request):
        request["messages"].append(assistant("step"))
        request["messages"].append(assistant("done"))
        return request

    service = memory_over(store)(agent)
    for text in ("a", "a"):
        await service({"messages": [{"role": "system", "content": "x"}, user(text)]})
    assert await store.load("s") == [user("a"), assistant("step"), assistant("done")] * 2


async def test_a_store_that_sorts_keys_holds_the_same_turn():
    turns = []

    async def load(_session_id):
        items = [dict(sorted(item.items())) for turn in turns for item in turn.items]
        return History(
            items,
            revision=len(turns),
            turns=[TurnInfo(turn.turn_id, 0, datetime.now(UTC)) for turn in turns],
        )

    async def save(turn):
        turns.append(turn)
        return len(turns)

    layer = MemoryLayer(load, save, session_id="s", overlap="append", turn_id=lambda _: "t")
    assert await layer(repeat_last)([user("a")]) == "re: a"


async def test_services_with_any_attribute_or_inner_cycle_may_load_and_save():
    class Endless:
        def __init__(self):
            self.inner = self

        def __getattr__(self, name):
            return Endless()

        async def __call__(self, _turn):
            return 1

    async def load(_session_id):
        return History()

    assert (
        await MemoryLayer(load, Endless(), session_id="s", overlap="append")(repeat_last)(
            [user("a")]
        )
        == "re: a"
    )


async def test_methods_of_any_name_may_load_and_save():
    class Repository:
        def __init__(self):
            self.turns = []

        async def inner(self, _session_id):
            return History(revision=len(self.turns))

        async def store(self, turn):
            self.turns.append(turn)
            return len(self.turns)

    repository = Repository()
    layer = MemoryLayer(repository.inner, repository.store, session_id="s", overlap="append")

    assert await layer(repeat_last)([user("a")]) == "re: a"
    assert len(repository.turns) == 1


async def test_a_custom_dialect_spells_requests_and_responses_its_own_way(store):
    class Lines:
        def new_items(self, request):
            return [{"asked": request}]

        def with_history(self, request, history):
            return "\n".join([*(str(item) for item in history), request])

        def reply_items(self, request, response):
            return [{"answer to": request, "answer": response}]

    async def model(prompt):
        return len(prompt.splitlines())

    service = memory_over(store, dialect=Lines())(model)
    assert [await service("one"), await service("two")] == [1, 3]
    assert (await store.load("s"))[-2:] == (
        {"asked": "two"},
        {"answer to": "two", "answer": 3},
    )
