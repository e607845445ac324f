"""Tool links: the tool calls and tool results of an item, and the items that start an exchange.

1. A tool call has an id, and its result names that id. This pair is a link. The links of an item
   are the ids of the calls that it makes and answers, and whether an exchange starts with it.
2. Each dialect spells calls and results in its own way, so each dialect returns the links of its
   items (`LinkedDialect`). Windows, repair and reconcile read links and know no provider.
3. This module knows only the items that several dialects share: plain messages and run items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from tower_memory._fields import field
from tower_memory._items import ToolCallItem, ToolOutputItem


class ItemLinks(NamedTuple):
    """The tool calls that an item makes and answers, and whether an exchange starts with it.

    >>> from tower_memory.dialects import ItemLinks
    >>> ItemLinks(calls=("call_1",))
    ItemLinks(calls=('call_1',), results=(), starts_exchange=False)

    Attributes:
        calls: Ids of the tool calls that the item makes, in order.
        results: Ids of the tool calls that the item answers, in order.
        starts_exchange: Whether an exchange starts with this item: it is a message of the user
            and answers no tool call.
    """

    calls: Sequence[str] = ()
    results: Sequence[str] = ()
    starts_exchange: bool = False


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
    """Return the links of an item for which `is_plain` is True."""
    return STARTS_EXCHANGE if item.get("role") == "user" else NO_LINKS


def item_links(
    calls: Iterable[Any], results: Iterable[Any], *, starts_exchange: bool = False
) -> ItemLinks:
    """Return the links of an item, without the ids that are no strings.

    >>> from tower_memory.dialects.toolkit import item_links
    >>> item_links(["call_1", None], ())
    ItemLinks(calls=('call_1',), results=(), starts_exchange=False)

    Args:
        calls: Ids of the tool calls that the item makes, in order.
        results: Ids of the tool calls that the item answers, in order.
        starts_exchange: Whether the item is a message of the user. An item that answers a tool
            call starts no exchange in any case.
    """
    answered = _ids(results)
    return ItemLinks(_ids(calls), answered, starts_exchange and not answered)


def run_item_links(item: Any) -> ItemLinks:
    """Return the links of a run item (a `RunItem` or its JSON mapping), else `NO_LINKS`."""
    kind = field(item, "type")
    if isinstance(item, ToolCallItem) or kind == "ToolCall":
        return item_links([field(item, "id")], ())
    if isinstance(item, ToolOutputItem) or kind == "ToolOutput":
        return item_links((), [field(item, "tool_call_id")])
    return NO_LINKS


def _ids(found: Iterable[Any]) -> tuple[str, ...]:
    return tuple(call for call in found if isinstance(call, str))
