"""The exchanges of a history, and cuts between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tower_memory._history import History
from tower_memory._tool_links import GetLinks, OpenCalls, last_exchange_start, pair_calls
from tower_memory.dialects._known_links import known_links


def links_of(history: Sequence[Any]) -> GetLinks:
    """Return the function that reads the links of the items of *history*."""
    links = history.links if isinstance(history, History) else None
    return known_links if links is None else links


def exchange_starts(history: Sequence[Any]) -> list[int]:
    """Return the positions at which exchanges start.

    A position between a tool call and its late result is no start: a cut there would separate them.
    """
    starts: list[int] = []
    open_calls = OpenCalls()

    for position, (calls, results, starts_exchange) in enumerate(map(links_of(history), history)):
        if starts_exchange:
            starts.append(position)
        for caller in map(open_calls.answer, results):
            while caller and starts and starts[-1] > caller.position:
                starts.pop()  # the result is late
        if calls:
            open_calls.add(position, calls)

    return starts


def _last_exchange_is_open(history: Sequence[Any]) -> bool:
    """Return True if the last exchange is open: one of its tool calls has no result."""
    links = links_of(history)
    last = last_exchange_start(history, links)
    return any(call.position >= last for call in pair_calls(history, links).unanswered)


def cut_start(history: Sequence[Any], position: int) -> int:
    """Return the start of the first exchange that starts at *position* or later.

    If *position* is 0, return 0. If there is no such exchange, return the start of the last
    exchange if this exchange is open, otherwise the length of the history.
    """
    if position == 0:
        return 0
    starts = exchange_starts(history)
    later = next((start for start in starts if start >= position), None)
    if later is not None:
        return later
    return starts[-1] if starts and _last_exchange_is_open(history) else len(history)


def items_from(history: Sequence[Any], start: int) -> Sequence[Any]:
    """Return the items from *start* on; the history itself if these are all."""
    return history if start == 0 else history[start:]
