"""Encoding of items to JSON, and decoding of JSON to items.

Encoding is lossless or refused: each encoded item is decoded again at once. If the result differs
from the item, the encoding fails and nothing is written. Encoding and decoding work at any depth of
the caller's stack (`_deep_json`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, final

from msgspec import Raw, Struct, json

from tower_memory._codec_faults import KEY, TOO_DEEP, fault_text, parts
from tower_memory._deep_json import TooDeepError, is_too_deep, on_empty_stack
from tower_memory._errors import UnencodableItemError
from tower_memory._items import Item, RunItem

T = TypeVar("T")

_Encoded: TypeAlias = tuple[bytes, Any]
"""The JSON of a value, and the value decoded from that JSON."""

_Attempt: TypeAlias = tuple[_Encoded | None, str]
"""An encoded value and an empty reason, or None and the reason why encoding failed."""

_SEARCH_DEPTH = 100
"""Maximum depth of the search for a fault. The place of a deeper fault is given to this depth."""


@final
class ItemCodec(Generic[Item]):
    """Encodes items of one type to JSON and decodes them again.

    A store encodes items with `encode` before it writes anything, and decodes stored JSON with
    `decode`. The codec checks that the decoded item equals the original, and otherwise raises
    `UnencodableItemError`. Therefore a store that uses a codec never saves an item in a changed
    form.

    The item type may be any type that msgspec can decode, such as `RunItem`. The type ``Any``
    stands for JSON values. A codec of JSON values also encodes run items; they are decoded as their
    JSON mappings.

    >>> from typing import Any
    >>> from tower_memory import ItemCodec
    >>> codec = ItemCodec[Any](Any)
    >>> codec.encode([{"role": "user", "content": "Hi"}], "chat")
    [b'{"role":"user","content":"Hi"}']
    >>> codec.decode(b'{"role":"user","content":"Hi"}')
    {'role': 'user', 'content': 'Hi'}
    >>> codec.encode([{"ids": {1, 2}}], "chat")
    Traceback (most recent call last):
        ...
    tower_memory._errors.UnencodableItemError: session 'chat': items[0].ids cannot be stored: ...

    Attributes:
        item_type: Type of the items.
        key: Hashable stand-in for *item_type*, for use in cache keys. Two codecs of the same item
            type have equal keys; a codec of a type that is not hashable has a key of its own.

    Args:
        item_type: Type of the items; ``Any`` for JSON values.

    Raises:
        TypeError: msgspec cannot decode *item_type*.
    """

    __slots__ = ("_array_decoder", "_decoder", "item_type", "key")

    def __init__(self, item_type: Any) -> None:
        try:
            self._decoder: json.Decoder[Item] = json.Decoder(item_type)
            self._array_decoder: json.Decoder[list[Item]] = json.Decoder(list[item_type])
        except TypeError as error:
            msg = f"item_type {item_type!r} cannot be decoded from JSON: {error}"
            raise TypeError(msg) from error
        self.item_type = item_type
        self.key: Hashable = item_type if _is_hashable(item_type) else object()

    def encode(self, items: Iterable[Item], session_id: str) -> list[bytes]:
        """Encode each of *items* to UTF-8 JSON.

        Args:
            items: Items of one turn, in order.
            session_id: Session of the turn, named by the error.

        Raises:
            UnencodableItemError: JSON cannot hold an item, or the item would be changed by
                encoding and decoding. The error names the place of the fault.
        """
        return [encoded for encoded, _ in self.encode_checked(items, session_id)]

    def encode_checked(self, items: Iterable[Item], session_id: str) -> list[tuple[bytes, Item]]:
        """Encode each of *items*, and return pairs of its JSON and the decoded item.

        The decoded item is the item that `decode` would return; it shares no mutable part with the
        original. The codec decodes every item for its check anyway. A store that keeps decoded
        items therefore saves one decoding if it calls this method instead of `encode` and `decode`.

        Args:
            items: Items of one turn, in order.
            session_id: Session of the turn, named by the error.

        Raises:
            UnencodableItemError: As for `encode`.
        """
        return _encode_all(items, session_id, self._try_encode)

    def decode(self, encoded: bytes) -> Item:
        """Decode one item from JSON.

        Raises:
            ValueError: *encoded* is not JSON, or is not the JSON of an item of this type.
        """
        return _decode(self._decoder, encoded)

    def decode_array(self, array: bytes | str) -> list[Item]:
        """Decode the items of one turn from a JSON array.

        Raises:
            ValueError: *array* is not a JSON array of items of this type.
        """
        return _decode(self._array_decoder, array)

    def _try_encode(self, item: Item) -> _Attempt:
        # A run item among JSON values is compared as a run item, and returned as its mapping.
        if self.item_type is Any and isinstance(item, Struct) and isinstance(item, RunItem):
            attempt, reason = _try_encode(json.Decoder(type(item)), item)
            return attempt and (attempt[0], self.decode(attempt[0])), reason

        return _try_encode(self._decoder, item)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


_json_decoder: json.Decoder[Any] = json.Decoder()
_raw_decoder: json.Decoder[list[Raw]] = json.Decoder(list[Raw])


def join_array(items: Iterable[bytes]) -> bytes:
    """Return the JSON array of *items*, which are JSON."""
    return b"[" + b",".join(items) + b"]"


def split_array(array: bytes | str) -> list[bytes]:
    """Return the JSON of each item of a JSON array, unchanged.

    Raises:
        ValueError: *array* is not a JSON array.
    """
    return [bytes(item) for item in _decode(_raw_decoder, array)]


def decode_value(encoded: bytes | str) -> Any:
    """Decode JSON that `encode_value` returned."""
    return _decode(_json_decoder, encoded)


def encode_value(value: Any, session_id: str, place: str) -> bytes:
    """Encode a JSON value that is no item; *place* names it in the error.

    Raises:
        UnencodableItemError: JSON cannot hold *value*, or would change it.
    """
    ((encoded, _),) = _encode_all(
        [value], session_id, lambda each: _try_encode(_json_decoder, each), lambda _: place
    )
    return encoded


def snapshot(
    items: Iterable[Any], session_id: str, codec: ItemCodec[Any] | None
) -> tuple[Any, ...]:
    """Return copies of *items*, equal to the items that a store with *codec* would load.

    If *codec* is None, the item type of the store is unknown: an item may then be of any type that
    its JSON can be decoded to.

    Raises:
        UnencodableItemError: JSON cannot hold an item, or the item would be changed.
    """
    encoded = (
        codec.encode_checked(items, session_id)
        if codec is not None
        else _encode_all(items, session_id, lambda item: _try_encode(_decoder_for(item), item))
    )
    return tuple([item for _, item in encoded])


def struct_to_builtins(value: Struct) -> Any:
    """Return *value* as JSON values, or *value* itself if they would not decode to an equal one."""
    encoded, _ = _try_encode(_decoder_for(value), value)
    return value if encoded is None else _json_decoder.decode(encoded[0])


def _decode(decoder: json.Decoder[T], encoded: bytes | str) -> T:
    """Decode JSON, at any depth of the stack.

    Raises:
        ValueError: *encoded* is not JSON, or not of the decoder's type.
    """
    try:
        try:
            return decoder.decode(encoded)
        except RecursionError:
            return on_empty_stack(partial(decoder.decode, encoded))
    except TooDeepError:
        raise
    except ValueError as error:
        raise ValueError(fault_text(error)) from None  # its own text may show content


def _decoder_for(value: Item) -> json.Decoder[Item]:
    """Return a decoder that decodes the JSON of *value* to a value of the same type."""
    if isinstance(value, (Struct, datetime, StrEnum)):
        return json.Decoder(type(value))
    return _json_decoder


def _place_of_item(index: int) -> str:
    return f"items[{index}]"


def _encode_all(
    items: Iterable[Any],
    session_id: str,
    try_encode: Callable[[Any], _Attempt],
    place_of: Callable[[int], str] = _place_of_item,
) -> list[_Encoded]:
    """Return the result of *try_encode* for each of *items*; *place_of* names an item's place.

    Raises:
        UnencodableItemError: *try_encode* failed for an item.
    """
    all_encoded: list[_Encoded] = []
    for index, item in enumerate(items):
        encoded, reason = try_encode(item)
        if encoded is None:
            where, value = place_of(index), item
            if reason != TOO_DEEP:
                where, value, reason = _find_fault(item, where, reason)
            raise UnencodableItemError(session_id, where=where, value=value, reason=reason)
        all_encoded.append(encoded)
    return all_encoded


def _try_encode(decoder: json.Decoder[Any], value: Any) -> _Attempt:
    """Encode *value* and check that *decoder* restores an equal value."""
    try:
        return _try_encode_here(decoder, value)
    except RecursionError:
        try:
            return on_empty_stack(partial(_try_encode_here, decoder, value))
        except TooDeepError:
            return None, TOO_DEEP


def _try_encode_here(decoder: json.Decoder[Any], value: Any) -> _Attempt:
    """Do the same as `_try_encode`, but raise `RecursionError` if the stack is too short."""
    try:
        encoded = json.encode(value)
        decoded = decoder.decode(encoded)
        if decoded == value:
            return (None, TOO_DEEP) if is_too_deep(encoded) else ((encoded, decoded), "")
    except (TypeError, ValueError, OverflowError) as error:
        return None, fault_text(error)

    before, after = type(value).__name__, type(decoded).__name__
    return None, f"{before} would come back {'changed' if before == after else f'as {after}'}"


def _find_fault(value: Any, where: str, reason: str) -> tuple[str, Any, str]:
    """Return the place, the value and the reason of the smallest part that cannot be encoded.

    Args:
        value: Value that cannot be encoded.
        where: Place of *value*.
        reason: Reason why *value* cannot be encoded.
    """
    above: set[int] = set()
    while id(value) not in above and len(above) < _SEARCH_DEPTH:
        above.add(id(value))

        for place, part in parts(value):
            if place == KEY and not isinstance(part, str):
                return where + place, part, f"{type(part).__name__} is the type of a key, not str"

            # The fields of a Struct may be of types that JSON values alone do not have.
            decoder = _decoder_for(part) if isinstance(value, Struct) else _json_decoder
            encoded, fault = _try_encode(decoder, part)
            if encoded is None:
                where, value, reason = where + place, part, fault
                break

    return where, value, reason
