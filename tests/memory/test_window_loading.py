"""Windows in the memory layer: the items loaded for them, and windows that break a rule."""

from __future__ import annotations

import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, calling, result, user
from helpers.parameter_ids import without_addresses
from helpers.windows import ten
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    SessionError,
    Turn,
)
from tower_memory.dialects import OpenAIResponses
from tower_memory.dialects.toolkit import EMPTY_MESSAGE
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns, Shortest, Stepped, TokenBudget

TALK = [user("a"), assistant("A"), user("b"), calling("1"), result("1"), assistant("B"), user("c")]


def counting(store):
    """Return a store over *store*, and the list of the limits of its loads."""
    limits = []

    class Store:
        append, pop, clear = store.append, store.pop, store.clear

        async def load(self, session_id, *, limit=None):
            limits.append(limit)
            return await store.load(session_id, limit=limit)

    return Store(), limits


async def long_session(turns=500):
    store = InMemorySessionStore()
    for number in range(turns):
        await store.append(Turn("s", [user(str(number)), assistant("ok")]))
    return store


@pytest.mark.parametrize(
    ("window", "given", "asked"),
    [
        (LastItems(10), 10, [11]),
        (LastTurns(20), 40, [160]),
        (LastTurns(200), 400, [1600]),
        (TokenBudget(200, count=ten), 20, [64]),
        (TokenBudget(2000, count=ten), 200, [64, 256]),
        (Shortest(LastTurns(300), LastItems(10)), 10, [11]),
        (Stepped(LastTurns(200)), 400, [1600]),
        (Stepped(LastItems(30)), 20, [31]),
        (Shortest(LastItems(600), TokenBudget(2000, count=ten)), 200, [64, 256]),
        (None, 1000, [None]),
    ],
    ids=without_addresses,
)
async def test_no_more_items_are_loaded_than_the_window_needs(window, given, asked):
    store, limits = counting(await long_session())
    load = RetryLayer(on=SessionError)(LoadSession(store))
    service = ScriptedService("yes")
    memory = MemoryLayer(load, SaveSession(store), session_id="s", window=window)
    assert await memory(service)([user("new")]) == "yes"
    assert len(service.requests[0]) == given + 1
    assert limits == asked
    assert len(await store.load("s")) == 1002  # the stored items are not changed


async def test_an_open_exchange_is_loaded_from_its_start():
    store, limits = counting(InMemorySessionStore())
    calls = [item for n in range(200) for item in (calling(str(n)), result(str(n)))][:-1]
    await store.append(Turn("s", [user("before"), assistant("ok"), user("go"), *calls]))
    service = ScriptedService("done")
    memory = memory_over(store, window=LastItems(10))
    await memory(service)([result("199")])
    assert service.requests[0] == [user("go"), *calls, result("199")]
    assert limits == [11, 44, 176, 704]


@pytest.mark.parametrize(
    ("limit", "new", "given"),
    [
        (3, [user("d")], [user("c"), user("d")]),
        (5, [user("d")], [*TALK[2:], user("d")]),
        (9, [user("d")], [*TALK, user("d")]),
        (0, [user("d")], [user("d")]),
    ],
)
async def test_a_limit_leaves_out_the_rest_of_an_exchange_that_it_cuts(store, limit, new, given):
    """Some providers refuse a conversation that does not begin with the user."""
    await store.append(Turn("s", TALK[:3]))
    await store.append(Turn("s", TALK[3:]))
    service = ScriptedService("ok")
    load = LoadSession(store, limit=limit)
    await MemoryLayer(load, SaveSession(store), session_id="s")(service)(new)
    assert service.requests == [given]


async def test_a_limit_keeps_the_call_that_the_request_answers(store):
    """Its result would otherwise have no call."""
    await store.append(Turn("s", [user("a"), assistant("A"), user("b"), calling("1", "2")]))
    await store.append(Turn("s", [result("2")]))
    service = ScriptedService("ok")
    load = LoadSession(store, limit=2)
    await MemoryLayer(load, SaveSession(store), session_id="s")(service)([result("1")])
    assert service.requests == [
        [user(EMPTY_MESSAGE), calling("1", "2"), result("2"), result("1")],
    ]


async def test_a_limit_keeps_the_reasoning_of_the_call_that_the_request_answers(store):
    """The provider refuses a call that it knows by its id without its reasoning."""
    thought = {"type": "reasoning", "id": "rs", "summary": []}
    call = {"type": "function_call", "id": "fc", "call_id": "1", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "1", "output": "r"}
    await store.append(Turn("s", [user("a"), thought, call]))
    without_id = {key: value for key, value in call.items() if key != "id"}
    for limit, kept in [(2, [thought, call]), (1, [without_id])]:
        service = ScriptedService("ok")
        load = LoadSession(store, limit=limit)
        dialect = OpenAIResponses()
        layer = MemoryLayer(load, SaveSession(store), session_id="s", dialect=dialect)
        await layer(service)([output])
        assert service.requests == [[*kept, output]]
        await store.pop("s")
        await store.pop("s")


async def test_a_custom_window_may_add_a_summary(store):
    async def summarised(history):
        recent = await LastTurns(1)(history)
        return [user(f"Before: {len(history) - len(recent)} messages."), *recent]

    service = ScriptedService("ok")
    await store.append(Turn("s", TALK))
    memory = memory_over(store, window=summarised)
    await memory(service)([user("d")])
    assert service.requests[0] == [user("Before: 6 messages."), user("c"), user("d")]
    assert len(await store.load("s")) == len(TALK) + 2


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("text", TypeError, "a window must give a sequence of items, got str"),
        (None, TypeError, "a window must give a sequence of items, got NoneType"),
        ([result("1")], ValueError, "it separated the call '1'"),
        ([user("b"), calling("1"), assistant("B")], ValueError, "it separated the call '1'"),
    ],
)
async def test_a_window_that_returns_an_invalid_conversation_raises_before_the_model_call(
    store, given, error, message
):
    async def window(history):
        return given

    service = ScriptedService()
    await store.append(Turn("s", TALK))
    memory = memory_over(store, window=window)
    with pytest.raises(error, match=message):
        await memory(service)([user("d")])
    assert service.requests == []
    assert len(await store.load("s")) == len(TALK)


async def test_a_window_that_is_not_async_is_named(store):
    def last_two(history):
        return history[-2:]

    with pytest.raises(TypeError, match="window must be async, and .*last_two returned tuple"):
        await memory_over(store, window=last_two)(ScriptedService())([user("d")])


async def test_a_window_that_returns_no_messages_raises_before_the_model_call(store):
    async def window(_history):
        return ["a summary"]

    with pytest.raises(TypeError, match=r"history\[0\] must be a message with a role, got str"):
        await memory_over(store, window=window)(ScriptedService())([user("d")])


async def test_a_window_that_omits_the_call_the_request_answers_raises_before_the_model_call(store):
    async def window(history):
        return history[:1]

    service = ScriptedService()
    await store.append(Turn("s", [user("a"), calling("1")]))
    with pytest.raises(ValueError, match="it separated the call '1'"):
        await memory_over(store, window=window)(service)([result("1")])
    assert service.requests == []
