"""Items: what a session is made of.

1. An item is any JSON value; the Structs below are the items that tower-llm's runs are made of,
   in its wire form.
2. An unknown kind or field of a run item is an error, never a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, final

import msgspec
from msgspec import Struct, json

Item = TypeVar("Item")


@final
class Role(StrEnum):
    """Whose message it is."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@final
class Message(Struct, frozen=True, omit_defaults=True):
    """A message as chat models speak it.

    Attributes:
        role: Whose it is; usually one of `Role`.
        content: Text, a list of content parts, or None where there is none; any JSON value.
        name: The author, in conversations of several.
        tool_call_id: The call that a tool's message answers.
        tool_calls: The calls that an assistant's message makes.
    """

    role: str
    content: Any = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Any] | None = None


@final
class MessageItem(Struct, frozen=True, forbid_unknown_fields=True, tag="Message"):
    """Something that was said.

    Attributes:
        id: Tells it from others.
        role: Who said it.
        content: What was said.
        created_at: When, to the microsecond; best with a time zone, as without it stays without.
    """

    id: str
    role: Role
    content: str
    created_at: datetime


@final
class ToolCallItem(Struct, frozen=True, forbid_unknown_fields=True, tag="ToolCall"):
    """A call of a tool.

    Attributes:
        id: What the output refers to.
        tool_name: The tool.
        arguments: Any JSON value.
        created_at: When, as for `MessageItem`.
    """

    id: str
    tool_name: str
    arguments: Any
    created_at: datetime


@final
class ToolOutputItem(Struct, frozen=True, forbid_unknown_fields=True, tag="ToolOutput"):
    """What a tool gave back.

    Attributes:
        id: Tells it from others.
        tool_call_id: The ``id`` of the `ToolCallItem` that it answers.
        output: Any JSON value.
        error: What went wrong, or None.
        created_at: When, as for `MessageItem`.
    """

    id: str
    tool_call_id: str
    output: Any
    error: str | None
    created_at: datetime


@final
class HandoffItem(Struct, frozen=True, forbid_unknown_fields=True, tag="Handoff"):
    """One agent passing the conversation to another.

    Attributes:
        id: Tells it from others.
        from_agent: Who passes it on.
        to_agent: Who gets it.
        reason: Why, or None.
        created_at: When, as for `MessageItem`.
    """

    id: str
    from_agent: str
    to_agent: str
    reason: str | None
    created_at: datetime


RunItem: TypeAlias = MessageItem | ToolCallItem | ToolOutputItem | HandoffItem
"""One step of a run: ``{"type": "Message", "id": ..., "role": ..., ...}`` on the wire."""


def to_messages(items: Iterable[object]) -> list[Message]:
    """The messages among *items*, chat messages and run items alike; the rest is left out."""
    return [
        Message(
            role,
            message.get("content"),
            name=message.get("name"),
            tool_call_id=message.get("tool_call_id"),
            tool_calls=message.get("tool_calls"),
        )
        for message in as_chat(items)
        if isinstance(message, Mapping) and isinstance(role := message.get("role"), str)
    ]


def as_chat(items: Iterable[Any]) -> list[Any]:
    """*items* with the run items among them spelled as chat messages; the rest as it is.

    Tool calls that follow each other make one assistant's message. A handoff is no message and is
    left out.
    """
    messages: list[Any] = []
    calls: list[Any] = []
    for item in items:
        run_item: Any = msgspec.to_builtins(item) if isinstance(item, RunItem) else item
        match run_item:
            case {"type": "ToolCall", "id": call_id, "tool_name": name, "arguments": arguments}:
                function = {"name": name, "arguments": json.encode(arguments).decode()}
                if not calls:
                    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
                calls.append({"id": call_id, "type": "function", "function": function})
                continue
            case {"type": "Message", "role": role, "content": content}:
                messages.append({"role": role, "content": content})
            case {"type": "ToolOutput", "tool_call_id": call_id, "output": output, "error": error}:
                text = output if isinstance(output, str) else json.encode(output).decode()
                content = text if error is None else f"Error: {error}"
                messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
            case {"type": "Handoff"}:
                continue
            case _:
                messages.append(item)
        calls = []  # of the next message that makes calls
    return messages
