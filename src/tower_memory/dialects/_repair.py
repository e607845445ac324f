"""Repair: making a conversation that a provider accepts.

The history may have been cut, or a turn may have been interrupted.

1. A tool result without its tool call is removed from the history. In the request, such a result
   raises `ValueError`.
2. A tool call of the history that neither the history nor the request answers gets a result that
   says that the call was interrupted, because no other result will come. Other calls stay as they
   are.
3. A tool result moves to its call if an item that the provider refuses there lies between them.
4. A valid conversation stays as it is, in its order, and a repaired conversation is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from tower_memory._tool_links import GetLinks, ItemLinks, is_plain

INTERRUPTED: Final = "(interrupted: this call has no result)"
"""Text of the tool result that repair adds for a tool call without one."""


@dataclass(slots=True)
class _Entry:
    """An item, and the ids of its tool calls that no result has answered yet."""

    item: Any
    is_old: bool  # from the history
    is_linked: bool  # has tool calls or tool results
    unanswered: list[str]


_Segment = list[_Entry]
"""Consecutive entries; a tool call and its results are in one segment."""


def repair(
    history: Sequence[Any],
    new: Sequence[Any],
    *,
    links: GetLinks,
    separates: Callable[[ItemLinks], bool],
    add_results: Callable[[list[Any], list[str]], Sequence[Any]],
    drop_results: Callable[[Any, set[str]], Any | None],
    results_together: bool = False,
) -> list[Any]:
    """Return the items of *history* and *new* as one valid conversation.

    No item is changed in place. The module `tower_memory.dialects.toolkit` has an example.

    Args:
        history: The items of the history.
        new: The items of the request.
        links: Function that returns the links of an item, such as the dialect's own method.
        separates: Function of the links of an item. It returns True if the provider refuses the
            item between a tool call and its result. `holds_no_result` and `starts_exchange` are
            two such functions.
        add_results: Function of a run and a list of call ids; it returns the run with an
            interrupted result for each of these calls. A run is one or more consecutive items
            with tool calls or tool results. With `holds_no_result`, the item that makes the
            calls comes first, and the items with their results follow. Items of *new* may be
            objects of the client. The function is called for each run, also with no ids.
        drop_results: Function of an item and a set of call ids. It returns the item without its
            results of these calls, or None if nothing remains. Use `nothing_left` if each
            tool result is an item of its own.
        results_together: True if the provider wants all results of one item's calls in one item.
            *add_results* must then join the results of a run, also if it gets no ids.

    Raises:
        ValueError: *new* has a result of a tool call that does not exist or is answered already.
    """
    items = [*history, *new]
    if _is_valid(items, links, separates, results_together=results_together):
        return items

    segments: list[_Segment] = []
    for number, item in enumerate(items):
        is_old = number < len(history)
        calls, results, _ = item_links = links(item)

        callers = {call: _find_caller(segments, call) for call in results}
        orphans = {call for call, caller in callers.items() if caller is None}
        if orphans and not is_old:
            msg = (
                f"the request has a result of the tool call {min(orphans)!r}, for which no call in "
                "the loaded history waits; load more of it, or send the call along"
            )
            raise ValueError(msg)
        rest = drop_results(item, orphans) if orphans else item
        if rest is None:
            continue

        entry = _Entry(rest, is_old, bool(calls or results), list(calls))
        # An item that answers several calls joins the segment of the last of these calls.
        segment: _Segment | None = None
        for call, caller in callers.items():
            if caller is not None:
                segment, calling = caller
                calling.unanswered.remove(call)

        if segment is not None:
            segment.append(entry)
        elif segments and not separates(item_links):
            segments[-1].append(entry)
        else:
            segments.append([entry])

    return [item for segment in segments for item in _with_results(segment, add_results)]


def _is_valid(
    items: list[Any],
    links: GetLinks,
    separates: Callable[[ItemLinks], bool],
    *,
    results_together: bool,
) -> bool:
    """Return True if each tool call of *items* has its result in the right place.

    Return False as well if a call of the request has no result; `repair` adds none for this call.
    """
    waiting: set[str] = set()
    for item in items:
        if not waiting and is_plain(item):
            continue

        calls, results, _ = item_links = links(item)
        if not waiting.issuperset(results) or (waiting and separates(item_links) and not results):
            return False
        waiting.difference_update(results)
        if results and waiting and results_together:
            return False
        waiting.update(calls)

    return not waiting


def holds_no_result(links: ItemLinks) -> bool:
    """Return True if an item with these *links* holds no tool result.

    Pass it as *separates* to `repair` for a provider that wants all results directly after their
    calls, such as chat completions and Anthropic's messages.
    """
    return not links.results


def starts_exchange(links: ItemLinks) -> bool:
    """Return True if an exchange starts with an item with these *links*.

    Pass it as *separates* to `repair` for a provider that accepts other items between a call and
    its result, but no new message of the user, such as OpenAI's responses.
    """
    return links.starts_exchange


def nothing_left(_item: Any, _calls: set[str]) -> None:
    """Return None: nothing remains of an item that is one tool result.

    Pass it as *drop_results* to `repair` if each tool result is an item of its own.
    """


def _find_caller(segments: list[_Segment], call: str) -> tuple[_Segment, _Entry] | None:
    """Return the segment and the newest entry with the unanswered *call*; None if there is none."""
    for segment in reversed(segments):
        for entry in reversed(segment):
            if call in entry.unanswered:
                return segment, entry
    return None


def _with_results(
    segment: _Segment, add_results: Callable[[list[Any], list[str]], Sequence[Any]]
) -> Iterator[Any]:
    """Yield the items of *segment*, and results for the unanswered calls of the history."""
    for is_linked, group in groupby(segment, key=lambda entry: entry.is_linked):
        run = list(group)
        items = [entry.item for entry in run]
        unanswered = [call for entry in run if entry.is_old for call in entry.unanswered]
        yield from add_results(items, unanswered) if is_linked else items
