"""The base class of a store in an SQL database, with the abstract methods that run operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeAlias, TypeVar

from tower_memory._codec import ItemCodec
from tower_memory._items import Item
from tower_memory._stores.search_text import TextOf, TextReader

T = TypeVar("T")

PagePlace: TypeAlias = tuple[int, ...]
"""The numbers that stand for the last entry of a page; their count depends on the engine."""


class SqlStore(ABC, Generic[Item]):
    """A store in an SQL database. The methods of its capabilities are in classes derived from it.

    An operation is a function of the engine's connection. It runs on a worker thread.

    Attributes:
        item_type: Type of the items.
    """

    def __init__(self, *, item_type: Any, text_of: TextOf[Any] | None) -> None:
        self.item_type = item_type
        self._codec: ItemCodec[Item] = ItemCodec(item_type)
        self._reader: TextReader[Item] = TextReader(self._codec, text_of)

    @abstractmethod
    async def _read(self, operation: Callable[[Any], T], session_id: str | None = None) -> T:
        """Run *operation*, which only reads. Errors name *session_id*; None for several."""
        ...

    @abstractmethod
    async def _read_in_steps(self, operation: Callable[[Any], Generator[None, None, T]]) -> T:
        """Run the steps of *operation*, which only reads. Other operations run between them."""
        ...

    @abstractmethod
    async def _write(self, operation: Callable[[Any], T], session_id: str) -> T:
        """Run *operation* in one transaction, and return its result after the commit."""
        ...

    @abstractmethod
    async def _write_once(self, operation: Callable[[Any], T], session_id: str) -> T:
        """Run *operation* as `_write` does, but not again once it has perhaps been committed."""
        ...
