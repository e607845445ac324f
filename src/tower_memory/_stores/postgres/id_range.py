"""The range of session ids that start with a prefix, as bytes, in the order of the database."""

from __future__ import annotations

from typing import Final

from tower_memory._stores.postgres.heads import START_LENGTH

PREFIX_CONDITION: Final = (
    "AND id_start >= %b AND id_start < %b AND session_id >= %b AND session_id < %b"
)
"""The condition that a session id starts with a prefix; it takes the values of `id_range`."""

_ABOVE: Final = b"\xff"
"""A byte that UTF-8 never has, above all others."""


def id_range(prefix: str) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the bounds of ``id_start`` and those of ``session_id`` for ids with *prefix*."""
    encoded = prefix.encode()
    start = encoded[:START_LENGTH]
    return start, start + _ABOVE, encoded, encoded + _ABOVE
