"""LangChain's messages, as messages of OpenAI's chat completions.

Source of the stored form: ``message_to_dict`` of langchain-core, a mapping with the message's type
and its fields as ``data``.

1. Roles: human is user, ai is assistant. A chunk is a message of its kind. A chat message has its
   own role. A system message may be a developer's (``additional_kwargs["__openai_role__"]``).
2. Tool calls of ``tool_calls`` and ``invalid_tool_calls`` become OpenAI's; their arguments are JSON
   text. Messages of old versions have them, in OpenAI's form, in ``additional_kwargs``.
3. Of an assistant's content parts only the texts stay: reasoning and tool calls of other providers
   are no content of chat completions. Images of users become ``image_url`` parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import json

from tower_memory._command.errors import Fault

_ROLES: Final = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
    "chat": None,
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "function",
    "ChatMessageChunk": None,
}
"""The role of each type of message; None for a message with a role of its own."""


def to_chat_message(stored: Any) -> dict[str, Any]:
    """Return the chat message of a stored message.

    >>> from tower_memory._command.langchain_messages import to_chat_message
    >>> to_chat_message({"type": "human", "data": {"content": "Hi"}})
    {'role': 'user', 'content': 'Hi'}

    Raises:
        Fault: *stored* is no message of LangChain.
    """
    data = stored.get("data") if isinstance(stored, dict) else None
    if not isinstance(data, dict) or stored.get("type") not in _ROLES:
        msg = "it is not a message of LangChain with a known type"
        raise Fault(msg)
    extra = data.get("additional_kwargs")
    extra = extra if isinstance(extra, dict) else {}

    role = _ROLES[stored["type"]] or data.get("role")
    if role == "system" and extra.get("__openai_role__") == "developer":
        role = "developer"
    if not isinstance(role, str):
        msg = "a chat message has no role"
        raise Fault(msg)

    message = {"role": role, "content": _content(data.get("content"), role)}
    if isinstance(name := data.get("name"), str):
        message["name"] = name
    if role == "tool":
        message["tool_call_id"] = data.get("tool_call_id")
    if role == "assistant":
        message |= _calls(data, extra)
    return message


def _calls(data: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an assistant's message with its tool calls (rule 2)."""
    stored = [*(data.get("tool_calls") or ()), *(data.get("invalid_tool_calls") or ())]
    calls = [_call(call) for call in stored]
    calls = calls or extra.get("tool_calls") or []
    if calls:
        return {"tool_calls": calls}
    if function_call := extra.get("function_call"):
        return {"function_call": function_call}
    return {}


def _call(call: Any) -> dict[str, Any]:
    if not isinstance(call, dict):
        msg = "a tool call is no object"
        raise Fault(msg)
    function = {"name": call.get("name"), "arguments": _arguments(call.get("args"))}
    return {"id": call.get("id"), "type": "function", "function": function}


def _arguments(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.encode(arguments or {}).decode()


def _content(content: Any, role: str) -> Any:
    """Return the content of a message with parts of chat completions (rule 3)."""
    if not isinstance(content, list):
        return content

    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else _part(part) for part in content
    ]
    if role == "assistant":
        return [part for part in parts if part.get("type") in ("text", "refusal")]
    return parts


def _part(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        msg = "a part of its content is neither text nor an object"
        raise Fault(msg)

    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": part.get("text", "")}
    if kind == "image" and (url := _image_url(part)):
        return {"type": "image_url", "image_url": {"url": url}}
    return part


def _image_url(part: Mapping[str, Any]) -> str | None:
    """Return the URL of an image of LangChain or of Anthropic."""
    source = part["source"] if isinstance(part.get("source"), dict) else part
    if isinstance(url := source.get("url"), str):
        return url
    data = source.get("base64") or source.get("data")
    media_type = source.get("mime_type") or source.get("media_type")
    return f"data:{media_type};base64,{data}" if data and media_type else None
