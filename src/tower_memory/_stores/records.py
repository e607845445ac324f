"""The stored forms of ids and turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_SIXTEEN_BYTES = re.compile("[0-9a-f]{32}")


class EncodedTurn(NamedTuple):
    """A turn in the form in which it is stored.

    Attributes:
        items: The JSON of each item.
        decoded: The items decoded from that JSON; no other code holds a reference to them.
        metadata: The JSON of the metadata, or None for an empty mapping.
    """

    items: Sequence[bytes]
    decoded: Sequence[Any]
    metadata: bytes | None


def turn_key(turn_id: str) -> bytes | str:
    """Return the stored form of a turn id: 16 bytes if it is 32 hexadecimal digits, else itself."""
    return bytes.fromhex(turn_id) if _SIXTEEN_BYTES.fullmatch(turn_id) else turn_id


def turn_text(key: bytes | str) -> str:
    """Return the turn id that is stored as *key*."""
    return key.hex() if isinstance(key, bytes) else key
