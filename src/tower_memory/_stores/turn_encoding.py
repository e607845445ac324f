"""The encoding of a turn for a store, in a thread if the turn is large."""

from __future__ import annotations

from functools import partial

from tower_memory._items import Item
from tower_memory._large_turns import encode_turn
from tower_memory._stores.records import EncodedTurn, encode
from tower_memory._stores.search_text import TextReader
from tower_memory._turn import Turn


async def encoded(turn: Turn[Item], reader: TextReader[Item]) -> EncodedTurn:
    """Return *turn* in the form in which it is stored; see `encode` for the errors."""
    return await encode_turn(partial(encode, turn, reader), (*turn.items, turn.metadata))
