"""The provider rules of chat completions.

Many servers have this API, and each refuses other messages. A message that follows these rules is
accepted by all known servers: OpenAI, Mistral, vLLM, llama.cpp and servers that copy them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from tower_memory._fields import field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory._tool_links import (
    Call,
    ItemLinks,
    ToolName,
    id_or_name,
    is_plain,
    item_links,
    plain_links,
)
from tower_memory.dialects._provider_rules import (
    EMPTY_MESSAGE,
    UNNAMED_TOOL,
    Place,
    Rule,
    is_blank,
    is_blank_part,
    is_json_object,
    mend_arguments,
    passes_nothing,
)
from tower_memory.dialects._repair import INTERRUPTED, ProviderRules

_ADDED_FIELDS: Final = frozenset(
    {"annotations", "audio", "function_call", "name", "refusal", "tool_calls"}
)
"""Fields that servers and clients add with a zero value, such as an empty text."""

_CHECKED_FIELDS: Final = _ADDED_FIELDS | {"finish_reason"}
"""Fields that a provider may refuse; most messages have none of them."""

_TEXT_FIELDS: Final = ("name", "refusal")
"""Fields whose only refused zero value is an empty text."""

_CONTENT_SUBSTITUTES: Final = ("tool_calls", "function_call", "audio")
"""Fields that a message of the assistant may have instead of content."""

NOTED_REASON: Final = "content_filter"
"""Value of ``finish_reason`` that a stored message notes."""

_EXPIRY_MARGIN: Final = 60
"""Seconds before its expiry at which audio counts as expired, since the request takes time."""


# Links and repair


@final
@dataclass(frozen=True, slots=True)
class ChatRules(ProviderRules):
    """The provider rules of chat completions.

    Attributes:
        convert: Converts an added tool result to the class of the request's messages.
    """

    convert: Callable[[Any], Any]

    def links(self, item: Any, /) -> ItemLinks:
        """See `ProviderRules.links`."""
        if is_plain(item):
            return plain_links(item)

        role = field(item, "role")
        if role == "tool":
            names = (field(item, "tool_name"), field(item, "name"))
            return item_links((), [id_or_name(field(item, "tool_call_id"), *names)])
        calls = [
            id_or_name(field(call, "id"), field(field(call, "function"), "name"))
            for call in list_field(item, "tool_calls")
        ]
        return item_links(calls, (), starts_exchange=role == "user")

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> list[Any]:
        """See `ProviderRules.add_results`."""
        return [*run, *(self.convert(_interrupted_result(call)) for call in calls)]

    def is_clean(self, item: Any, /) -> bool:
        """See `ProviderRules.is_clean`."""
        # A run item has a role and content as well, but also a type.
        if type(item) is not dict or type(item.get("role")) is not str or "type" in item:
            return False

        content = item.get("content")
        has_content = (type(content) is str and bool(content) and not content.isspace()) or (
            type(content) is list and bool(content) and not any(map(is_blank_part, content))
        )
        if _CHECKED_FIELDS.isdisjoint(item):
            return has_content or item.get("role") == "tool"

        calls, refusal = item.get("tool_calls"), item.get("refusal")
        has_substitute = bool(calls) and content is None and "content" in item
        return (
            _CHECKED_FIELDS.isdisjoint(item.keys() - {"tool_calls", "name", "refusal"})
            and (has_content or has_substitute)
            and item.get("name") != ""
            and refusal != ""
            and ("tool_calls" not in item or _are_clean_calls(calls))
        )


def _interrupted_result(call: Call) -> dict[str, Any]:
    """Return a result for *call*; a call without an id is answered by its name."""
    if call.id is None:
        return {"role": "tool", "content": INTERRUPTED}
    key = "tool_name" if isinstance(call.id, ToolName) else "tool_call_id"
    return {"role": "tool", key: str(call.id), "content": INTERRUPTED}


def _are_clean_calls(calls: Any) -> bool:
    return type(calls) is list and bool(calls) and all(map(_is_clean_call, calls))


def _is_clean_call(call: Any) -> bool:
    """Return True if the provider accepts *call* as it is."""
    if type(call) is not dict or type(call.get("type")) is not str:
        return False
    function = call.get("function")
    if type(function) is not dict:
        return not _is_broken(call)
    arguments = function.get("arguments")
    return bool(function.get("name")) and (type(arguments) is dict or is_json_object(arguments))


def with_missing_replies(conversation: Sequence[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """Return *conversation* with a reply between each interrupted result and a user's message.

    Mistral refuses a user's message directly after a tool result
    (datapizza-labs/datapizza-ai#98), and so do its chat templates.
    """
    messages: list[Any] = []
    for message in conversation:
        last = messages[-1] if messages else None
        is_added = field(last, "role") == "tool" and field(last, "content") == INTERRUPTED
        if is_added and field(message, "role") == "user":
            messages.append(convert({"role": "assistant", "content": INTERRUPTED_REPLY}))
        messages.append(message)
    return messages


def with_noted_reason(items: list[Any], reason: Any) -> list[Any]:
    """Return the *items* of a reply with its finish_reason, if that is `NOTED_REASON`."""
    if reason != NOTED_REASON:
        return items
    return [{**item, "finish_reason": reason} for item in items]


def is_refused(message: Any) -> bool:
    """Return True if *message* is a reply that the provider refused or filtered.

    litellm reports Anthropic's refusals with this finish_reason.
    """
    return bool(field(message, "finish_reason") == NOTED_REASON)


# The rules


def without_zero_values(message: dict[str, Any], _place: Place) -> dict[str, Any]:
    """Leave out fields that a server or a client added with a zero value.

    Snowflake adds ``function_call: {"name": ""}``, ``audio: {"id": ""}`` and ``refusal: ""``,
    and refuses them later. OpenAI refuses an empty list of tool calls (openai/openai-node#1341).
    """
    zeros = [
        name
        for name in _ADDED_FIELDS.intersection(message)
        if (message[name] == "" if name in _TEXT_FIELDS else _is_zero(message[name]))
    ]
    return {key: value for key, value in message.items() if key not in zeros} if zeros else message


def _is_zero(value: object) -> bool:
    """Return True if *value* is None, False, 0, empty, or a mapping or list of such values."""
    if isinstance(value, dict):
        return all(map(_is_zero, value.values()))
    if isinstance(value, list):
        return all(map(_is_zero, value))
    return not value


def with_audio_id(message: dict[str, Any], place: Place) -> dict[str, Any]:
    """Send the audio of the assistant by its id, or its transcript once the id has expired.

    OpenAI keeps audio until ``expires_at`` and then answers ``audio_not_found``
    (https://platform.openai.com/docs/guides/audio, "Multi-turn conversations").
    """
    audio = message.get("audio")
    if not isinstance(audio, dict) or "id" not in audio or message.get("role") != "assistant":
        return message

    expires_at = audio.get("expires_at")
    if not isinstance(expires_at, (int, float)) or expires_at > place.now + _EXPIRY_MARGIN:
        return {**message, "audio": {"id": audio["id"]}}

    rest = {key: value for key, value in message.items() if key != "audio"}
    if not rest.get("content"):
        rest["content"] = audio.get("transcript")
    return rest


def with_sendable_calls(message: dict[str, Any], place: Place) -> dict[str, Any]:
    """Mend tool calls with broken arguments or without a name; leave out unanswered ones.

    vLLM and llama.cpp parse the arguments of each call in the history and refuse the request if
    they are no JSON (vllm-project/vllm#48922, ggml-org/llama.cpp#25510). OpenAI requires a name and
    a type.
    """
    if isinstance(function := message.get("function_call"), dict):
        message = {**message, "function_call": _mend_function(function)}

    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    kept = [
        _mend(call)
        for index, call in enumerate(calls)
        if index not in place.unanswered or not _is_broken(call)
    ]
    if kept:
        return {**message, "tool_calls": kept}
    return {key: value for key, value in message.items() if key != "tool_calls"}


def _is_broken(call: Any) -> bool:
    """Return True if *call* has no name, or has arguments that are no JSON object."""
    custom = field(call, "custom")
    if isinstance(custom, dict):
        return not custom.get("name") or not isinstance(custom.get("input"), str)

    function = field(call, "function")
    if not isinstance(function, dict) or not function.get("name"):
        return True
    arguments = function.get("arguments")
    return not (
        passes_nothing(arguments) or isinstance(arguments, dict) or is_json_object(arguments)
    )


def _mend(call: Any) -> dict[str, Any]:
    """Return *call* with a type, a name, and arguments that are a JSON object."""
    given: dict[str, Any] = call if isinstance(call, dict) else {}
    custom = given.get("custom")
    if isinstance(custom, dict):
        name, text = custom.get("name") or UNNAMED_TOOL, custom.get("input")
        mended = {**custom, "name": name, "input": text if isinstance(text, str) else ""}
        return {"type": "custom", **given, "custom": mended}

    function = given.get("function")
    mended = _mend_function(function if isinstance(function, dict) else {})
    return {"type": "function", **given, "function": mended}


def _mend_function(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments")
    if not isinstance(arguments, dict):  # Ollama's own API has a mapping here
        arguments = mend_arguments(arguments)
    return {**function, "name": function.get("name") or UNNAMED_TOOL, "arguments": arguments}


def with_content(message: dict[str, Any], _place: Place) -> dict[str, Any]:
    """Leave out blank text parts, and give a message without content a text.

    The text is the refusal of the message, or `EMPTY_MESSAGE`. OpenAI requires content or calls
    (langchain-ai/langchain#4139). Mistral's chat templates refuse an assistant's message with
    neither (All-Hands-AI/OpenHands#8685), and do not read the field ``refusal``. They also require
    that the roles alternate, so the message must stay.
    """
    if message.get("role") == "tool":
        return message

    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):
        content = [part for part in content if not is_blank_part(part)]

    if content and not is_blank(content):
        return {**message, "content": content}
    if isinstance(refusal, str) and not is_blank(refusal):
        return {**message, "content": refusal, "refusal": None}
    if message.get("images"):  # of Ollama's own API, which has no parts
        return message
    if any(map(message.get, _CONTENT_SUBSTITUTES)):
        return {**message, "content": content or None}
    return {**message, "content": EMPTY_MESSAGE}


def without_noted_reason(message: dict[str, Any], _place: Place) -> dict[str, Any]:
    """Leave out the stored ``finish_reason``, which belongs to the choice and not to the message.

    A message of a request has no such field
    (https://platform.openai.com/docs/api-reference/chat/create).
    """
    return {key: value for key, value in message.items() if key != "finish_reason"}


RULES: Final[tuple[Rule, ...]] = (
    without_noted_reason,
    without_zero_values,
    with_audio_id,
    with_sendable_calls,
    with_content,
)
"""The rules of chat completions, in the order in which they are applied."""
