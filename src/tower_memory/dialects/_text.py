"""Text helpers that every dialect needs for streams."""

from __future__ import annotations

from typing import Any

import msgspec

from tower_memory._items import INTERRUPTED_REPLY
from tower_memory.dialects._protocol import Streamed


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

    text = "".join(chunks)
    return mark_interrupted(text) if streamed.interrupted and text else text


def mark_interrupted(text: str | None) -> str:
    """Return *text* with `INTERRUPTED_REPLY` as its last paragraph, or only that if it is empty.

    Use it for every text that a dialect stores of an interrupted stream. Reconcile knows the mark
    and accepts a conversation that shows such a reply in part or without the mark.
    """
    return f"{text}\n\n{INTERRUPTED_REPLY}" if text else INTERRUPTED_REPLY


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


def type_names(chunks: Any) -> str:
    """Return the names of the types of *chunks*, for an error message."""
    return ", ".join(sorted({type(chunk).__name__ for chunk in chunks})) or "nothing"
