"""Mistral: its chat templates, its validator (mistral-common) and its API.

1. A request must pass all three, because it may be served by any of them: mistralai/mistral-common,
   ``src/mistral_common/protocol/instruct/validator.py`` (commit bc022b9) in the mode ``serving``;
   the chat template of mistralai/Devstral-Small-2-24B-Instruct-2512; api.mistral.ai.
2. Left out: ids of tool calls that have exactly nine letters and digits, which
   ``MistralRequestValidatorV3`` and its heirs ask for. Ids of other providers' calls never
   have this form.
3. Left out: "either content or tool_calls, but not both", which holds up to tokenizer version 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from helpers.validators.refused import (
    check_json,
    check_list,
    check_name,
    check_object,
    check_text,
    refuse_if,
)

_FOLLOWERS: Final = {
    "system": {"user", "assistant"},
    "user": {"user", "assistant"},
    "assistant": {"assistant", "user", "tool"},
    "tool": {"assistant", "tool"},
}
"""Roles that may follow each role, see `_check_order`."""


def check_mistral(messages: object) -> None:
    """Raise `Refused` if Mistral would refuse *messages*."""
    check_json(messages)
    checked = check_list(messages, "messages")
    roles = [
        check_text(message.get("role"), f"messages[{index}].role")
        for index, message in enumerate(checked)
    ]
    _check_order(roles)
    _check_alternation(checked)
    _check_end(checked)

    for index, message in enumerate(checked):
        where = f"messages[{index}]"
        if message["role"] == "assistant":
            _check_assistant(message, where)
        else:
            _check_content(message, where)
    _check_results(checked)


def _check_order(roles: Sequence[str]) -> None:
    """Refuse a role that may not follow the one before, and a start that is not user or system.

    ``_validate_message_order`` and "Conversation must start with a user message or system message"
    in mistral-common. Stricter: the template knows a system message only at the front. The API
    answers "Unexpected role 'user' after role 'tool'"
    (https://github.com/datapizza-labs/datapizza-ai/issues/98), which mistral-common accepts today.
    """
    for role in roles:
        refuse_if(role not in _FOLLOWERS, f"Unexpected role '{role}'")
    refuse_if(
        roles[0] not in ("user", "system"),
        "Conversation must start with a user message or system message",
    )
    for before, role in pairwise(roles):
        refuse_if(role not in _FOLLOWERS[before], f"Unexpected role '{role}' after role '{before}'")


def _check_alternation(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse messages of user and assistant that do not alternate, calls and results aside.

    The template, as in https://github.com/charmbracelet/crush/issues/279. mistral-common joins
    neighbours of one role instead.
    """
    turns = [
        message["role"]
        for message in messages
        if message["role"] == "user" or (message["role"] == "assistant" and not _has_calls(message))
    ]
    for index, role in enumerate(turns):
        refuse_if(
            role != ("assistant" if index % 2 else "user"),
            "After the optional system message, conversation roles must alternate user and "
            "assistant roles except for tool calls and results.",
        )


def _check_end(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an end that is not user, tool, or an assistant's prefix, and a prefix elsewhere.

    ``_validate_last_message`` and ``_validate_assistant_message`` in mistral-common; a system
    message may stand alone. The API answers the same
    (https://github.com/huggingface/smolagents/issues/757).
    """
    for message in messages[:-1]:
        refuse_if(message.get("prefix"), "Assistant message with prefix True must be last message")
    last = messages[-1]
    refuse_if(
        last["role"] == "assistant" and not last.get("prefix"),
        "Expected last role User or Tool (or Assistant with prefix True) for serving",
    )


def _has_calls(message: Mapping[str, Any]) -> bool:
    """Return True if *message* holds tool calls."""
    return bool(message.get("tool_calls"))


def _check_content(message: Mapping[str, Any], where: str) -> None:
    """Refuse content that is neither text nor a list of chunks (mistral-common, ``messages.py``).

    A tool result's name must be valid too (``_validate_tool_message``).
    """
    content = message.get("content")
    refuse_if(not isinstance(content, (str, list)), f"{where}.content: Input should be a string")
    for chunk in content if isinstance(content, list) else ():
        refuse_if(
            not isinstance(chunk, Mapping) or not isinstance(chunk.get("type"), str),
            f"{where}.content: Unexpected content chunk types",
        )
    if message["role"] == "tool" and message.get("name") is not None:
        check_name(message["name"], f"{where}.name")


def _check_assistant(message: Mapping[str, Any], where: str) -> None:
    """Refuse an assistant's message without content and tool calls, and invalid calls.

    "Assistant message must have either content or tool_calls, but not none."
    (https://github.com/OpenHands/OpenHands/issues/8685). The types of chunks:
    ``_validate_assistant_content_chunks`` from version 11 on.
    """
    content = message.get("content")
    refuse_if(
        not content and not _has_calls(message),
        f"{where}: Assistant message must have either content or tool_calls, but not none.",
    )
    if content is not None:
        _check_content(message, where)
    for chunk in content if isinstance(content, list) else ():
        refuse_if(
            chunk["type"] not in ("text", "thinking"),
            f"{where}.content: Unexpected content chunk types in assistant message",
        )

    if _has_calls(message):
        for number, call in enumerate(check_list(message["tool_calls"], f"{where}.tool_calls")):
            _check_call(call, f"{where}.tool_calls[{number}]")


def _check_call(call: Mapping[str, Any], where: str) -> None:
    """Refuse a call without a valid name, an id, or arguments (``FunctionCall``, ``ToolCall``)."""
    check_text(call.get("id"), f"{where}.id")
    function = check_object(call.get("function"), f"{where}.function")
    check_name(function.get("name"), f"{where}.function.name")
    refuse_if(
        not isinstance(function.get("arguments"), (str, Mapping)),
        f"{where}.function.arguments: Input should be a valid string",
    )


def _check_results(messages: Sequence[Mapping[str, Any]]) -> None:
    """Refuse calls whose ids or results do not match.

    ``MistralRequestValidatorV13._validate_tool_calls_followed_by_tool_messages``, with the answer
    "Not the same number of function calls and responses"
    (https://github.com/mistralai/client-ts/issues/106).
    """
    differ = "Not the same number of function calls and responses"
    pending: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            call_id = check_text(message.get("tool_call_id"), "tool_call_id")
            refuse_if(call_id not in pending, "Unexpected tool call id in tool results")
            pending.remove(call_id)
        elif message["role"] == "assistant":
            refuse_if(pending, differ)
            pending = [call["id"] for call in message.get("tool_calls") or ()]
            refuse_if(len(pending) != len(set(pending)), "Duplicate tool call id")
    refuse_if(pending, differ)
