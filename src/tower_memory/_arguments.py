"""Checks of arguments. Each error names the parameter, its value and the values it accepts."""

from __future__ import annotations

from math import inf

_MAX_SECONDS = 2**40
"""Longest finite duration, about 35,000 years. Longer is a mistake, and may not fit a float."""


def check_text(name: str, value: object) -> None:
    """Refuse *value* unless it is a non-empty string of valid Unicode: an id, or a path."""
    if not isinstance(value, str):
        msg = f"{name} must be a string, got {value!r}"
        raise TypeError(msg)
    if not value:
        msg = f"{name} must not be empty, got ''"
        raise ValueError(msg)

    try:
        value.encode()
    except UnicodeEncodeError as error:
        msg = f"{name} must be valid Unicode, got {value!r}: {error.reason}"
        raise ValueError(msg) from error


def check_int(name: str, value: object, *, least: int) -> None:
    """Refuse *value* unless it is an integer of at least *least*; a bool is not an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number, got {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be {least} or more, got {value}"
        raise ValueError(msg)


def check_seconds(name: str, value: object) -> None:
    """Refuse *value* unless it is a number of seconds: 0 or more, or infinite."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} must be a number of seconds, got {value!r}"
        raise TypeError(msg)
    if not 0 <= value <= _MAX_SECONDS and value != inf:
        msg = f"{name} must be 0 or more seconds, got {value}"
        raise ValueError(msg)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse *value* unless it is one of *choices*."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        raise ValueError(msg)
