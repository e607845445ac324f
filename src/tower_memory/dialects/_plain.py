"""Reading messages out of whatever a client library makes them of, without knowing it.

Objects are read by what they have: a mapping's keys, a pydantic model's ``model_dump``, the
fields of a dataclass or a Struct. No client library is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tower_memory._codec import json_of

_ADDED: Final = ("parsed", "parsed_arguments", "parsed_output")
"""Fields that client libraries add to what a provider said, of types for parsed replies."""


def plain(value: Any) -> Any:
    """*value* with client libraries' objects made into what their JSON would be.

    Only what is an object of theirs is changed: a tuple stays one, and is refused when stored.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if type(value) is dict or isinstance(value, Mapping):  # the first is asked faster
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, msgspec.Struct):
        return json_of(value)
    if hasattr(value, "model_dump"):
        return plain(_dump(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    return value


def _dump(model: Any) -> Any:
    """What a pydantic model says: what was set, as a provider sent it, and what has a value.

    Its values are left as they are, so that what JSON cannot hold is refused, not made to fit.
    """
    exclude = _additions(model) or None
    was_set = model.model_dump(by_alias=True, exclude=exclude, exclude_unset=True, warnings=False)
    has_value = model.model_dump(by_alias=True, exclude=exclude, exclude_none=True, warnings=False)
    return _united(was_set, has_value)


def _additions(value: Any) -> dict[Any, Any]:
    """What in a model, or in a list, its client library added; in pydantic's terms of exclusion."""
    if isinstance(value, list):
        return _nested(enumerate(value))
    fields = _fields_of(type(value))
    if not isinstance(fields, Mapping):
        return {}
    added = {name: True for name in _ADDED if name in fields and _was_added(type(value), name)}
    return {**_nested((name, getattr(value, name, None)) for name in fields), **added}


def _nested(parts: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    return {place: found for place, part in parts if (found := _additions(part))}


def _was_added(kind: type, name: str) -> bool:
    """Whether *kind* is a model that has the field *name* in addition to those of another."""
    return any(name not in fields for base in kind.__mro__ if (fields := _fields_of(base)))


def _fields_of(kind: type) -> Any:
    return getattr(kind, "model_fields", None)


def _united(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        both = {key: _united(part, other[key]) for key, part in one.items() if key in other}
        return {**other, **one, **both}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return list(map(_united, one, other))
    return one


def like(item: Any, kind: type) -> Any:
    """The mapping *item* as a message of the class *kind*.

    Raises:
        TypeError: *kind* has no such message, or would lose something of it.
    """
    try:
        made: Any = (
            kind.model_validate(item)
            if hasattr(kind, "model_validate")
            else msgspec.convert(item, kind)
        )
        lost = _lost(item, plain(made))
        reason = f"it has no {lost!r}" if lost else ""
    except (TypeError, ValueError) as error:
        made, reason = None, str(error)
    if reason:
        msg = f"{kind.__name__} cannot hold a message of the history: {reason}; write a dialect"
        raise TypeError(msg)
    return made


def _lost(said: Any, kept: Any, where: str = "") -> str | None:
    """The place of something that *said* says and *kept* does not, or None."""
    places: Iterable[tuple[str, Any, Any]]
    if isinstance(said, dict) and isinstance(kept, dict):
        places = ((f"{where}.{key}".lstrip("."), part, kept.get(key)) for key, part in said.items())
    elif isinstance(said, list) and isinstance(kept, list) and len(said) == len(kept):
        pairs = zip(said, kept, strict=True)
        places = ((f"{where}[{number}]", *pair) for number, pair in enumerate(pairs))
    else:
        return None if said == kept or said is None or said in ([], {}) else where
    return next((lost for place, a, b in places if (lost := _lost(a, b, place))), None)
