"""Repair: make one valid conversation of the history and the items of the request.

The history may have been cut, or a turn may have been interrupted.

1. Repair removes a tool result without its tool call from the history. In the request, such a
   result raises `ValueError`.
2. If neither the history nor the request answers a tool call of the history, no result will come.
   Repair then adds a result that says that the call was interrupted. Other calls stay as they are.
3. A provider may refuse some items between a tool call and its result. If such an item lies there,
   repair moves the result to its call.
4. A valid conversation stays as it is, in its order. A repaired conversation is valid.

Repair has three steps. Linking pairs the calls with their results (`pair_calls`). Placing puts each
result into the segment of its call. Emitting adds the interrupted results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol

from tower_memory._tool_links import (
    Call,
    ItemLinks,
    OpenCalls,
    Pairing,
    pair_calls,
    pair_links,
    plain_links,
)

INTERRUPTED: Final = "(interrupted: this call has no result)"
"""Text of the tool result that repair adds for a tool call without one."""


class ProviderRules(Protocol):
    """The rules of one provider for a conversation, as `is_valid` and `repair` need them.

    Subclass it, and define `links` and `add_results`. The other methods have defaults for a
    provider that wants each tool result as an item of its own, directly after the item with its
    call. The module `tower_memory.dialects.toolkit` has an example.

    Attributes:
        results_together: Whether the provider wants all results of one item's calls in one item.
            If it is True, `add_results` must join the results of each run, also if *calls* is
            empty.
    """

    results_together: bool = False

    def links(self, item: Any, /) -> ItemLinks:
        """Return the links of *item*, as `LinkedDialect.links` does."""
        ...

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> Sequence[Any]:
        """Return *run* with an interrupted result for each of *calls*.

        Args:
            run: One or more consecutive items with tool calls or tool results. If no other item may
                lie between a call and its result, the item with the calls comes first, and the
                items with their results follow. Items of the request may be objects of the client.
            calls: The calls that need an interrupted result; `Call.position` is the index of the
                calling item in *run*. It is often empty, because `repair` calls the method for each
                run.

        Returns:
            The items to send in place of *run*. The method must not change *run* or its items.
        """
        ...

    def drop_results(self, item: Any, dropped: Collection[int], /) -> Any | None:  # noqa: ARG002
        """Return *item* without the results at the indexes *dropped*; None if nothing remains.

        The indexes count the results in the order of `ItemLinks.results`. The default is for items
        that consist of one result.
        """
        return None

    def only_results(self, item: Any, kept: Collection[int], /) -> Any:  # noqa: ARG002
        """Return *item* with its results at the indexes *kept* and nothing else.

        Repair needs it only with `results_together`, for an item that answers calls of several
        items. The default is for items that consist of one result.
        """
        return item

    def separates(self, links: ItemLinks, /) -> bool:
        """Return True if the provider refuses an item with *links* between a call and its result.

        The default refuses all items without results there.
        """
        return not links.results

    def is_clean(self, item: Any, /) -> bool:  # noqa: ARG002
        """Return True if the provider accepts *item* as it is, apart from its links.

        The default accepts every item.
        """
        return True


# Validity


def is_valid(items: Sequence[Any], rules: ProviderRules) -> bool:
    """Return True if the provider accepts *items* unchanged.

    Each item must be clean, and each tool call must have its result in the right place. A message
    of the user or the assistant that has only text counts as clean: `ProviderRules.is_clean` is not
    called for it. If the provider wants another form of such messages, convert them first.

    If the result is True for two consecutive lists, it is True for both together (see `Check`).
    The result is also False if a call of the request has no result, although `repair` adds no
    result for that call.

    >>> from collections.abc import Sequence
    >>> from typing import Any
    >>> from tower_memory.dialects import toolkit
    >>> class AcmeRules(toolkit.ProviderRules):
    ...     def links(self, item: Any, /) -> toolkit.ItemLinks:
    ...         return toolkit.item_links(item.get("calls", ()), item.get("answers", ()))
    ...
    ...     def add_results(self, run: list[Any], calls: Sequence[toolkit.Call], /) -> list[Any]:
    ...         return [*run, *({"answers": [call.id]} for call in calls)]
    >>> toolkit.is_valid([{"calls": ["1"]}, {"answers": ["1"]}], AcmeRules())
    True
    >>> toolkit.is_valid([{"calls": ["1"]}], AcmeRules())
    False
    """
    open_calls = OpenCalls()
    last = -1

    for position in _other_than_texts(items):
        item = items[position]
        if not rules.is_clean(item):
            return False

        between = items[last + 1 : position] if open_calls else ()
        if any(rules.separates(plain_links(text)) for text in between):
            return False
        last = position

        calls, results, _ = links = rules.links(item)
        if open_calls and rules.separates(links):
            return False
        if results:
            if not all(map(open_calls.answer, results)):
                return False
            if open_calls and rules.results_together:
                return False
        if calls:
            open_calls.add(position, calls)

    return not open_calls


_TEXT_ROLES: Final = ("user", "assistant")
_TEXT_FIELDS: Final = 2


def _other_than_texts(items: Sequence[Any]) -> list[int]:
    """Return the positions of all *items*, except texts that every chat-like provider accepts.

    Most items are such texts, and this filter is much faster than looking at each item closely.
    """
    return [
        position
        for position, item in enumerate(items)
        if type(item) is not dict
        or len(item) != _TEXT_FIELDS
        or item.get("role") not in _TEXT_ROLES
        or type(text := item.get("content")) is not str
        or not text
        or text.isspace()
    ]


# Repair


class _Entry(NamedTuple):
    """An item in its place.

    Attributes:
        item: The item, without results that answer no call.
        is_linked: Whether the item has tool calls or tool results.
        unanswered: The item's tool calls that need an interrupted result.
    """

    item: Any
    is_linked: bool
    unanswered: list[Call]


_Segment = list[_Entry]
"""Consecutive entries; a tool call and its results are in one segment."""


def repair(history: Sequence[Any], new: Sequence[Any], rules: ProviderRules) -> list[Any]:
    """Return the items of *history* and *new* as one conversation with valid tool calls.

    The function changes no item in place. The module `tower_memory.dialects.toolkit` has an
    example.

    Args:
        history: The items of the history, oldest first.
        new: The items of the request, in order.
        rules: The rules of the provider.

    Raises:
        ValueError: *new* has a result of a tool call that does not exist or is answered already.
    """
    if rules.results_together:
        history, new = _split_by_caller(history, new, rules)
    items = [*history, *new]
    links = [rules.links(item) for item in items]
    pairing = pair_links(links)
    _check_new_results(links, len(history), pairing)

    segments = _place(items, links, len(history), pairing, rules)
    return [item for segment in segments for item in _emit(segment, rules)]


def _split_by_caller(
    history: Sequence[Any], new: Sequence[Any], rules: ProviderRules
) -> tuple[list[Any], list[Any]]:
    """Split each item that answers calls of several items, so that each part answers one of them.

    The last part keeps the rest of the item.
    """
    items = [*history, *new]
    callers = pair_calls(items, rules.links).callers
    parts: tuple[list[Any], list[Any]] = ([], [])

    for position, item in enumerate(items):
        own = parts[position >= len(history)]
        answered = [call.position if call else None for call in callers.get(position, ())]
        places = sorted({each for each in answered if each is not None})
        last = places[-1] if places else None

        for place in places[:-1]:
            kept = [index for index, each in enumerate(answered) if each == place]
            own.append(rules.only_results(item, kept))
        split_off = [index for index, each in enumerate(answered) if each not in (last, None)]
        own.append(rules.drop_results(item, split_off) if split_off else item)

    return parts


def _check_new_results(links: Sequence[ItemLinks], history: int, pairing: Pairing) -> None:
    """Refuse a result after the first *history* items that answers no open call."""
    orphans = [
        result
        for position, callers in pairing.callers.items()
        if position >= history
        for result, caller in zip(links[position].results, callers, strict=True)
        if caller is None
    ]
    if not orphans:
        return

    first = orphans[0]
    if any(first in each.calls for each in links):
        msg = (
            f"the request has a second result of the tool call {first!r}, which is answered "
            "already; send each tool result once"
        )
    else:
        name = "a tool call without an id" if first is None else f"the tool call {first!r}"
        msg = (
            f"the request has a result of {name}, for which no call in the loaded history waits; "
            "load more of it, or send the call along"
        )
    raise ValueError(msg)


def _place(
    items: Sequence[Any],
    links: Sequence[ItemLinks],
    history: int,
    pairing: Pairing,
    rules: ProviderRules,
) -> list[_Segment]:
    """Return *items*, which have these *links*, in segments.

    The first *history* items are those of the history.
    """
    segments: list[_Segment] = []
    placed: dict[int, _Segment] = {}  # the segment of each position
    unanswered = pairing.unanswered_at()

    for position, item in enumerate(items):
        callers = pairing.callers.get(position, [])
        dropped = [index for index, caller in enumerate(callers) if caller is None]
        rest = rules.drop_results(item, dropped) if dropped else item
        if rest is None:
            continue

        # An item that answers several calls joins the segment of the last of these calls.
        calling = max((caller.position for caller in callers if caller), default=None)
        if calling is not None:
            segment = placed[calling]
        elif segments and not rules.separates(links[position]):
            segment = segments[-1]
        else:
            segment = []
            segments.append(segment)

        open_calls = unanswered.get(position, []) if position < history else []
        is_linked = bool(links[position].calls or links[position].results)
        segment.append(_Entry(rest, is_linked, open_calls))
        placed[position] = segment

    return segments


def _emit(segment: _Segment, rules: ProviderRules) -> Iterator[Any]:
    """Yield the items of *segment*, and interrupted results for its unanswered calls."""
    for is_linked, group in groupby(segment, key=lambda entry: entry.is_linked):
        run = list(group)
        items = [entry.item for entry in run]
        unanswered = [
            call._replace(position=index)
            for index, entry in enumerate(run)
            for call in entry.unanswered
        ]
        yield from rules.add_results(items, unanswered) if is_linked else items
