"""Windows: what part of a history the model gets, what is read for it, and that it is valid."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tower_memory import (
    History,
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    MessageItem,
    RetryLayer,
    Role,
    SaveSession,
    SessionError,
    ToolCallItem,
    ToolOutputItem,
    Turn,
)
from tower_memory.testing import ScriptedService
from tower_memory.windows import (
    LastItems,
    LastTurns,
    Shortest,
    TokenBudget,
    check_window,
    estimated_tokens,
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def call(*ids):
    calls = [{"id": each, "function": {"name": "f", "arguments": "{}"}} for each in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id):
    return {"role": "tool", "tool_call_id": call_id, "content": "4"}


TALK = [user("a"), assistant("A"), user("b"), call("1"), result("1"), assistant("B"), user("c")]


@pytest.mark.parametrize(
    ("window", "start"),
    [
        (LastTurns(9), 0),
        (LastTurns(3), 0),
        (LastTurns(2), 2),
        (LastTurns(1), 6),
        (LastItems(9), 0),
        (LastItems(7), 0),
        (LastItems(6), 2),
        (LastItems(5), 2),
        (LastItems(4), 6),
        (LastItems(1), 6),
        (LastItems(0), 7),
        (TokenBudget(7, count=lambda item: 1), 0),
        (TokenBudget(5, count=lambda item: 1), 2),
        (TokenBudget(2, count=lambda item: 1), 6),
        (TokenBudget(0), 7),
        (TokenBudget(10**6), 0),
        (Shortest(LastTurns(2), LastItems(3)), 6),
        (Shortest(LastTurns(2), LastItems(9)), 2),
    ],
    ids=str,
)
async def test_a_window_keeps_the_newest_items_from_where_an_exchange_begins(window, start):
    assert list(await window(History(TALK))) == TALK[start:]


@pytest.mark.parametrize("window", [LastTurns(1), LastItems(1), LastItems(0), TokenBudget(0)])
async def test_an_exchange_that_is_not_over_is_kept_whole(window):
    open_one = [user("a"), assistant("A"), user("b"), call("1", "2"), result("1"), call("3")]
    assert list(await window(History(open_one))) == open_one[2:]


async def test_what_nobody_opened_is_cut_away_whole():
    assert list(await LastItems(1)(History([assistant("a"), assistant("b")]))) == []
    assert list(await LastItems(1)(History([assistant("a"), call("1")]))) == []


NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHAPES = {
    "responses": (
        {"role": "user", "content": "a"},
        {"type": "function_call", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1"},
    ),
    "anthropic": (
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]},
    ),
    "pydantic-ai": (
        {"kind": "request", "parts": [{"part_kind": "user-prompt"}]},
        {"kind": "response", "parts": [{"part_kind": "tool-call", "tool_call_id": "1"}]},
        {"kind": "request", "parts": [{"part_kind": "tool-return", "tool_call_id": "1"}]},
    ),
    "pydantic-ai, retried": (
        {"kind": "request", "parts": [{"part_kind": "user-prompt"}]},
        {"kind": "response", "parts": [{"part_kind": "tool-call", "tool_call_id": "1"}]},
        {
            "kind": "request",
            "parts": [{"part_kind": "retry-prompt", "tool_name": "f", "tool_call_id": "1"}],
        },
    ),
    "typed run items": (
        MessageItem("0", Role.USER, "a", NOW),
        ToolCallItem("1", "f", {}, NOW),
        ToolOutputItem("2", "1", 4, None, NOW),
    ),
    "run items": (
        {"type": "Message", "role": "user"},
        {"type": "ToolCall", "id": "1"},
        {"type": "ToolOutput", "tool_call_id": "1"},
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_calls_and_results_are_known_in_whatever_shape(shape):
    opening, making, answering = SHAPES[shape]
    before = [user("before")] * 3
    assert list(await LastItems(1)(History([*before, opening, making]))) == [opening, making]
    over = History([*before, opening, making, answering])
    assert list(await LastItems(3)(over)) == [opening, making, answering]
    assert list(await LastItems(2)(over)) == []
    with pytest.raises(ValueError, match="it tore apart the call '1'"):
        check_window(over, [answering], [])


async def test_items_of_a_shape_that_nobody_knows_may_each_open_an_exchange():
    assert list(await LastTurns(2)(History([1, {"said": "a"}, "b"]))) == [{"said": "a"}, "b"]


def ten(_item):
    """A count of tokens that is easy to reckon with."""
    return 10


def counting(store):
    """The store, and the limits that it is asked for."""
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
        (Shortest(LastItems(600), TokenBudget(2000, count=ten)), 200, [64, 256]),
        (None, 1000, [None]),
    ],
    ids=str,
)
async def test_no_more_is_read_than_the_window_needs(window, given, asked):
    store, limits = counting(await long_session())
    load = RetryLayer(on=SessionError)(LoadSession(store))
    service = ScriptedService("yes")
    memory = MemoryLayer(load, SaveSession(store), session_id="s", window=window)
    assert await memory(service)([user("new")]) == "yes"
    assert len(service.requests[0]) == given + 1
    assert limits == asked
    assert len(await store.load("s")) == 1002  # what is stored is not changed


async def test_an_exchange_that_is_not_over_is_looked_for_as_far_back_as_it_began():
    store, limits = counting(InMemorySessionStore())
    calls = [item for n in range(200) for item in (call(str(n)), result(str(n)))][:-1]
    await store.append(Turn("s", [user("before"), assistant("ok"), user("go"), *calls]))
    service = ScriptedService("done")
    memory = MemoryLayer(
        LoadSession(store), SaveSession(store), session_id="s", window=LastItems(10)
    )
    await memory(service)([result("199")])
    assert service.requests[0] == [user("go"), *calls, result("199")]
    assert limits == [11, 44, 176, 704]


async def test_a_window_of_ones_own_may_put_in_what_was_never_said(store):
    async def summarised(history):
        recent = await LastTurns(1)(history)
        return [user(f"Before: {len(history) - len(recent)} messages."), *recent]

    service = ScriptedService("ok")
    await store.append(Turn("s", TALK))
    memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", window=summarised)
    await memory(service)([user("d")])
    assert service.requests[0] == [user("Before: 6 messages."), user("c"), user("d")]
    assert len(await store.load("s")) == len(TALK) + 2


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("text", TypeError, "a window must give a sequence of items, got str"),
        (None, TypeError, "a window must give a sequence of items, got NoneType"),
        ([result("1")], ValueError, "it tore apart the call '1'"),
        ([user("b"), call("1"), assistant("B")], ValueError, "it tore apart the call '1'"),
    ],
)
async def test_a_window_that_gives_no_valid_conversation_costs_no_call(
    store, given, error, message
):
    async def window(history):
        return given

    service = ScriptedService()
    await store.append(Turn("s", TALK))
    memory = MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", window=window)
    with pytest.raises(error, match=message):
        await memory(service)([user("d")])
    assert service.requests == []
    assert len(await store.load("s")) == len(TALK)


async def test_a_window_that_gives_nothing_to_await_is_named(store):
    def last_two(history):
        return history[-2:]

    with pytest.raises(TypeError, match="window must be async, and .*last_two returned tuple"):
        await remembering(store, window=last_two)(ScriptedService())([user("d")])


async def test_a_window_that_gives_what_is_no_message_costs_no_call(store):
    async def window(_history):
        return ["a summary"]

    with pytest.raises(TypeError, match=r"history\[0\] must be a message with a role, got 'a summ"):
        await remembering(store, window=window)(ScriptedService())([user("d")])


async def test_a_window_that_leaves_out_the_call_that_the_request_answers_costs_no_call(store):
    async def window(history):
        return history[:1]

    service = ScriptedService()
    await store.append(Turn("s", [user("a"), call("1")]))
    with pytest.raises(ValueError, match="it tore apart the call '1'"):
        await remembering(store, window=window)(service)([result("1")])
    assert service.requests == []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LastTurns(0), ValueError, "turns must"),
        (lambda: LastTurns("1"), TypeError, "turns must"),
        (lambda: LastItems(-1), ValueError, "items must"),
        (lambda: TokenBudget(-1), ValueError, "tokens must"),
        (lambda: TokenBudget(1, count=4), TypeError, "count must be a function .* got 4"),
        (Shortest, ValueError, "windows must be one or more, got none"),
        (lambda: remembering(window=3), TypeError, r"window must be a service, such as LastTurns"),
    ],
)
def test_bad_windows_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def remembering(store=None, **parameters):
    store = store or InMemorySessionStore()
    return MemoryLayer(LoadSession(store), SaveSession(store), session_id="s", **parameters)


def test_the_heuristic_counts_more_for_more():
    assert estimated_tokens(user("x" * 400)) > 100
    assert estimated_tokens(user("")) < 20
    assert repr(Shortest(LastTurns(2), LastItems(3))) == (
        "Shortest(LastTurns(turns=2), LastItems(items=3))"
    )


exchanges = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 2)),  # rounds of so many calls each
    max_size=6,
)
windows = st.one_of(
    st.builds(LastTurns, st.integers(1, 4)),
    st.builds(LastItems, st.integers(0, 12)),
    st.builds(TokenBudget, st.integers(0, 120), count=st.just(ten)),
    st.builds(
        Shortest, st.builds(LastTurns, st.integers(1, 4)), st.builds(LastItems, st.integers(0, 9))
    ),
)


def conversation(shape, *, is_open):
    """A valid one, and the results that are still to come."""
    items, ids = [], iter(range(10**6))
    late = []
    for number, (rounds, calls) in enumerate(shape):
        items.append(user(f"question {number}"))
        for _ in range(rounds):
            made = [str(next(ids)) for _ in range(calls)]
            items += [call(*made), *map(result, made)]
        if is_open and number == len(shape) - 1 and rounds:
            late = items[-calls:]
            del items[-calls:]
        else:
            items.append(assistant(f"answer {number}"))
    return items, late


def assert_valid(messages):
    assert messages[0]["role"] == "user"
    waiting = []
    for message in messages:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = [each["id"] for each in message.get("tool_calls", ())]
    assert not waiting


@given(shape=exchanges, is_open=st.booleans(), window=windows)
async def test_whatever_the_window_the_model_gets_a_valid_conversation(shape, is_open, window):
    store = InMemorySessionStore()
    items, late = conversation(shape, is_open=is_open)
    await store.append(Turn("s", items))
    service = ScriptedService("ok")
    new = late or [user("new")]
    await remembering(store, window=window)(service)(new)
    (messages,) = service.requests
    assert_valid(messages)
    assert messages[-len(new) :] == new
