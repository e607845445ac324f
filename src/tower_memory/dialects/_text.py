"""Replies that are streamed as text, whatever the dialect."""

from __future__ import annotations

from typing import Any

import msgspec

from tower_memory._shapes import INTERRUPTED_REPLY
from tower_memory.dialects._dialect import Streamed


def text_of(streamed: Streamed) -> str | None:
    """The text of a stream of strings, or None where it is one of something else."""
    chunks = streamed.chunks
    if not chunks or not all(isinstance(chunk, str) for chunk in chunks):
        return None
    text = "".join(chunks)
    return marked(text) if streamed.interrupted and text else text


def marked(text: str | None) -> str:
    """*text*, saying that it was interrupted."""
    return f"{text}\n\n{INTERRUPTED_REPLY}" if text else INTERRUPTED_REPLY


def is_json(text: str) -> bool:
    """Whether *text* is JSON, as the arguments of a call are that was not cut off."""
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def kinds_of(chunks: Any) -> str:
    """What the chunks are, for an error."""
    return ", ".join(sorted({type(chunk).__name__ for chunk in chunks})) or "nothing"
