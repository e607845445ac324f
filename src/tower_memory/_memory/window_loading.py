"""Loading the history that a window needs, and applying the window to it.

1. A bounded window tells how many items it needs. The layer asks again after each load, until the
   loaded history is long enough, so it reads no more from the store than necessary.
2. A limit may cut the history inside an exchange. The rest of that exchange is left out, since
   Anthropic's messages, Gemini's contents and Mistral's chat templates must start with a message of
   the user. But if the request answers a tool call of the rest, the items from this call on stay.
3. The layer checks the result of a window: a tool call and its result must stay together. Items
   that were never in the history are allowed, such as a summary. Calls and results are paired by
   position, because ids may repeat or may be missing (see `_tool_links`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from inspect import isawaitable
from operator import is_
from time import monotonic
from typing import Any

from tower_memory import _log
from tower_memory._calls import name_of
from tower_memory._errors import TurnMissing
from tower_memory._history import History, TurnInfo
from tower_memory._service import Service
from tower_memory._session_services import Selection, load_selected
from tower_memory._tool_links import GetLinks, answered_positions, pair_calls
from tower_memory.windows import BoundedWindow, Window


def load_history(
    window: BoundedWindow | None,
    load: Service[str, History[Any]],
    session_id: str,
    links: GetLinks,
    before: str | None = None,
) -> Awaitable[History[Any]]:
    """Load as much of the session's history as *window* needs; the whole history if it is None.

    With *before*, a turn id, the history ends before that turn.

    Raises:
        TypeError: *load* did not return a `History`.
        TurnMissing: The session does not hold the turn *before*.
    """
    if window is None:
        return load_part(load, session_id, None, before)
    return _load_bounded(window, load, session_id, links, before)


async def _load_bounded(
    window: BoundedWindow,
    load: Service[str, History[Any]],
    session_id: str,
    links: GetLinks,
    before: str | None,
) -> History[Any]:
    limit = window.needs(None)
    while True:
        history = (await load_part(load, session_id, limit, before)).with_links(links)
        if limit is None or len(history) < limit:
            return history
        limit = window.needs(history)
        if limit is not None and limit <= len(history):
            return history


async def load_part(
    load: Service[str, History[Any]], session_id: str, limit: int | None, before: str | None
) -> History[Any]:
    """Load at most *limit* items, the newest ones before the turn *before*; None selects all.

    If no `LoadSession` inside *load* sees the selection, the whole history is loaded and then cut
    before the turn.

    Raises:
        TypeError: *load* did not return a `History`.
        TurnMissing: The session does not hold the turn *before*.
    """
    selection = None if limit is None and before is None else Selection(limit, before)
    since = monotonic()
    history = await load_selected(selection, load, session_id)
    if not isinstance(history, History):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"load must give a History, got {type(history).__name__}"
        raise TypeError(msg)
    _log.session_loaded(session_id, items=len(history), revision=history.revision, since=since)

    if before is None or (selection is not None and selection.is_seen):
        return history
    for turn in history.turns:
        if turn.turn_id == before:
            return _part(history, 0, turn.position)
    raise TurnMissing(session_id, turn_id=before)


def from_start(history: History[Any], new: Sequence[Any], links: GetLinks) -> History[Any]:
    """Return *history* without the rest of an exchange whose start was cut off (rule 2).

    A history that was not cut stays whole. *new* contains the new items of the request.
    """
    if not history.is_cut or not history or links(history[0]).starts_exchange:
        return history

    answered = answered_positions(history, new, links)
    starts = (
        position
        for position, item in enumerate(history)
        if position in answered or links(item).starts_exchange
    )
    start = next(starts, len(history))
    # Reasoning and text before an answered call belong to the same reply.
    if start in answered:
        while start > 0 and not links(history[start - 1]).is_input:
            start -= 1

    return _part(history, start, len(history))


def without_last(history: History[Any], count: int) -> History[Any]:
    """Return *history* without its last *count* items, which the request repeats."""
    return history if count == 0 else _part(history, 0, len(history) - count)


def _part(history: History[Any], start: int, end: int) -> History[Any]:
    """Return the items of *history* from *start* to *end*, as a history of the same session."""
    return History(
        history[start:end],
        session_id=history.session_id,
        revision=history.revision,
        offset=history.offset + start,
        turns=[
            TurnInfo(turn.turn_id, turn.position - start, turn.created_at, turn.metadata)
            for turn in history.turns
            if start <= turn.position < end
        ],
        is_cut=history.is_cut,
        links=history.links,
    )


async def apply_window(
    window: Window, history: History[Any], new: Sequence[Any], links: GetLinks
) -> History[Any]:
    """Return the items that *window* keeps of *history*, for a request with the *new* items.

    Raises:
        TypeError: The window returned no awaitable, or no sequence of items.
        ValueError: The window separated a tool call from its result.
    """
    if history.links is not links:  # it was loaded without a bounded window
        history = history.with_links(links)
    result: Any = window(history)
    if not isawaitable(result):
        msg = f"window must be async, and {name_of(window)} returned {type(result).__name__}"
        raise TypeError(msg)
    return check_window(history, await result, new, links)


def check_window(
    history: History[Any], items: Any, new: Sequence[Any], links: GetLinks
) -> History[Any]:
    """Return *items*, which a window made of *history*, as a history.

    Raises:
        TypeError: *items* is no sequence of items.
        ValueError: *items* has a call without its result, or a result without its call, although
            *history* and *new* have both.
    """
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        msg = f"a window must give a sequence of items, got {type(items).__name__}"
        raise TypeError(msg)

    before, after = (_unpaired([*each, *new], links) for each in (history, items))
    separated = after - before
    if separated:
        msg = (
            "a window must give a tool call and its result together, or neither; it separated "
            f"{_describe_call(next(iter(separated)))}"
        )
        raise ValueError(msg)

    if len(items) == len(history) and all(map(is_, items, history)):
        return history
    return History(items, session_id=history.session_id, revision=history.revision, is_cut=True)


def _unpaired(items: Sequence[Any], links: GetLinks) -> Counter[tuple[bool, str | None]]:
    """Count the calls without a result and the results without a call, by id.

    The first value of a key is True for calls, and False for results.
    """
    pairing = pair_calls(items, links)

    results = (
        result
        for position, callers in pairing.callers.items()
        for result, caller in zip(links(items[position]).results, callers, strict=True)
        if caller is None
    )
    return Counter(
        [
            *((True, call.id) for call in pairing.unanswered),
            *((False, result) for result in results),
        ]
    )


def _describe_call(separated: tuple[bool, str | None]) -> str:
    _, call_id = separated
    return "a call without an id" if call_id is None else f"the call {call_id!r}"
