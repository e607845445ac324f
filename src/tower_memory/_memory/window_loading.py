"""Loading the history that a window needs, and applying the window to it.

1. A bounded window tells how many items it needs. It is asked again after each load, until the
   loaded history is long enough, so no more is read from the store than necessary.
2. The result of a window is checked: a tool call and its result stay together. Items that were
   never in the history are allowed, such as a summary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import isawaitable
from operator import is_
from typing import Any

from tower_memory._history import History
from tower_memory._service import Service, describe
from tower_memory._session_services import load_with_limit
from tower_memory._tool_links import GetLinks
from tower_memory.windows import BoundedWindow, Window


async def load_history(
    window: BoundedWindow | None,
    load: Service[str, History[Any]],
    session_id: str,
    links: GetLinks,
) -> History[Any]:
    """Load the session's history, as far back as *window* needs it; None needs all of it.

    Raises:
        TypeError: *load* did not return a `History`.
    """
    if window is None:
        return await _load(None, load, session_id)

    limit = window.needs(None)
    while True:
        history = (await _load(limit, load, session_id)).with_links(links)
        if limit is None or len(history) < limit:
            return history
        limit = window.needs(history)
        if limit is not None and limit <= len(history):
            return history


async def _load(
    limit: int | None, load: Service[str, History[Any]], session_id: str
) -> History[Any]:
    history = await load_with_limit(limit, load, session_id)
    if not isinstance(history, History):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"load must give a History, got {type(history).__name__}"
        raise TypeError(msg)
    return history


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
        msg = f"window must be async, and {describe(window)} returned {type(result).__name__}"
        raise TypeError(msg)
    return check_window(history, await result, new, links)


def check_window(
    history: History[Any], items: Any, new: Sequence[Any], links: GetLinks
) -> History[Any]:
    """Return *items*, which a window made of *history*, as a history.

    Raises:
        TypeError: They are no sequence of items.
        ValueError: They contain a call without its result, or a result without its call, though
            *history* and the *new* items have both.
    """
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        msg = f"a window must give a sequence of items, got {type(items).__name__}"
        raise TypeError(msg)

    calls, results = _link_ids(history, links)
    kept_calls, kept_results = _link_ids([*items, *new], links)
    torn = (kept_calls - kept_results) & results | (kept_results - kept_calls) & calls
    if torn:
        msg = (
            "a window must give a call of a tool and its result together, or neither; it tore "
            f"apart the call {min(torn)!r}"
        )
        raise ValueError(msg)

    if len(items) == len(history) and all(map(is_, items, history)):
        return history
    return History(items, revision=history.revision, is_cut=True)


def _link_ids(items: Iterable[Any], links: GetLinks) -> tuple[set[str], set[str]]:
    """Return the ids of the calls that *items* make, and of the calls that they answer."""
    calls: set[str] = set()
    results: set[str] = set()
    for item in items:
        made, answered, _ = links(item)
        calls.update(made)
        results.update(answered)
    return calls, results
