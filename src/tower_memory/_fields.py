"""Reading the fields of client libraries' objects, which may be mappings or instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

MISSING: Final = object()
"""Stands for a field that is absent, since None may be a field's value."""


def field(value: Any, name: str) -> Any:
    """Return the field *name* of a mapping or an object, or `MISSING` if it has none.

    A field may hold None, which is not `MISSING`. *value* may be any object, also None.

    >>> from tower_memory.dialects.toolkit import MISSING, field
    >>> field({"role": "user"}, "role"), field({}, "role") is MISSING
    ('user', True)
    """
    if type(value) is dict or isinstance(value, Mapping):  # a dict is recognised faster
        return value.get(name, MISSING)
    return getattr(value, name, MISSING)


def list_field(value: object, name: str) -> Sequence[Any]:
    """Return the list in the field *name*, or an empty one if the field is no list.

    >>> from tower_memory.dialects.toolkit import list_field
    >>> list_field({"tool_calls": [1]}, "tool_calls"), list_field({}, "tool_calls")
    ([1], ())
    """
    found = field(value, name)
    return found if isinstance(found, (list, tuple)) else ()
