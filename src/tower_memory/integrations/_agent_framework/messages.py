"""Messages of agent-framework as items of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent_framework import Message

from tower_memory._errors import SessionError
from tower_memory._history import History
from tower_memory._tool_links import ItemLinks, item_links


def to_items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return *messages* as items, in the framework's own JSON form."""
    return [message.to_dict() for message in messages]


def to_messages(history: History[Any], items: Sequence[Any]) -> list[Message]:
    """Return *items*, which are those of *history* or a window of it, as messages.

    Raises:
        SessionError: An item is no message of agent-framework.
    """
    return [_to_message(history.session_id, item) for item in items]


def _to_message(session_id: str, item: Any) -> Message:
    try:
        if isinstance(item, dict) and isinstance(item.get("contents"), list):
            return Message.from_dict(item)
        cause = None
    except (TypeError, ValueError) as error:
        cause = error

    msg = (
        "it has an item that is no message of agent-framework; give the history provider sessions "
        'of its own, such as those of ScopedStore(store, "agents")'
    )
    raise SessionError(msg, session_id=session_id) from cause


def message_links(item: Any) -> ItemLinks:
    """Return the tool links of an item.

    A message that answers a request for approval starts no exchange, but goes on with one.
    """
    contents = item.get("contents") if isinstance(item, dict) else None
    parts = [part for part in contents or () if isinstance(part, dict)]
    is_approval = any(part.get("type") == "function_approval_response" for part in parts)
    return item_links(
        _call_ids(parts, "_call"),
        _call_ids(parts, "_result"),
        starts_exchange=bool(parts) and item.get("role") == "user" and not is_approval,
    )


def _call_ids(parts: Sequence[dict[str, Any]], ending: str) -> list[str]:
    """Return the call ids of the parts whose type has this *ending*."""
    return [
        part["call_id"]
        for part in parts
        if str(part.get("type")).endswith(ending) and isinstance(part.get("call_id"), str)
    ]
