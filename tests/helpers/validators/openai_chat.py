"""OpenAI's chat completions (``POST /v1/chat/completions``).

The shapes are those of ``ChatCompletionRequestMessage`` in
https://github.com/openai/openai-openapi (openapi.json, commit f85dbe2). Fields that the schema does
not have, such as ``reasoning_content``, are accepted: no source tells what OpenAI does with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from helpers.validators.refused import (
    check_json,
    check_list,
    check_name,
    check_object,
    check_text,
    refuse_if,
)

_PARTS: Final = {
    "assistant": {"text", "refusal"},
    "developer": {"text"},
    "system": {"text"},
    "tool": {"text"},
    "user": {"text", "image_url", "input_audio", "file"},
}
"""Types of content parts, by role (``ChatCompletionRequestUserMessageContentPart`` and others)."""

_SUBSTITUTES: Final = ("tool_calls", "function_call", "refusal", "audio")


def check_openai_chat(
    messages: object,
    *,
    audio_expires_at: Mapping[str, float] | None = None,
    now: float = 0,
) -> None:
    """Raise `Refused` if OpenAI's chat completions would refuse *messages*.

    *audio_expires_at* has the time in Unix seconds at which the server forgets an audio, by its id;
    *now* is the time of the request. Audio that is not listed never expires.
    """
    check_json(messages)
    checked = check_list(messages, "messages")

    for index, message in enumerate(checked):
        where = f"messages[{index}]"
        role = check_text(message.get("role"), f"{where}.role")
        refuse_if(
            role != "function" and role not in _PARTS,
            f"Invalid value for '{where}.role': supported values are "
            "'system', 'assistant', 'user', 'function', 'tool', and 'developer'",
        )
        if role == "assistant":
            _check_assistant(message, where)
            _check_audio(message.get("audio"), where, audio_expires_at or {}, now)
        elif role == "function":
            _check_function_result(message, where)
        else:
            _check_content(message.get("content"), role, where)

    _check_results(checked)


def _check_content(content: object, role: str, where: str) -> None:
    """Refuse content that is neither text nor a non-empty list of the role's parts.

    The schema: ``content`` is a string or an array with ``minItems: 1``. A part of another type is
    refused too (https://github.com/langchain-ai/langchainjs/issues/11049).
    """
    if isinstance(content, str):
        return
    refuse_if(content is None, f"Invalid value for '{where}.content': expected a string, got null")

    parts = check_list(content, f"{where}.content")
    for number, part in enumerate(parts):
        place = f"{where}.content[{number}]"
        kind = check_text(part.get("type"), f"{place}.type")
        refuse_if(kind not in _PARTS[role], f"Invalid value: '{place}.type'")
        if kind in ("text", "refusal"):
            check_text(part.get(kind), f"{place}.{kind}", empty=True)
        else:
            check_object(part.get(kind), f"{place}.{kind}")

    # "One or more of type text, or exactly one of type refusal" (the schema's description).
    refused = [part for part in parts if part["type"] == "refusal"]
    refuse_if(refused and len(parts) > 1, f"'{where}.content' mixes a refusal with other parts")


def _check_assistant(message: Mapping[str, Any], where: str) -> None:
    """Refuse an assistant's message without content and without a substitute of it.

    "Required unless tool_calls or function_call is specified" (the schema), with the answer
    "Invalid value for 'content': expected a string, got null"
    (https://github.com/vercel/ai/pull/13744). Audio alone is accepted
    (https://github.com/nextcloud/integration_openai/pull/227). That a refusal alone is accepted has
    no source: it is how OpenAI itself sends it.
    """
    if message.get("content") is not None or not any(message.get(key) for key in _SUBSTITUTES):
        _check_content(message.get("content"), "assistant", where)

    call = message.get("function_call")
    if call is not None:
        _check_function(call, f"{where}.function_call")
    if "tool_calls" in message:
        _check_calls(message["tool_calls"], f"{where}.tool_calls")


def _check_calls(calls: object, where: str) -> None:
    """Refuse an empty list of tool calls, and a call without its id, type, name or arguments.

    "Invalid 'messages[1].tool_calls': empty array. Expected an array with minimum length 1"
    (https://github.com/openai/openai-node/pull/1341). The fields are required by
    ``ChatCompletionMessageToolCall``. OpenAI does not read the arguments as JSON. That an empty id
    is refused has no source. Ids may have a greatest length, of 40 or 64, depending on the model
    (https://github.com/openclaw/openclaw/pull/875); it is not checked.
    """
    for number, call in enumerate(check_list(calls, where)):
        place = f"{where}[{number}]"
        check_text(call.get("id"), f"{place}.id")
        kind = call.get("type")
        refuse_if(kind not in ("function", "custom"), f"Invalid value: '{place}.type'")
        if kind == "function":
            _check_function(call.get("function"), f"{place}.function")
        else:
            _check_function(call.get("custom"), f"{place}.custom", "input")


def _check_function(function: object, where: str, text: str = "arguments") -> None:
    """Refuse a call without a valid name, or whose field *text* is no string (the schema)."""
    fields = check_object(function, where)
    check_name(fields.get("name"), f"{where}.name")
    check_text(fields.get(text), f"{where}.{text}", empty=True)


def _check_function_result(message: Mapping[str, Any], where: str) -> None:
    """Refuse a result of a ``function_call`` without its name, or with content but text.

    ``ChatCompletionRequestFunctionMessage``: content is a string or null, and required.
    """
    check_name(message.get("name"), f"{where}.name")
    refuse_if("content" not in message, f"Missing required parameter: '{where}.content'")
    if message["content"] is not None:
        check_text(message["content"], f"{where}.content", empty=True)


def _check_audio(audio: object, where: str, expires_at: Mapping[str, float], now: float) -> None:
    """Refuse audio with other fields than its id, and audio that the server has forgotten.

    The request's schema has ``id`` alone; "can only pass the audio id"
    (https://github.com/sashabaranov/go-openai/issues/1078). ``expires_at`` of a response is "when
    this audio response will no longer be accessible on the server for use in multi-turn
    conversations" (``ChatCompletionResponseMessage.audio``).
    """
    if audio is None:
        return
    fields = check_object(audio, f"{where}.audio")
    name = check_text(fields.get("id"), f"{where}.audio.id")
    for key in fields:
        refuse_if(key != "id", f"Unknown parameter: '{where}.audio.{key}'")
    refuse_if(expires_at.get(name, now + 1) <= now, f"'{where}.audio.id' has expired")


def _check_results(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse tool calls that are not followed by their results, and other tool results.

    "An assistant message with 'tool_calls' must be followed by tool messages responding to each
    'tool_call_id'" (https://github.com/agno-agi/agno/issues/3105), and "messages with role 'tool'
    must be a response to a preceding message with 'tool_calls'"
    (https://github.com/FoundationAgents/OpenManus/issues/744). That a second result of one call is
    refused has no source.
    """
    pending: list[str] = []
    unanswered = (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'"
    )
    for message in messages:
        if message["role"] == "tool":
            call_id = check_text(message.get("tool_call_id"), "tool_call_id")
            refuse_if(
                call_id not in pending,
                "messages with role 'tool' must be a response to a preceding message with "
                "'tool_calls'",
            )
            pending.remove(call_id)
            continue

        refuse_if(pending, unanswered)
        if message["role"] == "assistant":
            pending = [call["id"] for call in message.get("tool_calls") or ()]
    refuse_if(pending, unanswered)
