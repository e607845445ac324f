"""The tool calls and tool results of Anthropic's messages, and of the tools that it runs itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tower_memory._fields import field, list_field
from tower_memory._tool_links import ItemLinks, is_plain, item_links, plain_links


def links_of_message(message: Any) -> ItemLinks:
    """Return the links of *message*."""
    if is_plain(message):
        return plain_links(message)

    blocks = list_field(message, "content")
    return item_links(
        [field(block, "id") for block in blocks if is_call(block)],
        [field(block, "tool_use_id") for block in blocks if is_result(block)],
        starts_exchange=field(message, "role") == "user",
    )


def is_call(block: Any) -> bool:
    """Return True if *block* is a tool call."""
    return bool(field(block, "type") == "tool_use")


def is_result(block: Any) -> bool:
    """Return True if *block* is the result of a tool call."""
    return bool(field(block, "type") == "tool_result")


def has_no_user_content(message: Any) -> bool:
    """Return True if *message* is not from the user, or holds only tool results."""
    content = field(message, "content")
    results = [is_result(block) for block in list_field(message, "content")]
    return field(message, "role") != "user" or (isinstance(content, list) and all(results))


def with_paired_server_tools(history: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Leave out calls of the provider's own tools without a result, and results without a call.

    A call stays if its result may still come: the call is in the last message of *history*, and
    *new* is empty or has only results of other tools
    (https://platform.claude.com/docs/build-with-claude/handling-stop-reasons, ``pause_turn``).
    """
    unpaired = _unpaired_server_blocks(history)
    if history and all(map(has_no_user_content, new)):
        last = enumerate(list_field(history[-1], "content"))
        unpaired -= {(len(history) - 1, index) for index, block in last if _is_server_call(block)}

    messages: list[Any] = []
    for number, message in enumerate(history):
        blocks = list_field(message, "content")
        kept = [block for index, block in enumerate(blocks) if (number, index) not in unpaired]
        if len(kept) == len(blocks):
            messages.append(message)
        elif kept:
            messages.append({**message, "content": kept})
    return messages


def _unpaired_server_blocks(history: Sequence[Any]) -> set[tuple[int, int]]:
    """Return the positions (message, block) of calls without a result and results without a call.

    The result follows in the same message, or after the results of other tools.
    """
    unpaired: set[tuple[int, int]] = set()
    open_calls: dict[Any, tuple[int, int]] = {}

    for number, message in enumerate(history):
        if links_of_message(message).starts_exchange:
            open_calls.clear()
        for index, block in enumerate(list_field(message, "content")):
            if _is_server_call(block):
                open_calls[field(block, "id")] = (number, index)
                unpaired.add((number, index))
            elif str(field(block, "type")).endswith("_tool_result"):
                call = open_calls.pop(field(block, "tool_use_id"), (number, index))
                unpaired ^= {call}  # removes the answered call, or adds a result without a call

    return unpaired


def _is_server_call(block: Any) -> bool:
    """Return True if *block* is a call that the provider runs itself."""
    return str(field(block, "type")).endswith("_tool_use")
