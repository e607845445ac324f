"""The size of items in bytes, for spans that are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import json

from tower_memory._large_turns import encode_turn


async def json_size(items: Sequence[Any]) -> int | None:
    """Return the bytes of *items* as JSON, in a thread if they are many.

    Return None if msgspec cannot encode an item, such as one that the store refuses.
    """
    try:
        return await encode_turn(partial(_json_size, items), items)
    except Exception:  # noqa: BLE001 - a span must not fail its operation
        return None


def _json_size(items: Sequence[Any]) -> int:
    encode = json.Encoder().encode
    return sum([len(encode(item)) for item in items])
