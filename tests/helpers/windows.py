"""Helpers for windows over a history: strategies of windows, and conversations."""

from __future__ import annotations

from itertools import pairwise, zip_longest

from hypothesis import strategies as st

from helpers.messages import assistant, calling, result, user
from tower_memory.windows import LastItems, LastTurns, Shortest, Stepped, TokenBudget


def ten(_item):
    """Count ten tokens for every item."""
    return 10


exchanges = st.lists(
    # The number of rounds, and of calls in each round.
    st.tuples(st.integers(0, 3), st.integers(1, 2)),
    max_size=6,
)
newest = st.one_of(
    st.builds(LastTurns, st.integers(1, 4)),
    st.builds(LastItems, st.integers(0, 12)),
    st.builds(TokenBudget, st.integers(0, 120), count=st.just(ten)),
    st.builds(
        Shortest, st.builds(LastTurns, st.integers(1, 4)), st.builds(LastItems, st.integers(0, 9))
    ),
)
"""Windows that keep the newest items."""

bounded_windows = newest | st.builds(Stepped, newest, by=st.integers(1, 9))


def conversation(shape, *, is_open):
    """Return the items of a valid conversation, and the results that the next request holds."""
    items, ids = [], iter(range(10**6))
    late = []

    for number, (rounds, calls) in enumerate(shape):
        items.append(user(f"question {number}"))
        for _ in range(rounds):
            made = [str(next(ids)) for _ in range(calls)]
            items += [calling(*made), *map(result, made)]
        if is_open and number == len(shape) - 1 and rounds:
            late = items[-calls:]
            del items[-calls:]
        else:
            items.append(assistant(f"answer {number}"))

    return items, late


def repeated_share(requests):
    """Return the share of the characters of *requests* that repeat the previous request's prefix.

    Only whole messages count as repeated.
    """
    repeated = total = 0
    for before, request in pairwise([[], *requests]):
        total += _characters(request)
        for count, (old, new) in enumerate(zip_longest(before, request)):
            if old != new:
                repeated += _characters(request[:count])
                break
    return repeated / total


def _characters(messages):
    return sum(len(message["content"]) for message in messages)
