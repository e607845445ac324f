"""The stepped window: its start moves in steps, so that requests share their prefix."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.layers import memory_over
from helpers.messages import assistant, calling, result, user
from helpers.runtimes import on_one_runtime
from helpers.windows import conversation, newest, repeated_share
from tower_memory import History, InMemorySessionStore
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns, Shortest, Stepped, TokenBudget

LONGEST = 8
"""Number of items of the longest exchange: a question, two rounds of three items, an answer."""

shapes = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=20)


def histories(shape):
    """Return the history before each turn of a conversation; a turn is an exchange."""
    return [History(conversation(shape[:turns], is_open=False)[0]) for turns in range(len(shape))]


@given(shape=shapes, by=st.integers(1, 30), spare=st.integers(0, 9))
def test_the_start_moves_only_past_a_multiple_of_the_step(shape, by, spare):
    window = Stepped(LastItems(by + 2 * LONGEST + spare), by=by)
    starts = [window.start(history) for history in histories(shape)]
    for before, after in pairwise(starts):
        assert before <= after
        assert before == after or before // by < after // by


@on_one_runtime
@settings(max_examples=50)
@given(shape=shapes, inner=newest, by=st.integers(1, 30))
async def test_the_window_keeps_nothing_that_the_inner_window_leaves_out(shape, inner, by):
    for history in histories(shape):
        start = Stepped(inner, by=by).start(history)
        assert start >= inner.start(history)
        assert (start == 0) == (inner.start(history) == 0)
        assert list(await Stepped(inner, by=by)(history)) == list(history[start:])


@settings(max_examples=50)
@given(shape=shapes, inner=newest, by=st.integers(1, 30))
def test_the_start_is_the_same_for_each_part_of_the_session_that_is_loaded(shape, inner, by):
    """The layer loads only as many items as the inner window needs."""
    window, whole = Stepped(inner, by=by), histories(shape)[-1]
    limit = window.needs(None)
    while limit < len(whole):
        offset = len(whole) - limit
        loaded = History(whole[offset:], offset=offset)
        if (limit := window.needs(loaded)) <= len(loaded):
            assert offset + window.start(loaded) == window.start(whole)
            return


async def test_an_open_exchange_stays_whole():
    open_one = [user("a"), assistant("A"), user("b"), calling("1", "2"), result("1"), calling("3")]
    for window in (LastTurns(1), LastItems(1), LastItems(0), TokenBudget(0)):
        assert list(await Stepped(window, by=4)(History(open_one))) == open_one[2:]


async def test_no_window_starts_between_a_call_and_its_late_result():
    late = [user("a"), calling("1"), user("b"), assistant("B"), result("1"), user("c")]
    assert list(await Stepped(LastTurns(2), by=2)(History(late))) == late
    assert list(await Stepped(LastItems(5), by=2)(History(late))) == late[5:]


async def test_a_step_beyond_the_history_keeps_what_the_inner_window_keeps():
    talk = [user("a"), assistant("A")] * 5
    assert list(await Stepped(LastTurns(2), by=20)(History(talk))) == talk[-4:]
    assert list(await Stepped(LastItems(0), by=20)(History(talk))) == []
    assert list(await Stepped(LastItems(0), by=20)(History())) == []


@on_one_runtime
@pytest.mark.parametrize(
    ("window", "share"),
    [(LastTurns(20), 0.09), (Stepped(LastTurns(20)), 0.87), (None, 0.98)],
    ids=str,
)
async def test_consecutive_requests_repeat_this_share_of_their_input(window, share):
    """Over 120 turns, the share of the input that begins as the previous request did."""
    service = ScriptedService(*["a" * 250] * 120)
    memory = memory_over(InMemorySessionStore(), window=window)(service)
    for number in range(120):
        await memory([user(f"{number:03}" * 20)])
    assert repeated_share(service.requests) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Stepped(LastTurns(2), by=0), ValueError, "by must be 1 or more, got 0"),
        (lambda: Stepped(LastTurns(2), by="2"), TypeError, "by must be a whole number, got str"),
        (
            lambda: Stepped(20),
            TypeError,
            r"window must be LastTurns, .*such as LastTurns\(20\), got 20",
        ),
        (lambda: Stepped(Stepped(LastTurns(2))), TypeError, "window must be .* got Stepped"),
    ],
)
def test_bad_parameters_are_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_representation_names_the_window_and_the_step():
    window = Stepped(Shortest(LastTurns(2)), by=4)
    assert repr(window) == "Stepped(window=Shortest(LastTurns(turns=2)), by=4)"
