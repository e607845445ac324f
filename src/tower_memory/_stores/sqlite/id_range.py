"""The range of session ids that start with a prefix, in the order of the database."""

from __future__ import annotations

from typing import Final

# Code points that no text of a store contains: it must be valid Unicode.
_SURROGATES: Final = 0xD800
_AFTER_SURROGATES: Final = 0xE000

_AFTER_ALL_TEXTS: Final = b""
"""SQLite sorts every BLOB after every text."""


def id_range(prefix: str) -> tuple[str, str | bytes]:
    """Return the first text with *prefix*, and the first value above all texts with *prefix*.

    SQLite compares texts by code points, as UTF-8 does.
    """
    base = prefix.rstrip("\U0010ffff")
    if not base:
        return prefix, _AFTER_ALL_TEXTS
    following = ord(base[-1]) + 1
    return prefix, base[:-1] + chr(_AFTER_SURROGATES if following == _SURROGATES else following)
