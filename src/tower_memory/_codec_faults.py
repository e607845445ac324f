"""Texts and places of faults in items, without the content of items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from tower_memory._arguments import is_short_name, key_place

TOO_DEEP: Final = "it contains itself, or is nested too deeply"
"""Reason why a value that is too deep cannot be encoded."""

_TEXTS_WITHOUT_VALUES: Final = (
    "Dict keys ",
    "Encoding objects of type ",
    "Expected `",
    "Input data was truncated",
    "Integer value out of range",
    "Invalid RFC3339 ",
    "JSON is malformed: ",
    "Number out of range",
    "Object missing required field ",
    "Only dicts with ",
)
"""Beginnings of msgspec's messages that show no value, only types and the fields of a class."""


def fault_text(error: Exception) -> str:
    """Return the text of an error of msgspec, or another text if its own may show content.

    Messages such as "Invalid enum value 'x'" contain the value, and the checks of a class may raise
    an error of any text.
    """
    text = str(error)
    if isinstance(error, UnicodeError):
        return "it is not valid Unicode"
    if text.startswith(_TEXTS_WITHOUT_VALUES) or _is_unknown_field(text):
        return text
    if text.startswith("Invalid value "):
        return "its tag names no known class"
    return "it is not valid for its type"


def _is_unknown_field(text: str) -> bool:
    """Return True if *text* says that an object has an unknown field with a short name."""
    start, _, rest = text.partition("unknown field `")
    return start == "Object contains " and is_short_name(rest.partition("`")[0])


KEY: Final = ", a key"
"""Place of a mapping's key."""


def parts(value: Any) -> Iterable[tuple[str, Any]]:
    """Return the direct parts of *value*, each with its place in *value*."""
    if isinstance(value, Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, Mapping):
        yield from ((KEY, key) for key in value)
        for index, (key, part) in enumerate(value.items()):
            yield key_place(key, index), part
    elif isinstance(value, list):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
