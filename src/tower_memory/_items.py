"""Items, the elements of a session.

1. An item is any JSON value. The run items below are Structs with the wire form of tower-llm's
   run items.
2. A run item with an unknown type or field is refused; nothing of it is dropped silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar, final

import msgspec
from msgspec import Struct, json

Item = TypeVar("Item")


@final
class Role(StrEnum):
    """Role of a message's author."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@final
class Message(Struct, frozen=True, omit_defaults=True):
    """A chat message.

    Attributes:
        role: Role of the author; usually one of `Role`.
        content: Text, a list of content parts, or None for no content; any JSON value.
        name: Name of the author, in conversations with several authors of one role.
        tool_call_id: Id of the tool call that a tool's message answers.
        tool_calls: Tool calls of an assistant's message.
    """

    role: str
    content: Any = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[Any] | None = None


@final
class MessageItem(Struct, frozen=True, forbid_unknown_fields=True, tag="Message"):
    """A message in a run.

    Attributes:
        id: Unique id of the item.
        role: Role of the author.
        content: Text of the message.
        created_at: Time of creation, to the microsecond. A time zone is recommended; a time without
            one is stored and loaded without one.
    """

    id: str
    role: Role
    content: str
    created_at: datetime


@final
class ToolCallItem(Struct, frozen=True, forbid_unknown_fields=True, tag="ToolCall"):
    """A tool call in a run.

    Attributes:
        id: Id of the call, to which its `ToolOutputItem` refers.
        tool_name: Name of the tool.
        arguments: Arguments of the call; any JSON value.
        created_at: Time of creation, as in `MessageItem`.
    """

    id: str
    tool_name: str
    arguments: Any
    created_at: datetime


@final
class ToolOutputItem(Struct, frozen=True, forbid_unknown_fields=True, tag="ToolOutput"):
    """A tool result in a run.

    Attributes:
        id: Unique id of the item.
        tool_call_id: ``id`` of the `ToolCallItem` that this result belongs to.
        output: Output of the tool; any JSON value.
        error: Error text of a failed call, or None.
        created_at: Time of creation, as in `MessageItem`.
    """

    id: str
    tool_call_id: str
    output: Any
    error: str | None
    created_at: datetime


@final
class HandoffItem(Struct, frozen=True, forbid_unknown_fields=True, tag="Handoff"):
    """A handoff of the conversation from one agent to another.

    Attributes:
        id: Unique id of the item.
        from_agent: Name of the agent that hands off the conversation.
        to_agent: Name of the agent that takes over.
        reason: Reason of the handoff, or None.
        created_at: Time of creation, as in `MessageItem`.
    """

    id: str
    from_agent: str
    to_agent: str
    reason: str | None
    created_at: datetime


RunItem: TypeAlias = MessageItem | ToolCallItem | ToolOutputItem | HandoffItem
"""One step of a run. Its JSON is ``{"type": "Message", "id": ..., "role": ..., ...}``."""


INTERRUPTED_REPLY: Final = "(interrupted: this reply is not complete)"
"""Text at the end of a stored reply whose stream did not reach its end."""


def to_messages(items: Iterable[object]) -> list[Message]:
    """Return the messages among *items*, chat messages and run items; leave out everything else."""
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
    """Return *items* with their run items converted to chat messages; other items stay as they are.

    An assistant's message and the tool calls that directly follow it become one message, as in
    tower-llm, which stores a reply with tool calls as a message, often an empty one, and its calls.
    Tool calls without such a message become one message, too. A handoff is not a message and is
    left out.
    """
    messages: list[Any] = []
    caller: dict[str, Any] | None = None  # the last message, if a tool call may be added to it
    for item in items:
        run_item: Any = msgspec.to_builtins(item) if isinstance(item, RunItem) else item

        match run_item:
            case {"type": "ToolCall", "id": call_id, "tool_name": name, "arguments": arguments}:
                if caller is None:
                    caller = {"role": "assistant", "content": None}
                    messages.append(caller)
                function = {"name": name, "arguments": json.encode(arguments).decode()}
                call = {"id": call_id, "type": "function", "function": function}
                caller["content"] = caller["content"] or None
                caller.setdefault("tool_calls", []).append(call)
                continue
            case {"type": "Message", "role": role, "content": content}:
                message = {"role": role, "content": content}
                messages.append(message)
                caller = message if role == "assistant" else None
                continue
            case {"type": "ToolOutput", "tool_call_id": call_id, "output": output, "error": error}:
                text = output if isinstance(output, str) else json.encode(output).decode()
                content = text if error is None else f"Error: {error}"
                messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
            case {"type": "Handoff"}:
                continue
            case _:
                messages.append(item)

        caller = None  # the next tool call starts a new message

    return messages
