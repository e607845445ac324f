"""Repair of a chat history: the model gets a valid conversation, wherever the history was cut."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.messages import INTERRUPTED_CALL, assistant, calling, result, user
from tower_memory.dialects import ChatCompletions
from tower_memory.dialects.toolkit import INTERRUPTED_REPLY

CHAT = ChatCompletions()


def past(history, *new):
    return CHAT.with_history(list(new), history)[: -len(new)]


def test_a_result_whose_call_was_cut_off_is_left_out():
    history = [result("1"), result("2"), assistant("done")]
    assert past(history, user("new")) == [assistant("done")]


def test_a_result_of_another_call_or_a_second_result_is_left_out():
    history = [calling("1"), result("2"), result("1"), result("1"), assistant("done")]
    assert past(history, user("new")) == [calling("1"), result("1"), assistant("done")]


def test_a_call_without_a_result_is_answered_as_interrupted_after_the_results_it_has():
    history = [calling("1", "2"), result("2"), user("go on"), calling("3")]
    assert past(history, user("new")) == [
        calling("1", "2"),
        result("2"),
        result("1", INTERRUPTED_CALL),
        assistant(INTERRUPTED_REPLY),
        user("go on"),
        calling("3"),
        result("3", INTERRUPTED_CALL),
        assistant(INTERRUPTED_REPLY),
    ]


def test_calls_that_the_request_answers_are_not_changed():
    history = [user("a"), calling("1", "2", "3"), result("1")]
    request = [result("3"), result("2"), user("and?")]
    assert CHAT.with_history(request, history) == [*history, *request]
    assert CHAT.with_history([result("3")], history) == [
        *history,
        result("3"),
        result("2", INTERRUPTED_CALL),
    ]


def test_a_late_result_is_moved_to_its_call():
    history = [calling("1", "2"), user("meanwhile"), assistant("ok"), result("2")]
    assert CHAT.with_history([result("1"), user("and?")], history) == [
        calling("1", "2"),
        result("2"),
        result("1"),
        user("meanwhile"),
        assistant("ok"),
        user("and?"),
    ]


def test_results_anywhere_in_the_request_are_moved_to_their_calls():
    history = [user("a"), calling("1", "2")]
    assert CHAT.with_history([user("by the way"), result("2"), calling("3")], history) == [
        *history,
        result("2"),
        result("1", INTERRUPTED_CALL),
        assistant(INTERRUPTED_REPLY),
        user("by the way"),
        calling("3"),  # a call of the request, which is not changed
    ]
    with pytest.raises(ValueError, match="the tool call '4'"):
        CHAT.with_history([user("b"), result("4")], history)


def test_a_request_that_answers_a_call_that_was_not_loaded_is_an_error():
    with pytest.raises(ValueError, match="a result of the tool call '1', for which no call"):
        CHAT.with_history([result("1")], [])


def test_calls_without_ids_are_paired_with_results_in_their_order():
    function = {"name": "f", "arguments": {}}
    calls = [{"type": "function", "function": function}] * 2
    call = {"role": "assistant", "content": None, "tool_calls": calls}
    answer = {"role": "tool", "tool_name": "f", "content": "done"}
    interrupted = {**answer, "content": INTERRUPTED_CALL}
    assert past([call, answer, answer], user("new")) == [call, answer, answer]
    assert CHAT.with_history([answer], [call, answer]) == [call, answer, answer]
    assert CHAT.with_history([answer], [call]) == [call, answer, interrupted]
    assert past([answer, call], user("new")) == [
        *(call, interrupted, interrupted, assistant(INTERRUPTED_REPLY)),
    ]
    with pytest.raises(ValueError, match="a result of the tool call 'f', for which no"):
        CHAT.with_history([answer], [])


def test_ids_that_repeat_from_turn_to_turn_are_paired_with_the_latest_call():
    turn = [user("a"), calling("0"), result("0"), assistant("b")]
    again = [user("c"), calling("0")]
    assert CHAT.with_history([result("0", "2")], [*turn, *again]) == [
        *(*turn, *again, result("0", "2")),
    ]
    assert past([*again, *turn], user("new"))[:4] == [
        *(*again, result("0", INTERRUPTED_CALL), assistant(INTERRUPTED_REPLY)),
    ]


def test_a_second_result_of_a_call_in_the_request_has_its_own_error():
    with pytest.raises(ValueError, match="a second result of the tool call '1', which is answered"):
        CHAT.with_history([result("1")], [calling("1"), result("1")])


IDS = st.sampled_from("123")


@st.composite
def valid_history(draw):
    """Draw exchanges of a user's message, rounds of calls with results, and a reply."""
    history = []
    for _ in range(draw(st.integers(0, 4))):
        history.append(user("u"))
        for _ in range(draw(st.integers(0, 2))):
            calls = draw(st.lists(IDS, min_size=1, unique=True))
            history += [calling(*calls), *map(result, draw(st.permutations(calls)))]
        history.append(assistant("a"))
    return history


def is_valid(messages):
    pending = set()
    for message in messages:
        if message["role"] == "tool":
            if message["tool_call_id"] not in pending:
                return False
            pending.remove(message["tool_call_id"])
        elif pending:
            return False
        else:
            pending = {call["id"] for call in message.get("tool_calls") or ()}
    return not pending


@given(valid_history(), st.data())
def test_a_valid_history_cut_anywhere_is_repaired_and_loses_no_more_than_needed(history, data):
    start = data.draw(st.integers(0, len(history)))
    end = data.draw(st.integers(start, len(history)))
    cut = history[start:end]
    before = copy.deepcopy(cut)
    repaired = past(cut, user("new"))

    assert is_valid(repaired)
    assert cut == before
    assert past(repaired, user("new")) == repaired  # a second repair changes nothing

    added = (INTERRUPTED_CALL, INTERRUPTED_REPLY)
    kept = [message for message in repaired if message.get("content") not in added]
    lost = [message for message in cut if message not in kept]

    assert all(message["role"] == "tool" for message in lost)

    if start == 0:
        assert kept == cut
    if (start, end) == (0, len(history)):
        assert repaired == history
