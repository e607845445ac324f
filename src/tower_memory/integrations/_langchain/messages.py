"""LangChain's messages as items of a session.

1. An item has the form of LangChain's ``message_to_dict``: a mapping of the message's ``type`` and
   its fields as ``data``. LangChain's own classes for histories store this form too.
   ``tower-memory import`` reads it. LangChain's other form (``dumpd``) names classes and secrets of
   the environment, which a reader looks up. This form names only one of six types of messages, so
   stored data chooses no class and no secret.
2. A message is stored lossless, or refused. The item has the values of all fields unchanged, so the
   store refuses a value that JSON cannot hold, and names its place. The message that is read from
   the item must equal the message. This fails for a subclass of LangChain's messages.
3. Three messages are stored in another form. A chunk is stored as the message that it belongs to.
   A parsed reply (``additional_kwargs["parsed"]``) is stored as the JSON value of its model, as
   LangChain's ``dumps`` does. A message of an input may be a mapping or a pair, as chat models
   accept them.
4. An item that is a message of chat completions is read, too. Summaries have this form, and so have
   the conversations that ``tower-memory import`` has imported. A message with any other role
   becomes a `ChatMessage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from pydantic import BaseModel

from tower_memory.dialects import ChatCompletions, ItemLinks
from tower_memory.dialects.toolkit import (
    MISSING,
    describe_shape,
    field,
    id_or_name,
    item_links,
    list_field,
)

_CLASSES: Final[Mapping[object, type[BaseMessage]]] = {
    "ai": AIMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "human": HumanMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
}
"""The class of each type of message."""

_CALLS: Final = ("tool_calls", "invalid_tool_calls")
"""Fields that the constructor of a message may change."""

_ROLES: Final = ("user", "assistant", "system", "developer", "tool", "function", *_CLASSES)
"""The roles of messages that are no `ChatMessage`."""

_USERS: Final = ("human", "user")

_CHAT_LINKS: Final = ChatCompletions().links


def to_item(message: BaseMessage) -> dict[str, Any]:
    """Return *message* as an item (rules 1 to 3).

    Raises:
        TypeError: The message that is read from the item would not equal *message*.
    """
    message = message_chunk_to_message(message)
    parsed = message.additional_kwargs.get("parsed")
    if isinstance(parsed, BaseModel):
        plain = {**message.additional_kwargs, "parsed": parsed.model_dump(mode="json")}
        message = message.model_copy(update={"additional_kwargs": plain})

    data = {**message.__dict__, **(message.__pydantic_extra__ or {})}
    item = {"type": message.type, "data": data}
    if _read(item) != message:
        msg = (
            f"a message of the class {type(message).__name__} cannot be stored without a change; "
            "make it a HumanMessage, AIMessage, ToolMessage, SystemMessage or ChatMessage with "
            "fields of the declared types"
        )
        raise TypeError(msg)
    return item


def to_message(item: Any) -> BaseMessage:
    """Return the message of a stored item, or of a message of chat completions (rule 4).

    Raises:
        TypeError: *item* is no such item.
    """
    message = _read_chat(item) if field(item, "role") is not MISSING else _read(item)
    if message is None:
        msg = (
            "history must consist of LangChain's messages or messages of chat completions, got "
            f"{describe_shape(item)}; use a session of its own"
        )
        raise TypeError(msg)
    return message


def as_message(value: Any, where: str) -> BaseMessage:
    """Return *value*, a message or a value that stands for one, as a message.

    Raises:
        TypeError: *value* stands for no message.
    """
    if isinstance(value, BaseMessage):
        return value
    try:
        (message,) = convert_to_messages([value])
    except (LookupError, NotImplementedError, TypeError, ValueError):  # the text shows the value
        msg = f"{where} must be a message of LangChain, got {describe_shape(value)}"
        raise TypeError(msg) from None
    return message


def message_links(item: Any) -> ItemLinks:
    """Return the links of *item*: a message, its item, or a message of chat completions.

    A chat model gets invalid tool calls back as well, so they need their results.
    """
    if field(item, "role") is not MISSING and not isinstance(item, BaseMessage):
        return _CHAT_LINKS(item)

    kind = field(item, "type")
    data = item if isinstance(item, BaseMessage) else field(item, "data")
    if kind in ("ai", "AIMessageChunk"):
        calls = (call for name in _CALLS for call in list_field(data, name))
        return item_links(
            (id_or_name(field(call, "id"), field(call, "name")) for call in calls), ()
        )
    if kind in ("tool", "ToolMessageChunk"):
        answered = id_or_name(field(data, "tool_call_id"), field(data, "name"))
        return item_links((), [answered])
    is_user = kind in ("human", "HumanMessageChunk") or field(data, "role") in _USERS
    return item_links((), (), starts_exchange=is_user)


def _read(item: Any) -> BaseMessage | None:
    """Return the message of a stored item; None if it has no known type or no such fields."""
    kind, data = field(item, "type"), field(item, "data")
    if kind not in _CLASSES or not isinstance(data, Mapping):
        return None
    try:
        message = _CLASSES[kind](**{name: data[name] for name in data if name not in _CALLS})
    except (TypeError, ValueError, LookupError):  # its text shows the fields
        return None

    # The constructor would read calls from additional_kwargs that the program has removed.
    for name in _CALLS:
        if kind == "ai" and isinstance(data.get(name), list):
            setattr(message, name, data[name])
    return message


def _read_chat(item: Any) -> BaseMessage | None:
    """Return the message of a message of chat completions; None if it is none."""
    fields = {"content": "", **item}
    if fields["role"] not in _ROLES:
        return _read({"type": "chat", "data": fields})
    if list_field(fields, "tool_calls"):  # the message reads them from there, also broken ones
        fields["additional_kwargs"] = {"tool_calls": fields.pop("tool_calls")}
    try:
        return as_message(fields, "history")
    except TypeError:
        return None
