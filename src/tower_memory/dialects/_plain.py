"""Reading messages out of whatever a client library makes them of, without knowing it.

Objects are read by what they have: a mapping's keys, a pydantic model's ``model_dump``, the
fields of a dataclass or a Struct. No client library is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from copy import copy
from typing import Any, Final

import msgspec

MISSING: Final = object()
"""Stands for a field that is not there; None may well be."""


def field(value: object, name: str) -> Any:
    """The field *name* of a mapping or an object, or `MISSING`."""
    if isinstance(value, Mapping):
        return value.get(name, MISSING)
    return getattr(value, name, MISSING)


def replaced(request: Any, name: str, value: object) -> Any:
    """A copy of *request* in which only the field *name* differs."""
    if isinstance(request, Mapping):
        return {**request, name: value}
    if isinstance(request, msgspec.Struct):
        return msgspec.structs.replace(request, **{name: value})
    if hasattr(request, "model_copy"):
        return request.model_copy(update={name: value})
    other = copy(request)
    object.__setattr__(other, name, value)  # dataclasses may be frozen
    return other


def plain(value: Any) -> Any:
    """*value* with client libraries' objects made into what their JSON would be.

    Only what is an object of theirs is changed: a tuple stays one, and is refused when stored.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(
            mode="json",
            by_alias=True,
            # What was not set was not said: the provider did not send it, nor wants it back.
            exclude_unset=True,
            # What the openai client adds to a parsed message, and itself does not send.
            exclude=getattr(value, "__api_exclude__", None),
        )
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: plain(getattr(value, part.name)) for part in dataclasses.fields(value)}
    return value


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
    except (TypeError, ValueError) as error:
        msg = f"the history has a message that {kind.__name__} cannot hold: {error}"
        raise TypeError(msg) from error
    if lost := [key for key, part in item.items() if part and field(made, key) is MISSING]:
        msg = f"the history has a message that {kind.__name__} cannot hold: it has no {lost[0]!r}"
        raise TypeError(msg)
    return made
