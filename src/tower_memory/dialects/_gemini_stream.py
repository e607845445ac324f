"""Assembling the content of the model from the chunks of a Gemini stream.

1. Each chunk is a response, and the parts of its first candidate continue the content.
2. Consecutive texts are one part if both are thoughts or neither is. A part with a thought
   signature stays as it came: the API wants the signature in the part in which it arrived
   (https://ai.google.dev/gemini-api/docs/thought-signatures).
3. A function call arrives whole. With ``stream_function_call_arguments``, which only Vertex AI
   has, its arguments arrive in pieces. Such a stream is refused with `ValueError`; if it was
   interrupted, these calls are left out.
4. A stream that ends regularly is a whole reply, with or without a finish reason: some servers send
   none (higress-group/higress#2408), and Gemini may send one before the end
   (0xPlaygrounds/rig#2328).
5. An interrupted stream keeps its texts and its function calls. A text in front of the calls marks
   the interruption. A thought at the end is left out unless it is signed, because it may be
   incomplete. If nothing remains, nothing is stored.
6. If the client calls functions itself, the stream has the chunks of several contents. The last
   chunk lists the contents before the last one (``automatic_function_calling_history``). Only the
   last one is assembled here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from tower_memory.dialects._gemini_parts import read, to_item
from tower_memory.dialects.toolkit import (
    Streamed,
    field,
    join_text,
    list_field,
    mark_interrupted,
)

_TEXT_FIELDS = frozenset({"text", "thought"})


def is_response(response: Any) -> bool:
    """Return True if *response* is a response of the API, or a chunk of one."""
    names = ("candidates", "prompt_feedback", "usage_metadata")
    return any(read(response, name) is not None for name in names)


def reply_content(response: Any) -> Any:
    """Return the content of the first candidate of *response*, or None."""
    candidates = list_field(response, "candidates")
    return read(candidates[0], "content") if candidates else None


def content_items(content: Any) -> list[Any]:
    """Return *content* as items: one, or none if it has no parts."""
    item = to_item(content)
    return [{**item, "role": item.get("role") or "model"}] if list_field(item, "parts") else []


def assemble_items(streamed: Streamed) -> list[Any]:
    """Return the last content that *streamed* carried, as items: one, or none if it is empty.

    Raises:
        TypeError: The chunks are not responses of the API.
        ValueError: A function call arrived in pieces.
    """
    chunks = streamed.chunks
    if not any(map(is_response, chunks)) and not streamed.interrupted:
        kinds = ", ".join(sorted({type(chunk).__name__ for chunk in chunks})) or "nothing"
        msg = (
            f"a stream must give the responses of generate_content_stream or text, got {kinds}; "
            "write a dialect for it, or pass that of its client"
        )
        raise TypeError(msg)

    # The list has the same objects as the chunks (rule 6).
    last = chunks[-1] if chunks else None
    earlier = {id(each) for each in list_field(last, "automatic_function_calling_history")}
    contents = [content for chunk in chunks if (content := reply_content(chunk)) is not None]
    parts = _join(content for content in contents if id(content) not in earlier)

    whole = [part for part in parts if not _is_piece(part)]
    if streamed.interrupted:
        whole = _interrupted(whole)
    elif len(whole) < len(parts):
        msg = (
            "the arguments of a function call arrived in pieces; "
            "do not set stream_function_call_arguments"
        )
        raise ValueError(msg)
    return [{"role": "model", "parts": whole}] if whole else []


def join_contents(contents: Sequence[Any]) -> list[Any]:
    """Return *contents* with consecutive contents of the model joined to one."""
    joined: list[Any] = []
    for role, group in groupby(contents, key=lambda content: field(content, "role")):
        if role == "model":
            joined.append({"role": role, "parts": _join(group)})
        else:
            joined += group
    return joined


def _join(contents: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the parts of *contents*, with consecutive texts joined (rule 2)."""
    parts = [part for content in contents for part in list_field(to_item(content), "parts")]
    joined: list[dict[str, Any]] = []

    for kind, group in groupby(parts, key=_text_kind):
        if kind is None:
            joined += group
        else:
            pieces = list(group)
            joined.append({**pieces[0], "text": join_text(piece["text"] for piece in pieces)})
    return [part for part in joined if part.get("text") != "" or _text_kind(part) is None]


def _text_kind(part: dict[str, Any]) -> str | None:
    """Return ``"thought"`` or ``"text"`` for a text without a signature; None for other parts."""
    if "text" not in part or not part.keys() <= _TEXT_FIELDS:
        return None
    return "thought" if part.get("thought") else "text"


def _is_piece(part: dict[str, Any]) -> bool:
    """Return True if *part* is a piece of a function call (rule 3)."""
    call = part.get("functionCall")
    return call is not None and (
        bool(call.get("partialArgs")) or call.get("willContinue") is not None
    )


def _interrupted(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return *parts* with a text that marks the interruption (rule 5)."""
    if parts and _text_kind(parts[-1]) == "thought":
        parts = parts[:-1]
    if not parts:
        return []
    if _text_kind(parts[-1]) == "text":
        return [*parts[:-1], {"text": mark_interrupted(parts[-1]["text"])}]

    calls = (index for index, part in enumerate(parts) if "functionCall" in part)
    first = next(calls, len(parts))
    return [*parts[:first], {"text": mark_interrupted("")}, *parts[first:]]
