"""Windows that keep the newest items: the part of a history that the model is given."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.internals import check_window
from helpers.layers import memory_over
from helpers.messages import assert_valid_chat, assistant, calling, result, user
from helpers.parameter_ids import without_addresses
from helpers.windows import bounded_windows, conversation, exchanges
from tower_memory import (
    History,
    InMemorySessionStore,
    MessageItem,
    Role,
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
    estimated_tokens,
)

TALK = [user("a"), assistant("A"), user("b"), calling("1"), result("1"), assistant("B"), user("c")]


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
    ids=without_addresses,
)
async def test_a_window_keeps_the_newest_items_from_the_start_of_an_exchange(window, start):
    assert list(await window(History(TALK))) == TALK[start:]


@pytest.mark.parametrize("window", [LastTurns(1), LastItems(1), LastItems(0), TokenBudget(0)])
async def test_an_open_exchange_stays_whole(window):
    open_one = [user("a"), assistant("A"), user("b"), calling("1", "2"), result("1"), calling("3")]
    assert list(await window(History(open_one))) == open_one[2:]


async def test_ids_that_repeat_in_each_turn_are_paired_by_position():
    """An unanswered later call does not make an answered earlier one look separated."""
    turn = [user("a"), calling("0"), result("0"), assistant("b")]
    history = History([*turn, *turn, user("c"), calling("0")])
    for window in (LastTurns(1), LastTurns(2), LastItems(3)):
        kept = await window(history)
        assert list(check_window(history, kept, [user("d")])) == list(kept)
    with pytest.raises(ValueError, match="it separated the call '0'"):
        check_window(history, history[2:], [user("d")])


async def test_calls_without_ids_stay_with_their_results():
    """A server such as Ollama gives no ids, so calls and results are paired in their order."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}] * 2}
    answer = {"role": "tool", "tool_name": "f", "content": "done"}
    over = [user("a"), assistant("A"), user("b"), call, answer, answer]
    assert list(await LastItems(1)(History(over))) == []
    assert list(await LastItems(4)(History(over))) == over[2:]
    assert list(await LastItems(1)(History(over[:-1]))) == over[2:-1]
    with pytest.raises(ValueError, match="it separated the call 'f'"):
        check_window(History(over), over[4:], [])


async def test_no_exchange_starts_between_a_call_and_its_late_result():
    """A window that started there would separate the two."""
    late = [user("a"), calling("1"), user("b"), assistant("B"), result("1"), user("c")]
    assert list(await LastTurns(1)(History(late))) == late[5:]
    assert list(await LastTurns(2)(History(late))) == late
    assert list(await LastItems(4)(History(late))) == late[5:]


async def test_items_before_the_first_exchange_are_cut_off_together():
    assert list(await LastItems(1)(History([assistant("a"), assistant("b")]))) == []
    assert list(await LastItems(1)(History([assistant("a"), calling("1")]))) == []


NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHAPES = {
    "responses": (
        user("a"),
        {"type": "function_call", "call_id": "1"},
        {"type": "function_call_output", "call_id": "1"},
    ),
    "anthropic": (
        user([{"type": "text", "text": "a"}]),
        assistant([{"type": "tool_use", "id": "1"}]),
        user([{"type": "tool_result", "tool_use_id": "1"}]),
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
async def test_tool_calls_and_results_are_recognised_in_every_spelling(shape):
    opening, making, answering = SHAPES[shape]
    before = [user("before")] * 3
    assert list(await LastItems(1)(History([*before, opening, making]))) == [opening, making]
    over = History([*before, opening, making, answering])
    assert list(await LastItems(3)(over)) == [opening, making, answering]
    assert list(await LastItems(2)(over)) == []
    with pytest.raises(ValueError, match="it separated the call '1'"):
        check_window(over, [answering], [])


async def test_items_of_an_unknown_shape_each_start_an_exchange():
    assert list(await LastTurns(2)(History([1, {"said": "a"}, "b"]))) == [{"said": "a"}, "b"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LastTurns(0), ValueError, "turns must"),
        (lambda: LastTurns("1"), TypeError, "turns must"),
        (lambda: LastItems(-1), ValueError, "items must"),
        (lambda: TokenBudget(-1), ValueError, "tokens must"),
        (lambda: TokenBudget(1, count=4), TypeError, "count must be a function .* got 4"),
        (Shortest, ValueError, "windows must be one or more, got none"),
        (
            lambda: memory_over(InMemorySessionStore(), window=3),
            TypeError,
            r"window must be a service, such as LastTurns",
        ),
    ],
)
def test_bad_windows_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_estimate_of_tokens_grows_with_the_text():
    assert estimated_tokens(user("x" * 400)) > 100
    assert estimated_tokens(user("")) < 20
    assert repr(Shortest(LastTurns(2), LastItems(3))) == (
        "Shortest(LastTurns(turns=2), LastItems(items=3))"
    )


@given(shape=exchanges, is_open=st.booleans(), window=bounded_windows)
async def test_the_model_gets_a_valid_conversation_through_every_window(shape, is_open, window):
    store = InMemorySessionStore()
    items, late = conversation(shape, is_open=is_open)
    await store.append(Turn("s", items))
    service = ScriptedService("ok")
    new = late or [user("new")]
    await memory_over(store, window=window)(service)(new)
    (messages,) = service.requests
    assert messages[0]["role"] == "user"
    assert_valid_chat(messages)
    assert messages[-len(new) :] == new
