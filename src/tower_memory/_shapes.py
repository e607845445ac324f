"""The shapes of items: what in an item, in whatever dialect it is spelled, belongs to what.

An item may make calls of tools, hold their results, or open an exchange; each dialect spells it
in its own way, and none can be taken for another's:

1. Chat messages: ``tool_calls`` with an ``id``; messages of the role ``tool``.
2. OpenAI's Responses: items of the types below, without a role. Calls that the server answers
   itself, and items of other types, wait for nothing.
3. Anthropic's messages: blocks of the types ``tool_use`` and ``tool_result``.
4. pydantic-ai's messages: parts of the kinds ``tool-call``, ``tool-return`` and ``retry-prompt``.
5. Run items: ``ToolCall`` and ``ToolOutput``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tower_memory._items import ToolCallItem, ToolOutputItem

_RESPONSE_CALLS: Final = {
    **dict.fromkeys(
        (
            "apply_patch_call",
            "computer_call",
            "custom_tool_call",
            "function_call",
            "local_shell_call",
            "shell_call",
            "tool_search_call",
        ),
        "call_id",
    ),
    "mcp_approval_request": "id",
}

_RESPONSE_RESULTS: Final = {
    **dict.fromkeys(
        (
            "apply_patch_call_output",
            "computer_call_output",
            "custom_tool_call_output",
            "function_call_output",
            "local_shell_call_output",
            "shell_call_output",
            "tool_search_output",
        ),
        "call_id",
    ),
    "mcp_approval_response": "approval_request_id",
}

INTERRUPTED_REPLY: Final = "(interrupted: this reply is not complete)"
"""What stands at the end of a reply that is not complete."""

_PLAIN: Final = frozenset({"role", "content", "name", "refusal", "reasoning_content"})

MISSING: Final = object()
"""Stands for a field that is not there; None may well be."""


def field(value: Any, name: str) -> Any:
    """The field *name* of a mapping or an object, or `MISSING`."""
    if type(value) is dict or isinstance(value, Mapping):  # the first is asked faster
        return value.get(name, MISSING)
    return getattr(value, name, MISSING)


def parts_of(value: object, name: str) -> Sequence[Any]:
    """The list that *value* has under *name*; an empty one where there is none."""
    found = field(value, name)
    return found if isinstance(found, (list, tuple)) else ()


def is_plain(item: Any) -> bool:
    """Whether *item* is a message in text that makes no call and holds no result, in any shape.

    Most are, and telling so is much faster than looking for the shapes.
    """
    return (
        type(item) is dict
        and item.keys() <= _PLAIN
        and type(item.get("content")) is str
        and item.get("role") != "tool"
    )


def calls_of(item: Any) -> list[str]:
    """The ids of the calls that *item* makes, in order; some servers give none."""
    return [call for call in _calls(item) if isinstance(call, str)]


def results_of(item: Any) -> list[str]:
    """The ids of the calls whose results *item* holds, in order."""
    return [call for call in _results(item) if isinstance(call, str)]


def opens(item: Any) -> bool:
    """Whether an exchange may begin with *item*: a user's, or of a shape that is not known."""
    if results_of(item):
        return False
    role, kind = field(item, "role"), field(item, "kind")
    if role is not MISSING:
        return bool(role == "user")
    if kind is not MISSING:
        return any(field(part, "part_kind") == "user-prompt" for part in parts_of(item, "parts"))
    return field(item, "type") is MISSING and not isinstance(item, (ToolCallItem, ToolOutputItem))


def _calls(item: Any) -> Iterator[Any]:
    if isinstance(item, ToolCallItem) or field(item, "type") == "ToolCall":
        yield field(item, "id")
    elif (key := _key_of(item, _RESPONSE_CALLS)) is not None:
        yield field(item, key)
    for call in parts_of(item, "tool_calls"):
        yield field(call, "id")
    for block in parts_of(item, "content"):
        if field(block, "type") == "tool_use":
            yield field(block, "id")
    for part in parts_of(item, "parts"):
        if field(part, "part_kind") == "tool-call":
            yield field(part, "tool_call_id")


def _results(item: Any) -> Iterator[Any]:
    if (
        field(item, "role") == "tool"
        or isinstance(item, ToolOutputItem)
        or field(item, "type") == "ToolOutput"
    ):
        yield field(item, "tool_call_id")
    elif (key := _key_of(item, _RESPONSE_RESULTS)) is not None:
        found = field(item, key)
        yield field(item, "id") if found is MISSING else found  # of a local shell
    for block in parts_of(item, "content"):
        if is_result(block):
            yield field(block, "tool_use_id")
    for part in parts_of(item, "parts"):
        if is_result(part):
            yield field(part, "tool_call_id")


def is_result(part: Any) -> bool:
    """Whether *part* of an item is a result: a block of Anthropic's, or a part of pydantic-ai's."""
    kind = field(part, "part_kind")
    if kind == "retry-prompt":  # of a call, if it names its tool; else of what the model said
        return isinstance(field(part, "tool_name"), str)
    return bool(kind == "tool-return" or field(part, "type") == "tool_result")


def _key_of(item: Any, keys: Mapping[str, str]) -> str | None:
    """Where the id of a call stands in *item*, by its type, if it is one of Responses' *keys*."""
    kind = field(item, "type")
    if not isinstance(kind, str) or field(item, "role") is not MISSING:
        return None
    if kind == "tool_search_call" and field(item, "execution") != "client":
        return None  # the server's, which answers it itself
    return keys.get(kind)
