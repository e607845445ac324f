"""The base of the methods of every capability of a store in memory."""

from __future__ import annotations

from typing import Any, Generic

from tower_memory._codec import ItemCodec
from tower_memory._items import Item
from tower_memory._stores.in_memory.sessions import Sessions
from tower_memory._stores.search_text import TextOf, TextReader


class MemoryStore(Generic[Item]):
    """A store with its sessions. See `InMemorySessionStore`."""

    def __init__(self, *, item_type: Any, text_of: TextOf[Any] | None) -> None:
        self.item_type = item_type
        self._codec: ItemCodec[Item] = ItemCodec(item_type)
        self._reader: TextReader[Item] = TextReader(self._codec, text_of)
        self._sessions = Sessions()

    def __repr__(self) -> str:
        return f"InMemorySessionStore(sessions={len(self._sessions)})"
