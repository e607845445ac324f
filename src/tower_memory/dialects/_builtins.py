"""Converting the objects of client libraries to plain JSON values, and back.

Objects are read by their structure: the keys of a mapping, the ``model_dump`` of a pydantic
model, the fields of a dataclass or a Struct. No client library is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tower_memory._arguments import key_place
from tower_memory._codec import struct_to_builtins
from tower_memory._codec_faults import fault_text

_CLIENT_FIELDS: Final = ("parsed", "parsed_arguments", "parsed_output")
"""Fields that client libraries add to a provider's message, for parsed replies."""


def to_builtins(value: Any) -> Any:
    """Return *value* with each object of a client library converted to its JSON value.

    Mappings, pydantic models, dataclasses and Structs become dicts, at any depth. Fields that a
    client library adds for parsed replies are left out. All other values stay as they are: a tuple
    stays a tuple, for example, so the store can refuse it instead of changing it silently.

    >>> from tower_memory.dialects.toolkit import to_builtins
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Message:
    ...     role: str
    ...     content: str
    >>> to_builtins([Message("user", "Hi")])
    [{'role': 'user', 'content': 'Hi'}]
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if type(value) is dict or isinstance(value, Mapping):  # a dict is recognised faster
        return {key: to_builtins(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_builtins(part) for part in value]

    if isinstance(value, msgspec.Struct):
        return struct_to_builtins(value)
    if hasattr(value, "model_dump"):
        return to_builtins(_dump_model(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            part.name: to_builtins(getattr(value, part.name)) for part in dataclasses.fields(value)
        }
    return value


def _dump_model(model: Any) -> Any:
    """Return the fields of a pydantic model that were set, and those that are not None.

    The values are not converted to JSON here, so the store can refuse a value that JSON cannot
    hold.
    """
    exclude = _added_fields(model) or None
    set_fields = model.model_dump(
        by_alias=True, exclude=exclude, exclude_unset=True, warnings=False
    )
    with_value = model.model_dump(by_alias=True, exclude=exclude, exclude_none=True, warnings=False)
    return _merge(set_fields, with_value)


def _added_fields(value: Any) -> dict[Any, Any]:
    """Return the fields of a model or a list that its client library added.

    The result has the form of the parameter ``exclude`` of pydantic's ``model_dump``.
    """
    if isinstance(value, list):
        return _added_parts(enumerate(value))

    fields = _model_fields(type(value))
    if not isinstance(fields, Mapping):
        return {}
    added = {
        name: True for name in _CLIENT_FIELDS if name in fields and _is_added(type(value), name)
    }
    return {**_added_parts((name, getattr(value, name, None)) for name in fields), **added}


def _added_parts(parts: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    return {key: added for key, part in parts if (added := _added_fields(part))}


def _is_added(kind: type, name: str) -> bool:
    """Return True if a base class of *kind* is a model without the field *name*."""
    return any(name not in fields for base in kind.__mro__ if (fields := _model_fields(base)))


def _model_fields(kind: type) -> Any:
    return getattr(kind, "model_fields", None)


def _merge(one: Any, other: Any) -> Any:
    """Return *one* with the keys that only *other* has, at any depth."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _merge(part, other[key]) for key, part in one.items() if key in other}
        return {**other, **one, **both}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return list(map(_merge, one, other))
    return one


def to_class(item: Any, kind: type) -> Any:
    """Return the mapping *item* as an object of the class *kind*.

    *kind* may be a pydantic model, or any class that msgspec converts to, such as a dataclass or a
    Struct. A dialect uses this if a request's messages are objects of a class, so the history
    consists of objects of the same class.

    Raises:
        TypeError: *item* is not valid for *kind*, or *kind* would lose a part of it.
    """
    try:
        converted: Any = (
            kind.model_validate(item)
            if hasattr(kind, "model_validate")
            else msgspec.convert(item, kind)
        )
        lost = _find_lost(item, to_builtins(converted))
        reason = f"it has no {lost!r}" if lost else ""
    except (TypeError, ValueError) as error:
        converted, reason = None, fault_text(error)

    if reason:
        msg = f"{kind.__name__} cannot hold a message of the history: {reason}; write a dialect"
        raise TypeError(msg)
    return converted


def _find_lost(item: Any, converted: Any, where: str = "") -> str | None:
    """Return the place of a value of *item* that *converted* lacks, or None."""
    places: Iterable[tuple[str, Any, Any]]
    if isinstance(item, dict) and isinstance(converted, dict):
        places = (
            (f"{where}{key_place(key, index)}".lstrip("."), part, converted.get(key))
            for index, (key, part) in enumerate(item.items())
        )
    elif isinstance(item, list) and isinstance(converted, list) and len(item) == len(converted):
        pairs = zip(item, converted, strict=True)
        places = ((f"{where}[{number}]", *pair) for number, pair in enumerate(pairs))
    else:
        return None if item == converted or item is None or item in ([], {}) else where

    return next((lost for place, a, b in places if (lost := _find_lost(a, b, place))), None)
