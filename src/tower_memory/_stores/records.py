"""The stored forms of ids, times and turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from tower_memory._items import Item
from tower_memory._metadata import encode_metadata
from tower_memory._stores.search_text import TextReader
from tower_memory._turn import Turn

TOMBSTONE_LIFETIME: Final = 24 * 60 * 60 * 10**9
"""Nanoseconds that a tombstone lives: one day."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_SIXTEEN_BYTES = re.compile("[0-9a-f]{32}")


class EncodedTurn(NamedTuple):
    """A turn in the form in which it is stored.

    Attributes:
        items: The JSON of each item.
        decoded: The items decoded from that JSON; no other code holds a reference to them.
        metadata: The JSON of the metadata, or None for an empty mapping.
        added_text: The additional text that a search finds; perhaps empty.
    """

    items: Sequence[bytes]
    decoded: Sequence[Any]
    metadata: bytes | None
    added_text: str


def encode(turn: Turn[Item], reader: TextReader[Item]) -> EncodedTurn:
    """Return *turn* in the form in which it is stored.

    Raises:
        UnencodableItemError: An item or the metadata would not come back as it is.
        TypeError: See `TextReader.added_text`.
        ValueError: See `TextReader.added_text`.
    """
    checked = reader.codec.encode_checked(turn.items, turn.session_id)
    return EncodedTurn(
        [encoded for encoded, _ in checked],
        [item for _, item in checked],
        encode_metadata(turn.metadata, turn.session_id),
        reader.added_text(turn.items),
    )


def turn_key(turn_id: str) -> bytes | str:
    """Return the stored form of a turn id: 16 bytes if it is 32 hexadecimal digits, else itself."""
    return bytes.fromhex(turn_id) if _SIXTEEN_BYTES.fullmatch(turn_id) else turn_id


def turn_text(key: bytes | str) -> str:
    """Return the turn id that is stored as *key*."""
    return key.hex() if isinstance(key, bytes) else key


def to_nanoseconds(time: datetime) -> int:
    """Return *time*, which has a time zone, in nanoseconds since 1970; perhaps beyond 64 bits."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def to_datetime(nanoseconds: int) -> datetime:
    """Return the time *nanoseconds* after the start of 1970, UTC, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
