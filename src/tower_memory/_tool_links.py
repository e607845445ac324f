"""Tool links: the tool calls and tool results of an item, and the items that start an exchange.

1. A tool call has an id, and its result names that id. This pair is a link. The links of an item
   are the ids of the calls that it makes and answers, and whether an exchange starts with it.
2. Each dialect spells calls and results in its own way, so each dialect returns the links of its
   items (`LinkedDialect`). Windows, repair and reconcile read links and know no provider.
3. Ids need not be unique: some servers number the calls of each reply from 0. Some servers give no
   ids at all. Therefore calls and results are paired by position (`OpenCalls`). A result answers an
   open call of its id: of the latest item that has one, the first. If no open call has this id, the
   result answers an open call without an id, chosen in the same way. A result without an id answers
   any open call, chosen in the same way.
4. This module knows only the items that several dialects share: plain messages and run items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, final

from tower_memory._fields import field
from tower_memory._items import ToolCallItem, ToolOutputItem


@final
class ToolName(str):
    """The name of a tool, in place of an id that a tool call or a tool result does not have.

    >>> from tower_memory.dialects.toolkit import ToolName, item_links
    >>> item_links([ToolName("weather")], ())
    ItemLinks(calls=('weather',), results=(), starts_exchange=False)
    """

    __slots__ = ()


class ItemLinks(NamedTuple):
    """The tool calls that an item makes and answers, and whether an exchange starts with it.

    >>> from tower_memory.dialects import ItemLinks
    >>> ItemLinks(calls=("call_1",))
    ItemLinks(calls=('call_1',), results=(), starts_exchange=False)

    Attributes:
        calls: Ids of the tool calls that the item makes, in order. A call without an id has a
            `ToolName`, or None.
        results: Ids of the tool calls that the item answers, in order. A result without an id has
            a `ToolName`, or None.
        starts_exchange: Whether an exchange starts with this item: it is a message of the user
            and answers no tool call.
    """

    calls: Sequence[str | None] = ()
    results: Sequence[str | None] = ()
    starts_exchange: bool = False

    @property
    def is_input(self) -> bool:
        """Whether the item is no output of the model: a message of the user or a tool result."""
        return bool(self.results) or self.starts_exchange


GetLinks: TypeAlias = Callable[[Any], ItemLinks]
"""Function that returns the links of an item."""

NO_LINKS: Final = ItemLinks()
"""The links of an item that makes no call, holds no result and starts no exchange."""

STARTS_EXCHANGE: Final = ItemLinks(starts_exchange=True)
"""The links of a user's message."""

_PLAIN_FIELDS: Final = frozenset({"role", "content", "name", "refusal", "reasoning_content"})


def is_plain(item: Any) -> bool:
    """Return True if *item* has a role, a string as its content, and no tool call or result.

    Most items of chat-like dialects are plain, and this check is much faster than reading links.

    >>> from tower_memory.dialects.toolkit import is_plain
    >>> is_plain({"role": "user", "content": "Hi"}), is_plain({"role": "tool", "content": "4"})
    (True, False)
    """
    return (
        type(item) is dict
        and item.keys() <= _PLAIN_FIELDS
        and type(item.get("content")) is str
        and item.get("role") != "tool"
    )


def plain_links(item: dict[str, Any]) -> ItemLinks:
    """Return the links of an item for which `is_plain` is True.

    >>> from tower_memory.dialects.toolkit import plain_links
    >>> plain_links({"role": "user", "content": "Hi"})
    ItemLinks(calls=(), results=(), starts_exchange=True)
    """
    return STARTS_EXCHANGE if item.get("role") == "user" else NO_LINKS


def item_links(
    calls: Iterable[Any], results: Iterable[Any], *, starts_exchange: bool = False
) -> ItemLinks:
    """Return the links of an item; an id that is empty or no string becomes None.

    >>> from tower_memory.dialects.toolkit import item_links
    >>> item_links(["call_1", ""], ())
    ItemLinks(calls=('call_1', None), results=(), starts_exchange=False)

    Args:
        calls: Ids of the tool calls that the item makes, in order, one for each call.
        results: Ids of the tool calls that the item answers, in order, one for each result.
        starts_exchange: Whether the item is a message of the user. An item that answers a tool
            call starts no exchange in any case.
    """
    answered = _ids(results)
    return ItemLinks(_ids(calls), answered, starts_exchange and not answered)


def id_or_name(call_id: Any, *names: Any) -> str | None:
    """Return *call_id*; if it is no id, return the first of *names* that is a name, or None.

    >>> from tower_memory.dialects.toolkit import id_or_name
    >>> id_or_name("call_1", "weather"), id_or_name("", "weather"), id_or_name(None)
    ('call_1', 'weather', None)
    """
    if isinstance(call_id, str) and call_id:
        return call_id
    return next((ToolName(name) for name in names if isinstance(name, str) and name), None)


def run_item_links(item: Any) -> ItemLinks:
    """Return the links of a run item (a `RunItem` or its JSON mapping), else `NO_LINKS`."""
    kind = field(item, "type")
    if isinstance(item, ToolCallItem) or kind == "ToolCall":
        return item_links([field(item, "id")], ())
    if isinstance(item, ToolOutputItem) or kind == "ToolOutput":
        return item_links((), [field(item, "tool_call_id")])
    return NO_LINKS


def _ids(found: Iterable[Any]) -> tuple[str | None, ...]:
    return tuple([call if isinstance(call, str) and call else None for call in found])


class Call(NamedTuple):
    """A tool call in a list of items.

    Attributes:
        position: Index of the item that makes the call, from 0.
        number: Index of the call among the calls of that item, from 0.
        id: Id of the call; None if it has none.
    """

    position: int
    number: int
    id: str | None


@final
class OpenCalls:
    """The tool calls that no result has answered yet, while items are read in order (rule 3)."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[Call] = []  # oldest first

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, position: int, calls: Iterable[str | None]) -> None:
        """Add the *calls* of the item at *position*, which follows all earlier items."""
        self._calls += [Call(position, number, call) for number, call in enumerate(calls)]

    def answer(self, result: str | None) -> Call | None:
        """Remove and return the call that *result* answers; return None if there is none."""
        answered = None
        if result is not None:
            answered = self._first_of_latest(lambda call: call.id == result)
        if answered is None:
            is_any = _is_no_id(result)
            answered = self._first_of_latest(lambda call: is_any or _is_no_id(call.id))
        if answered is not None:
            self._calls.remove(answered)
        return answered

    def _first_of_latest(self, matches: Callable[[Call], bool]) -> Call | None:
        """Return the first call that *matches*, of the latest item with such a call."""
        first = None
        for call in reversed(self._calls):
            if first is not None and call.position < first.position:
                break
            if matches(call):
                first = call
        return first


def _is_no_id(call: str | None) -> bool:
    return call is None or isinstance(call, ToolName)


class Pairing(NamedTuple):
    """The tool calls and tool results of a list of items, paired by position (rule 3).

    Attributes:
        callers: The answered calls by the position of the item with the results: a `Call` for each
            result, or None for a result that answers no open call.
        unanswered: The calls without a result, oldest first.
    """

    callers: dict[int, list[Call | None]]
    unanswered: list[Call]

    def unanswered_at(self) -> dict[int, list[Call]]:
        """Return the calls without a result by the position of their item."""
        found: dict[int, list[Call]] = {}
        for call in self.unanswered:
            found.setdefault(call.position, []).append(call)
        return found


def pair_calls(items: Iterable[Any], links: GetLinks) -> Pairing:
    """Pair the tool calls of *items* with their tool results."""
    return pair_links(map(links, items))


def pair_links(all_links: Iterable[ItemLinks]) -> Pairing:
    """Pair the tool calls of items with their tool results; *all_links* are the items' links."""
    callers: dict[int, list[Call | None]] = {}
    open_calls = OpenCalls()

    for position, (calls, results, _) in enumerate(all_links):
        if results:
            callers[position] = [open_calls.answer(result) for result in results]
        if calls:
            open_calls.add(position, calls)

    return Pairing(callers, list(open_calls))


def answered_positions(history: Sequence[Any], new: Sequence[Any], links: GetLinks) -> set[int]:
    """Return the positions of the items of *history* with a call that *new* answers."""
    callers = pair_calls([*history, *new], links).callers
    return {
        call.position
        for position, answered in callers.items()
        if position >= len(history)
        for call in answered
        if call and call.position < len(history)
    }


def last_exchange_start(items: Sequence[Any], links: GetLinks) -> int:
    """Return the position of the last item that starts an exchange; 0 if there is none."""
    places = range(len(items) - 1, -1, -1)
    return next((place for place in places if links(items[place]).starts_exchange), 0)
