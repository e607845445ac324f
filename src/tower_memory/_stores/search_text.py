"""The text of stored turns that a search finds.

1. The text of a turn is the text of its messages, and the additional text that the store's function
   *text_of* returns for its items.
2. A turn that cannot be decoded has no text, in a scan and in an index. So one damaged turn stops
   no search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeAlias

from tower_memory._arguments import check_text, shown
from tower_memory._codec import ItemCodec, decode_value
from tower_memory._items import Item
from tower_memory._message_text import turn_text

TextOf: TypeAlias = Callable[[Item], str | None]
"""Function that returns additional text of an item, or None."""


class TextReader(NamedTuple, Generic[Item]):
    """Reads the text of turns.

    Attributes:
        codec: The codec of the items.
        text_of: The store's function, or None.
    """

    codec: ItemCodec[Item]
    text_of: TextOf[Item] | None

    def added_text(self, items: Iterable[Item]) -> str:
        """Return the additional text of *items*; an empty text without the function.

        Raises:
            TypeError: The function returned neither a text nor None.
            ValueError: The function returned a text with a lone surrogate.
        """
        if self.text_of is None:
            return ""

        texts: list[str] = []
        for item in items:
            text = self.text_of(item)
            if text:
                check_text("the result of text_of(item)", text)
                texts.append(text)
            elif text is not None and text != "":
                msg = f"text_of(item) must return a string or None, got {shown(text)}"
                raise TypeError(msg)
        return "\n".join(texts)

    def added_text_of(self, array: bytes) -> str:
        """Return the additional text of a turn, whose items are the JSON *array* (rule 2)."""
        if self.text_of is None:
            return ""
        try:
            items = self.codec.decode_array(array)
        except ValueError:
            return ""
        return self.added_text(items)


def message_text_of(array: bytes) -> str:
    """Return the text of the messages of a turn, whose items are the JSON *array* (rule 2)."""
    try:
        items: Any = decode_value(array)
    except ValueError:
        return ""
    return turn_text(items) if isinstance(items, list) else ""


def join_texts(text: str, added: str) -> str:
    """Return the whole text of a turn: that of its messages, and the additional text."""
    return f"{text}\n{added}" if added else text


def check_text_of(value: object) -> None:
    """Refuse a value that cannot be the parameter *text_of* of a store."""
    if value is not None and not callable(value):
        msg = f"text_of must be a function of an item, or None, got {shown(value)}"
        raise TypeError(msg)
