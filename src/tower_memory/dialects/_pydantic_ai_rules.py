"""The provider rules of pydantic-ai's messages, for the models of every provider behind it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any, Final, final

from tower_memory._fields import field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory._tool_links import Call, ItemLinks, is_plain, item_links, plain_links
from tower_memory.dialects._messages import partition, partition_results
from tower_memory.dialects._provider_rules import (
    EMPTY_MESSAGE,
    UNNAMED_TOOL,
    Place,
    Rule,
    is_blank,
    is_json_object,
    mend_arguments,
    passes_nothing,
)
from tower_memory.dialects._repair import INTERRUPTED, ProviderRules

_SERVER_CALL: Final = "builtin-tool-call"
_SERVER_RESULT: Final = "builtin-tool-return"


# Links and repair


@final
class PydanticAIRules(ProviderRules):
    """The provider rules of pydantic-ai's messages."""

    results_together = True

    def links(self, item: Any, /) -> ItemLinks:
        """See `ProviderRules.links`."""
        if is_plain(item):  # a message that a window added
            return plain_links(item)

        parts = list_field(item, "parts")
        return item_links(
            [field(part, "tool_call_id") for part in parts if _is_call(part)],
            [field(part, "tool_call_id") for part in parts if _is_result(part)],
            starts_exchange=any(field(part, "part_kind") == "user-prompt" for part in parts),
        )

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> list[Any]:
        """Return *run* with all results in one message, before the request's other parts."""
        calling, *answers = run
        if len(answers) <= 1 and not calls:
            return run

        made = list(filter(_is_call, list_field(calling, "parts")))
        missing = [
            {
                "part_kind": "tool-return",
                "tool_name": field(made[call.number], "tool_name"),
                "tool_call_id": field(made[call.number], "tool_call_id"),
                "content": INTERRUPTED,
                "outcome": "interrupted",
                # A repaired message must be the same in each request, so it takes the call's time.
                "timestamp": field(calling, "timestamp"),
            }
            for call in calls
        ]

        items = list(map(_as_item, answers))
        parts = (part for item in items for part in list_field(item, "parts"))
        results, others = partition(parts, _is_result)
        merged = {
            **{key: value for item in items for key, value in item.items()},
            "kind": "request",
            "parts": [*missing, *results, *others],
        }
        return [calling, merged]

    def drop_results(self, item: Any, dropped: Collection[int], /) -> Any | None:
        """See `ProviderRules.drop_results`."""
        stored = _as_item(item)
        _, rest = partition_results(stored["parts"], _is_result, dropped)
        return {**stored, "parts": rest} if rest else None

    def only_results(self, item: Any, kept: Collection[int], /) -> Any:
        """See `ProviderRules.only_results`."""
        stored = _as_item(item)
        results, _ = partition_results(stored["parts"], _is_result, kept)
        return {**stored, "parts": results}

    def is_clean(self, item: Any, /) -> bool:
        """See `ProviderRules.is_clean`."""
        if not is_item(item):  # a message object of the request
            return True
        parts = list_field(item, "parts")
        if item.get("kind") != "response":
            return all(map(_is_clean_part, parts))
        ends_with_content = bool(parts) and _is_content(parts[-1])
        return ends_with_content and not is_refused(item) and all(map(_is_clean_part, parts))


def _is_clean_part(part: Any) -> bool:
    """Return True if a provider accepts *part*, apart from its place in the message."""
    match field(part, "part_kind"):
        case "text" | "user-prompt":
            return not is_blank(field(part, "content"))
        case "tool-call":
            return not _is_broken(part)
        case kind:
            return bool(kind != _SERVER_CALL)  # it needs the result of the provider's own tool


def _is_call(part: Any) -> bool:
    return bool(field(part, "part_kind") == "tool-call")


def _is_result(part: Any) -> bool:
    kind = field(part, "part_kind")
    if kind == "retry-prompt":  # answers a call if it names a tool, otherwise the model's text
        return isinstance(field(part, "tool_name"), str)
    return bool(kind == "tool-return")


def _is_content(part: Any) -> bool:
    """Return True if *part* is more than thinking."""
    return bool(field(part, "part_kind") != "thinking")


# Messages as objects and as items


def adapter_of(message: Any) -> Any:
    """Return pydantic-ai's type adapter for lists of messages, or None for other objects."""
    module = sys.modules.get(type(message).__module__)
    return getattr(module, "ModelMessagesTypeAdapter", None)


def dump(messages: Sequence[Any]) -> list[Any]:
    """Return the message objects *messages* as JSON values."""
    items: list[Any] = []
    if messages:
        items = adapter_of(messages[0]).dump_python(list(messages), mode="json")
    return items


def _as_item(message: Any) -> Any:
    return message if is_item(message) else dump([message])[0]


def is_item(item: Any) -> bool:
    """Return True if *item* is an item of the history, not a message object of the request."""
    return isinstance(item, dict)


# Rules for the whole conversation


def as_message(item: Any) -> Any:
    """Return a plain message, which a window may add, as a message of pydantic-ai."""
    if not is_plain(item):
        return item
    if item["role"] == "assistant":
        return {"kind": "response", "parts": [{"part_kind": "text", "content": item["content"]}]}
    return {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": item["content"]}]}


def is_refused(message: Any) -> bool:
    """Return True if *message* is a response that the provider refused or filtered."""
    return bool(field(message, "finish_reason") == "content_filter")


def with_missing_replies(conversation: Sequence[Any]) -> list[Any]:
    """Return *conversation* with a response between each interrupted result and a user's prompt.

    Mistral refuses a user's message directly after a tool result
    (datapizza-labs/datapizza-ai#98), and so do its chat templates.
    """
    messages: list[Any] = []
    for message in conversation:
        last = list_field(messages[-1], "parts")[-1:] if messages else []
        is_added = bool(last) and field(last[0], "content") == INTERRUPTED
        if is_added and _LINKS(message).starts_exchange:
            part = {"part_kind": "text", "content": INTERRUPTED_REPLY}
            time = field(messages[-2], "timestamp")  # the same in each request
            messages.append({"kind": "response", "parts": [part], "timestamp": time})
        messages.append(message)
    return messages


# Rules for one message


def with_sendable_calls(message: dict[str, Any], place: Place) -> dict[str, Any]:
    """Mend tool calls with broken arguments or without a name; leave out unanswered ones.

    The providers behind pydantic-ai parse the arguments (vllm-project/vllm#48922), or take an
    object, as Anthropic does.
    """
    parts: list[Any] = []
    number = 0  # index of the next tool call

    for part in list_field(message, "parts"):
        if not _is_call(part):
            parts.append(part)
            continue
        if not (_is_broken(part) and number in place.unanswered):
            parts.append(_mend(part))
        number += 1

    return {**message, "parts": parts}


def _is_broken(call: Any) -> bool:
    """Return True if *call* has no name, or has arguments that are no JSON object."""
    return not field(call, "tool_name") or is_cut_off(call)


def is_cut_off(part: Any) -> bool:
    """Return True if *part* is a tool call whose arguments are text, but no JSON object."""
    arguments = field(part, "args")
    has_arguments = isinstance(arguments, str) and not passes_nothing(arguments)
    return has_arguments and not is_json_object(arguments)


def _mend(call: dict[str, Any]) -> dict[str, Any]:
    if not _is_broken(call):
        return call
    return {
        **call,
        "tool_name": call.get("tool_name") or UNNAMED_TOOL,
        "args": mend_arguments(call.get("args")),
    }


def without_unfinished_server_calls(message: dict[str, Any], _place: Place) -> dict[str, Any]:
    """Leave out calls of a provider's own tools without a result in the same message.

    Anthropic refuses them
    (https://platform.claude.com/docs/build-with-claude/handling-stop-reasons).
    """
    parts = list_field(message, "parts")
    answered = {
        field(part, "tool_call_id") for part in parts if field(part, "part_kind") == _SERVER_RESULT
    }
    rest = [
        part
        for part in parts
        if field(part, "part_kind") != _SERVER_CALL or field(part, "tool_call_id") in answered
    ]
    return {**message, "parts": rest}


def without_blank_text(message: dict[str, Any], _place: Place) -> dict[str, Any]:
    """Leave out blank text and thinking at the end; give a message without parts `EMPTY_MESSAGE`.

    Anthropic refuses blank text, and thinking as the last block of a message
    (tailcallhq/forgecode#3071). Mistral's chat templates refuse a message with neither content nor
    calls (All-Hands-AI/OpenHands#8685), and require that the roles alternate.
    """
    parts = [
        part
        for part in list_field(message, "parts")
        if not _has_text(part) or not is_blank(field(part, "content"))
    ]
    while parts and not _is_content(parts[-1]):
        parts.pop()
    if parts:
        return {**message, "parts": parts}

    kind = "text" if message.get("kind") == "response" else "user-prompt"
    return {**message, "parts": [{"part_kind": kind, "content": EMPTY_MESSAGE}]}


def _has_text(part: Any) -> bool:
    return field(part, "part_kind") in ("text", "user-prompt")


RULES: Final[tuple[Rule, ...]] = (
    with_sendable_calls,
    without_unfinished_server_calls,
    without_blank_text,
)
"""The rules for one message, in the order in which they are applied."""

_LINKS: Final = PydanticAIRules().links
