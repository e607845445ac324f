"""Items: what a session is made of, and how they become JSON.

1. An item is any JSON value; the Structs below are the items that tower-llm's runs are made of,
   in its wire form.
2. Encoding is lossless or refused: what is encoded is decoded again on the spot, and unless it is
   equal to what was given, nothing is written.
3. Decoding is strict: an unknown kind or field of a run item is an error, never a loss.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar, final

import msgspec
from msgspec import Struct, json

from tower_memory._errors import UnencodableItemError

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


_DEEPEST = 100
"""How far down a fault is looked for: what is nested deeper is a fault by itself."""


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


@final
class ItemCodec(Generic[Item]):
    """Items of one type to JSON and back.

    ``Any`` stands for JSON values as they are; run items are accepted too and come back as their
    JSON mapping.

    Raises:
        TypeError: *item_type* is not a type that msgspec can decode.
    """

    __slots__ = ("_decoder", "item_type")

    def __init__(self, item_type: Any) -> None:
        try:
            self._decoder: json.Decoder[Item] = json.Decoder(item_type)
        except TypeError as error:
            msg = f"item_type {item_type!r} cannot be decoded from JSON: {error}"
            raise TypeError(msg) from error
        self.item_type = item_type

    def encode(self, items: Iterable[Item], session_id: str) -> list[bytes]:
        """Each of *items* as JSON.

        Raises:
            UnencodableItemError: An item would not come back as it is.
        """
        return [
            _encode(self._decoder_for(item), item, session_id, f"items[{index}]")
            for index, item in enumerate(items)
        ]

    def decode(self, raw: bytes) -> Item:
        """The item that *raw* is the JSON of.

        Raises:
            ValueError: *raw* is no JSON, or not that of an item of this type.
        """
        try:
            return self._decoder.decode(raw)
        except RecursionError as error:
            msg = "it is nested too deeply"
            raise ValueError(msg) from error

    def _decoder_for(self, item: Item) -> json.Decoder[Item]:
        """What tells whether *item* comes back: a run item must, before it is its mapping."""
        if self.item_type is Any and isinstance(item, RunItem):
            return json.Decoder(type(item))
        return self._decoder


_any_json: json.Decoder[Any] = json.Decoder()


def snapshot(
    items: Iterable[Any], session_id: str, codec: ItemCodec[Any] | None
) -> tuple[Any, ...]:
    """Copies of *items* as a store with *codec* would give them back.

    Where that is not known, which is None, an item may be of any type that can be given back.

    Raises:
        UnencodableItemError: An item would not come back as it is.
    """
    if codec is not None:
        return tuple(map(codec.decode, codec.encode(items, session_id)))
    copies: list[Any] = []
    for index, item in enumerate(items):
        decoder = _decoder_of(item)
        copies.append(decoder.decode(_encode(decoder, item, session_id, f"items[{index}]")))
    return tuple(copies)


def json_of(value: Struct) -> Any:
    """*value* as plain JSON values, or itself where it would not come back from them."""
    raw, _ = _try_encode(_decoder_of(value), value)
    return value if raw is None else _any_json.decode(raw)


def _decoder_of(value: Item) -> json.Decoder[Item]:
    """What decodes the JSON of *value* to its like."""
    if isinstance(value, (Struct, datetime, StrEnum)):
        return json.Decoder(type(value))
    return _any_json


def _encode(decoder: json.Decoder[Any], value: Any, session_id: str, where: str) -> bytes:
    raw, reason = _try_encode(decoder, value)
    if raw is None:
        where, value, reason = _find_fault(value, where, reason)
        raise UnencodableItemError(session_id, where=where, value=value, reason=reason)
    return raw


def _try_encode(decoder: json.Decoder[Any], value: Any) -> tuple[bytes | None, str]:
    """The JSON of *value* if it comes back as it is, else None and the reason why not."""
    try:
        raw = json.encode(value)
        back = decoder.decode(raw)
        if back == value:
            return raw, ""
    except RecursionError:
        return None, "it contains itself, or is nested too deeply"
    except (TypeError, ValueError, OverflowError) as error:
        return None, f"{reprlib.repr(value)}: {error}"
    return None, f"{reprlib.repr(value)} would come back as {reprlib.repr(back)}"


def _find_fault(value: Any, where: str, reason: str) -> tuple[str, Any, str]:
    """The smallest part of *value* that cannot be encoded by itself: its place, it, and why."""
    above: set[int] = set()
    while id(value) not in above and len(above) < _DEEPEST:
        above.add(id(value))
        for place, part in _parts(value):
            if place.endswith("key") and not isinstance(part, str):
                return where + place, part, f"{reprlib.repr(part)} is a key and no string"
            typed = isinstance(value, Struct)  # whose fields may be more than JSON values
            raw, why = _try_encode(_decoder_of(part) if typed else _any_json, part)
            if raw is None:
                where, value, reason = where + place, part, why
                break
    return where, value, reason


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, Mapping):
        yield from ((", a key", key) for key in value)
        yield from ((f".{key}", part) for key, part in value.items())
    elif isinstance(value, list):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
