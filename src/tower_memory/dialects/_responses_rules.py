"""The provider rules of OpenAI's responses.

Reasoning and the items that followed from it belong together. The API refuses reasoning without
such an item. It also refuses such an item without its reasoning, if the item has an id that the API
knows. Therefore, if one of them is left out, the other must change too (`without_refused_items`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, final

from tower_memory._fields import MISSING, field
from tower_memory._tool_links import Call, ItemLinks, last_exchange_start, pair_links
from tower_memory.dialects._provider_rules import (
    UNNAMED_TOOL,
    Place,
    Rule,
    is_blank,
    is_blank_part,
    is_json_object,
    mend_arguments,
    passes_nothing,
)
from tower_memory.dialects._repair import ProviderRules
from tower_memory.dialects._responses_calls import (
    CALLS_BY_ID,
    INTERRUPTED_FIELDS,
    interrupted_result,
    is_async,
    links_of_item,
)

_SERVER_CALLS: Final = frozenset(
    {
        "code_interpreter_call",
        "file_search_call",
        "image_generation_call",
        "mcp_call",
        "mcp_list_tools",
        "web_search_call",
    }
)
"""Types of calls that the server executed itself. Their id is required."""


# Links and repair


@final
class ResponsesRules(ProviderRules):
    """The provider rules of OpenAI's responses."""

    def links(self, item: Any, /) -> ItemLinks:
        """See `ProviderRules.links`."""
        return links_of_item(item)

    def separates(self, links: ItemLinks, /) -> bool:
        """Return True for a message of the user; other items may lie between call and result."""
        return links.starts_exchange

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> list[Any]:
        """See `ProviderRules.add_results`."""
        calling = [run[call.position] for call in calls]
        return [*run, *(interrupted_result(item) for item in calling if not is_async(item))]

    def is_clean(self, item: Any, /) -> bool:
        """See `ProviderRules.is_clean`."""
        if type(item) is not dict:
            return False
        kind = item.get("type")
        if kind in ("function_call", "custom_tool_call"):
            return _has_clean_call(item)
        return not _is_message(item) or _has_clean_content(item)


def _is_message(item: Any) -> bool:
    return field(item, "role") is not MISSING and field(item, "type") in (MISSING, "message")


def _has_clean_content(message: Any) -> bool:
    content = field(message, "content")
    if isinstance(content, list):
        return bool(content) and not any(map(is_blank_part, content))
    return isinstance(content, str) and not is_blank(content)


def _has_clean_call(call: Any) -> bool:
    if not field(call, "name"):
        return False
    if field(call, "type") == "custom_tool_call":
        return isinstance(field(call, "input"), str)
    return is_json_object(field(call, "arguments"))


# Rules for the whole history


def has_refused_reasoning(
    history: Sequence[Any], new: Sequence[Any], *, is_stored: bool, is_cut: bool
) -> bool:
    """Return True if `without_refused_items` would leave out reasoning, or has to look for it.

    The parameters are those of `without_refused_items`.
    """
    if is_cut and bool(history) and not _LINKS(history[0]).starts_exchange:
        return True

    items = [*history, *new]
    last_start = last_exchange_start(items, _LINKS) if is_stored else len(items)
    thoughts = [place for place, item in enumerate(items) if field(item, "type") == "reasoning"]
    return any(
        (place < last_start and not _is_encrypted(items[place]))
        or place + 1 == len(items)
        or _LINKS(items[place + 1]).is_input
        for place in thoughts
    )


def without_refused_items(
    history: Sequence[Any], new: Sequence[Any], *, is_stored: bool, is_cut: bool
) -> list[Any]:
    """Leave out items that the provider refuses, together with the reasoning that led to them.

    1. Reasoning without ``encrypted_content`` is sent by its id, so the server must have stored it.
       The server stores nothing for a request with ``store=False`` (vercel/ai#7543), and deletes
       responses after 30 days (https://platform.openai.com/docs/guides/conversation-state).
       Therefore such reasoning is sent only in the last exchange, in which the model needs it
       (https://platform.openai.com/docs/guides/reasoning).
    2. If an item's reasoning is left out, the item is sent without its id, so the server does not
       look for the reasoning. A call that the server executed itself needs its id, so the call is
       left out.
    3. A message without content is left out, and so is a call that cannot be answered
       (`_unsendable_calls`).
    4. Reasoning that led to no item is left out.

    Args:
        history: The items of the history, oldest first.
        new: The items of the request, in order.
        is_stored: Whether the server stores the responses.
        is_cut: Whether *history* lacks older items of the session.
    """
    links = [_LINKS(item) for item in (*history, *new)]
    last_start = last_exchange_start([*history, *new], _LINKS)
    unsendable = _unsendable_calls(history, links)

    items: list[Any] = []
    lost_reasoning = is_cut and bool(history) and not links[0].starts_exchange
    for position, item in enumerate(history):
        if position in unsendable or _is_empty(item):
            lost_reasoning = _remove_last_reasoning(items) or lost_reasoning
        elif links[position].is_input:
            lost_reasoning = False
            _remove_last_reasoning(items)
            items.append(item)
        elif field(item, "type") == "reasoning":
            is_known = is_stored and position >= last_start
            lost_reasoning = not (is_known or _is_encrypted(item))
            if not lost_reasoning:
                items.append(item)
        elif not lost_reasoning:
            items.append(item)
        elif field(item, "type") not in _SERVER_CALLS:
            items.append(_without_id(item))

    if not new or links[len(history)].is_input:
        _remove_last_reasoning(items)
    return items


def _is_encrypted(reasoning: Any) -> bool:
    return field(reasoning, "encrypted_content") not in (MISSING, None, "")


def _remove_last_reasoning(items: list[Any]) -> bool:
    """Remove the reasoning at the end of *items*; return True if there was any."""
    length = len(items)
    while items and field(items[-1], "type") == "reasoning":
        items.pop()
    return len(items) < length


def _without_id(item: Any) -> Any:
    if not isinstance(item, dict) or "id" not in item or field(item, "type") in CALLS_BY_ID:
        return item
    return {key: value for key, value in item.items() if key != "id"}


def _is_empty(item: Any) -> bool:
    """Return True if *item* is a message without any content."""
    if not _is_message(item):
        return False
    content = field(item, "content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return content in (MISSING, None) or all(map(is_blank_part, parts))


def _unsendable_calls(history: Sequence[Any], links: Sequence[ItemLinks]) -> set[int]:
    """Return the positions of the unanswered calls of *history* that cannot get a result.

    *links* are those of the whole conversation.

    These are calls with broken arguments (see `Place`), calls whose result cannot be text, such as
    a screenshot, and calls that the server has executed: a message of the same reply follows them.
    xAI reports its own tools so (vercel/ai#10607).
    """
    followed = _followed_by_reply(history, links)
    return {
        position
        for position, _, _ in pair_links(links).unanswered
        if position < len(history)
        and not is_async(history[position])
        and (position in followed or _is_unsendable(history[position]))
    }


def _is_unsendable(call: Any) -> bool:
    """Return True if *call* is broken or was cut off, or if its result cannot be text."""
    kind = field(call, "type")
    is_broken = kind in ("function_call", "custom_tool_call") and not (
        _has_clean_call(call) or (field(call, "name") and passes_nothing(field(call, "arguments")))
    )
    was_cut = field(call, "status") == "incomplete"
    return kind not in INTERRUPTED_FIELDS or is_broken or was_cut


def _followed_by_reply(history: Sequence[Any], links: Sequence[ItemLinks]) -> set[int]:
    """Return the positions that a message of the assistant follows before the next input."""
    positions: set[int] = set()
    is_followed = False
    for position in range(len(history) - 1, -1, -1):
        if is_followed:
            positions.add(position)
        if links[position].is_input:
            is_followed = False
        elif field(history[position], "role") == "assistant":
            is_followed = True
    return positions


# Rules for one item


def with_sendable_call(item: Any, _place: Place) -> Any:
    """Mend the arguments and the name of an answered tool call.

    The API requires a name. Servers that copy the API parse the arguments, as servers of chat
    completions do (vllm-project/vllm#48922). `without_refused_items` has left out each call with
    broken arguments that no result answers.
    """
    kind = field(item, "type")
    if kind not in ("function_call", "custom_tool_call") or _has_clean_call(item):
        return item

    name = field(item, "name")
    named = {**item, "name": name if isinstance(name, str) and name else UNNAMED_TOOL}
    if kind == "function_call":
        return {**named, "arguments": mend_arguments(item.get("arguments"))}
    text = item.get("input")
    return {**named, "input": text if isinstance(text, str) else ""}


def without_blank_text(item: Any, _place: Place) -> Any:
    """Leave out the blank text parts of a message.

    Servers with the same API pass them on to providers that refuse blank text
    (anthropics/claude-code#59812).
    """
    content = field(item, "content")
    if not _is_message(item) or not isinstance(content, list):
        return item
    return {**item, "content": [part for part in content if not is_blank_part(part)]}


RULES: Final[tuple[Rule, ...]] = (with_sendable_call, without_blank_text)
"""The rules for one item, in the order in which they are applied."""

_LINKS: Final = ResponsesRules().links
