"""Checks of arguments.

Each error names the parameter, its value and the values that it accepts. A wrong argument may be a
request or an item, so of most values an error shows only the type (`shown`).
"""

from __future__ import annotations

from inspect import iscoroutinefunction
from math import inf
from types import FunctionType, NoneType

_MAX_SECONDS = 2**40
"""Longest finite duration, about 35,000 years. Longer is a mistake, and may not fit a float."""


_SHOWN_TYPES = (NoneType, bool, int, float, FunctionType)
"""Types whose values an error shows, since they hold no text."""

_LONGEST_NAME = 40


def shown(value: object) -> str:
    """Return *value* itself if it cannot be the content of a conversation, otherwise its type."""
    is_shown = type(value) in _SHOWN_TYPES or isinstance(value, type)
    return repr(value) if is_shown else type(value).__name__


def is_short_name(value: object) -> bool:
    """Return True if *value* is a short identifier, which an error may show: ``"model"``.

    Programs choose such keys and options. Other text may be content.
    """
    return isinstance(value, str) and value.isidentifier() and len(value) <= _LONGEST_NAME


def shown_name(value: object) -> str:
    """Return *value* itself if it is a short identifier, such as a role, otherwise `shown`."""
    return repr(value) if is_short_name(value) else shown(value)


def key_place(key: object, index: int) -> str:
    """Return the place of the value under *key* in a mapping: ``.model``, or ``[key 0]``.

    *index* is the position of *key*, for a key that may be content.
    """
    return f".{key}" if is_short_name(key) else f"[key {index}]"


def check_text(name: str, value: object) -> None:
    """Refuse *value* unless it is a non-empty string of valid Unicode, such as an id or a path."""
    if not isinstance(value, str):
        msg = f"{name} must be a string, got {shown(value)}"
        raise TypeError(msg)
    if not value:
        msg = f"{name} must not be empty, got ''"
        raise ValueError(msg)

    try:
        value.encode()
    except UnicodeEncodeError as error:
        msg = f"{name} must be valid Unicode, got a lone surrogate at index {error.start}"
        raise ValueError(msg) from None  # Python's own error shows the text


def check_int(name: str, value: object, *, least: int) -> None:
    """Refuse *value* unless it is an integer of at least *least*; a bool is not an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number, got {shown(value)}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be {least} or more, got {value}"
        raise ValueError(msg)


def check_bool(name: str, value: object) -> None:
    """Refuse *value* unless it is True or False."""
    if not isinstance(value, bool):
        msg = f"{name} must be True or False, got {shown(value)}"
        raise TypeError(msg)


def check_seconds(name: str, value: object) -> None:
    """Refuse *value* unless it is a number of seconds: 0 or more, or infinite."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} must be a number of seconds, got {shown(value)}"
        raise TypeError(msg)
    if not 0 <= value <= _MAX_SECONDS and value != inf:
        msg = f"{name} must be 0 or more seconds, got {value}"
        raise ValueError(msg)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse *value* unless it is one of *choices*."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(repr, choices))}, got {shown_name(value)}"
        raise ValueError(msg)


def check_function(name: str, value: object, arguments: str = "the request") -> None:
    """Refuse an object that is no plain function, such as a coroutine function."""
    if not callable(value) or any(map(iscoroutinefunction, (value, type(value).__call__))):
        msg = f"{name} must be a plain function of {arguments}, got {shown(value)}"
        raise TypeError(msg)
