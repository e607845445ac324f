"""Refusing bad arguments: each error names the parameter, the value and what would do."""

from __future__ import annotations

from math import inf

_LONGEST = 2**40
"""Seconds, some 35,000 years: more would be a slip, and may not even be a float."""


def check_text(name: str, value: object) -> None:
    """Refuse what cannot be an id or a path."""
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


def check_whole(name: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number from *least* on."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number, got {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be {least} or more, got {value}"
        raise ValueError(msg)


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no duration."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} must be a number of seconds, got {value!r}"
        raise TypeError(msg)
    if not 0 <= value <= _LONGEST and value != inf:
        msg = f"{name} must be 0 or more seconds, got {value}"
        raise ValueError(msg)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is none of *choices*."""
    if value not in choices:
        msg = f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        raise ValueError(msg)
