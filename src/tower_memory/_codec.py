"""How items become JSON, and items again.

Lossless or refused: what is encoded is decoded again on the spot, and unless it is equal to what
was given, nothing is written.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeAlias, final

from msgspec import Struct, json

from tower_memory._errors import UnencodableItemError
from tower_memory._items import Item, RunItem

_Tried: TypeAlias = tuple[tuple[bytes, Any] | None, str]
"""A value as JSON and as what that decodes to, or None and the reason why not."""

_DEEPEST = 100
"""How far down a fault is looked for: what is nested deeper is a fault by itself."""


@final
class ItemCodec(Generic[Item]):
    """Items of one type to JSON and back.

    ``Any`` stands for JSON values as they are; run items are accepted too and come back as their
    JSON mapping.

    Attributes:
        item_type: The type.
        key: Equal to that of any codec of the same type.

    Raises:
        TypeError: *item_type* is not a type that msgspec can decode.
    """

    __slots__ = ("_decoder", "item_type", "key")

    def __init__(self, item_type: Any) -> None:
        try:
            self._decoder: json.Decoder[Item] = json.Decoder(item_type)
        except TypeError as error:
            msg = f"item_type {item_type!r} cannot be decoded from JSON: {error}"
            raise TypeError(msg) from error
        self.item_type = item_type
        self.key: Hashable = item_type if _can_be_a_key(item_type) else object()

    def encode(self, items: Iterable[Item], session_id: str) -> list[bytes]:
        """Each of *items* as JSON.

        Raises:
            UnencodableItemError: An item would not come back as it is.
        """
        return [raw for raw, _ in self.checked(items, session_id)]

    def checked(self, items: Iterable[Item], session_id: str) -> list[tuple[bytes, Item]]:
        """Each of *items* as JSON, and as what that decodes to.

        Raises:
            UnencodableItemError: An item would not come back as it is.
        """
        return _checked(items, session_id, self._try)

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

    def _try(self, item: Item) -> _Tried:
        if self.item_type is Any and isinstance(item, Struct) and isinstance(item, RunItem):
            encoded, reason = _try_encode(json.Decoder(type(item)), item)
            return encoded and (encoded[0], self.decode(encoded[0])), reason  # its mapping
        return _try_encode(self._decoder, item)


def _can_be_a_key(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


_any_json: json.Decoder[Any] = json.Decoder()


def snapshot(
    items: Iterable[Any], session_id: str, codec: ItemCodec[Any] | None
) -> tuple[Any, ...]:
    """Copies of *items* as a store with *codec* would give them back.

    Where that is not known, which is None, an item may be of any type that can be given back.

    Raises:
        UnencodableItemError: An item would not come back as it is.
    """
    checked = (
        codec.checked(items, session_id)
        if codec is not None
        else _checked(items, session_id, lambda item: _try_encode(_decoder_of(item), item))
    )
    return tuple([item for _, item in checked])


def json_of(value: Struct) -> Any:
    """*value* as plain JSON values, or itself where it would not come back from them."""
    encoded, _ = _try_encode(_decoder_of(value), value)
    return value if encoded is None else _any_json.decode(encoded[0])


def _decoder_of(value: Item) -> json.Decoder[Item]:
    """What decodes the JSON of *value* to its like."""
    if isinstance(value, (Struct, datetime, StrEnum)):
        return json.Decoder(type(value))
    return _any_json


def _checked(
    items: Iterable[Any], session_id: str, attempt: Callable[[Any], _Tried]
) -> list[tuple[bytes, Any]]:
    """What an *attempt* at each of *items* gives.

    Raises:
        UnencodableItemError: An item would not come back as it is.
    """
    checked: list[tuple[bytes, Any]] = []
    for index, item in enumerate(items):
        encoded, reason = attempt(item)
        if encoded is None:
            where, value, reason = _find_fault(item, f"items[{index}]", reason)
            raise UnencodableItemError(session_id, where=where, value=value, reason=reason)
        checked.append(encoded)
    return checked


def _try_encode(decoder: json.Decoder[Any], value: Any) -> _Tried:
    """The JSON of *value*, and what comes back from it, if that is the same, else None and why."""
    try:
        raw = json.encode(value)
        back = decoder.decode(raw)
        if back == value:
            return (raw, back), ""
    except RecursionError:
        return None, "it contains itself, or is nested too deeply"
    except (TypeError, ValueError, OverflowError) as error:
        return None, f"{reprlib.repr(value)}: {error}"
    return None, f"{reprlib.repr(value)} would come back as {reprlib.repr(back)}"


_KEY = ", a key"


def _find_fault(value: Any, where: str, reason: str) -> tuple[str, Any, str]:
    """The smallest part of *value* that cannot be encoded by itself: its place, it, and why."""
    above: set[int] = set()
    while id(value) not in above and len(above) < _DEEPEST:
        above.add(id(value))
        for place, part in _parts(value):
            if place == _KEY and not isinstance(part, str):
                return where + place, part, f"{reprlib.repr(part)} is a key and no string"
            typed = isinstance(value, Struct)  # whose fields may be more than JSON values
            encoded, why = _try_encode(_decoder_of(part) if typed else _any_json, part)
            if encoded is None:
                where, value, reason = where + place, part, why
                break
    return where, value, reason


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, Mapping):
        yield from ((_KEY, key) for key in value)
        yield from ((f".{key}", part) for key, part in value.items())
    elif isinstance(value, list):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
