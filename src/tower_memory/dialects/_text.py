"""Text helpers that every dialect needs for streams.

1. A character outside the Basic Multilingual Plane may arrive as two JSON escapes in two chunks,
   such as U+D83D and U+DE00. UTF-8 cannot encode such a half of a surrogate pair. Therefore
   `join_text` joins the two halves to one character, as UTF-16 does (elie222/rakazo#416,
   elizaOS/eliza#30904).
2. A stream may be interrupted between the halves. `without_half_character` removes the first half.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from tower_memory._items import INTERRUPTED_REPLY
from tower_memory.dialects._protocol import Streamed

_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_FIRST_HALF: Final = re.compile("[\ud800-\udbff]\\Z")


def streamed_text(streamed: Streamed) -> str | None:
    """Return the text of a stream of strings, or None if the chunks are not strings.

    The text of an interrupted stream ends with `INTERRUPTED_REPLY`, unless it is empty. A stream
    without chunks returns None.

    >>> from tower_memory.dialects import Streamed
    >>> from tower_memory.dialects.toolkit import streamed_text
    >>> streamed_text(Streamed(["Once ", "upon"]))
    'Once upon'
    """
    chunks = streamed.chunks
    if not chunks or not all(isinstance(chunk, str) for chunk in chunks):
        return None

    text = join_text(chunks)
    return mark_interrupted(text) if streamed.interrupted and text else text


def mark_interrupted(text: str | None) -> str:
    r"""Return *text* with `INTERRUPTED_REPLY` as its last paragraph.

    If *text* is empty or None, return `INTERRUPTED_REPLY` alone. Use the function for every text
    that a dialect stores of an interrupted stream. Reconcile knows this mark, and accepts a front
    end that shows such a reply in part or without the mark.

    >>> from tower_memory.dialects.toolkit import mark_interrupted
    >>> mark_interrupted("Once upon")
    'Once upon\n\n(interrupted: this reply is not complete)'
    """
    text = without_half_character(text or "")
    return f"{text}\n\n{INTERRUPTED_REPLY}" if text else INTERRUPTED_REPLY


def join_text(pieces: Iterable[str]) -> str:
    """Return the joined *pieces*; a surrogate pair that was split over two pieces is one character.

    A surrogate without its other half stays, so the store can refuse the text.

    >>> from tower_memory.dialects.toolkit import join_text
    >>> join_text(["Hi ", chr(0xD83D), chr(0xDE00)]) == "Hi " + chr(0x1F600)
    True
    """
    return _SURROGATE_PAIR.sub(_as_character, "".join(pieces))


def _as_character(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")


def without_half_character(text: str) -> str:
    """Return *text* without the first half of a surrogate pair at its end."""
    return _FIRST_HALF.sub("", text)


def is_json(text: str) -> bool:
    """Return True if *text* is JSON; the arguments of a tool call that was cut off are not.

    >>> from tower_memory.dialects.toolkit import is_json
    >>> is_json('{"city": "Rome"}'), is_json('{"city": "Ro')
    (True, False)
    """
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


INVALID_JSON: Final = "INVALID_JSON"
"""Key under which a mended tool call quotes arguments that are no JSON object."""


def decode_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in *text*, or None if *text* is anything else."""
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def type_names(chunks: Any) -> str:
    """Return the names of the types of *chunks*, for an error message."""
    return ", ".join(sorted({type(chunk).__name__ for chunk in chunks})) or "nothing"
