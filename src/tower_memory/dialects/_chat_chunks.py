"""The message that the chunks of a chat completion add up to.

1. Text that comes in pieces is joined; what comes whole, such as an id, stands as it came last.
2. Parts of a list that have an ``index`` are pieces of the part with that index.
3. Of an interrupted message the calls that are not complete are left out, and its text says that
   it was interrupted.

The rules are those of OpenAI's own client (``openai.lib.streaming``), but that some servers repeat
in each chunk what they might say once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tower_memory._shapes import MISSING, field, parts_of
from tower_memory.dialects._carried import OTHERS
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._plain import plain
from tower_memory.dialects._text import is_json, kinds_of, marked

_WHOLE: Final = frozenset({"role", "type", "id", "index"})
"""What of a message comes whole. Other text of it comes in pieces, whatever its name."""

_PIECES: Final = frozenset({"arguments", "data", "summary", "text", "thinking", "transcript"})
"""What in the parts of a message comes in pieces. Other text of them comes whole."""


def message_of(streamed: Streamed) -> dict[str, Any] | None:
    """The message that *streamed* was, to be sent back; None where nothing came of it.

    Raises:
        TypeError: Its chunks are neither text nor a completion's.
        ValueError: It ended in the middle of a call.
    """
    message: dict[str, Any] = {"role": "assistant", "content": None}
    chunks = list(map(_bare, streamed.chunks))
    pieces = [piece for chunk in chunks for piece in _pieces(chunk)]
    for piece in pieces:
        _add(message, piece, inside=False)
    if not pieces and not streamed.interrupted:
        msg = (
            "a stream must give a chat completion's chunks or text, "
            f"got {kinds_of(streamed.chunks)}; {OTHERS}"
        )
        raise TypeError(msg)
    if any(map(_ends, chunks)):
        return message
    if streamed.interrupted:
        return _marked(message)
    if any(map(_is_cut_off, parts_of(message, "tool_calls"))):
        msg = "the stream ended in the middle of a tool call, without a finish_reason"
        raise ValueError(msg)
    return message


def _bare(chunk: Any) -> Any:
    """*chunk*, or that which the client's own event comes of."""
    return field(chunk, "chunk") if field(chunk, "type") == "chunk" else chunk


def _ends(chunk: Any) -> bool:
    """Whether *chunk* is the last one of its message."""
    reasons = [field(choice, "finish_reason") for choice in parts_of(chunk, "choices")]
    return field(chunk, "done") is True or any(reason not in (None, MISSING) for reason in reasons)


def _pieces(chunk: Any) -> Iterator[dict[str, Any]]:
    """What *chunk* adds to the message."""
    found = [
        plain(field(choice, "delta")) or {}
        for choice in parts_of(chunk, "choices")
        if field(choice, "index") in (0, None, MISSING)
    ]
    if field(chunk, "done") is not MISSING:  # Ollama's own
        found.append(plain(field(chunk, "message")))
    yield from (piece for piece in found if isinstance(piece, dict))


def _add(whole: dict[str, Any], piece: dict[str, Any], *, inside: bool) -> None:
    """Add *piece* to the message, or to what is *inside* of it."""
    for key, value in piece.items():
        have = whole.get(key)
        if isinstance(value, list) or (isinstance(have, list) and isinstance(value, str)):
            whole[key] = _with_parts(_as_parts(have), _as_parts(value))
        elif isinstance(have, dict) and isinstance(value, dict):
            _add(have, value, inside=True)
        elif isinstance(have, str) and isinstance(value, str):
            whole[key] = _joined(key, have, value, inside=inside)
        elif value is not None or have is None:
            whole[key] = value


def _joined(key: str, have: str, more: str, *, inside: bool) -> str:
    if key == "name" and more != have:  # which some servers repeat, and some cut
        return have + more
    comes_whole = key not in _PIECES if inside else key in _WHOLE
    return (more or have) if comes_whole else have + more


def _as_parts(content: Any) -> list[Any]:
    """Content as parts, which some models give when they think."""
    if isinstance(content, list):
        parts: list[Any] = content
        return parts
    return [{"type": "text", "text": content}] if content else []


def _with_parts(whole: list[Any], pieces: list[Any]) -> list[Any]:
    for piece in pieces:
        begun = next(
            (part for part in whole if _goes_on(part, piece, is_last=part is whole[-1])), None
        )
        if begun is None:
            whole.append(piece)
        else:
            _add(begun, piece, inside=True)
    return whole


def _goes_on(part: Any, piece: Any, *, is_last: bool) -> bool:
    """Whether *piece* is more of *part*: of the same index, kind and id; without an index, more of
    the text or the thinking that is last, and not signed yet.
    """
    if not isinstance(part, dict) or not isinstance(piece, dict):
        return False
    for name in ("type", "id"):
        if part.get(name) and piece.get(name) and part[name] != piece[name]:
            return False
    if piece.get("index") is not None:
        return bool(part.get("index") == piece["index"])
    return is_last and part.get("type") in ("text", "thinking") and not part.get("signature")


def _marked(message: dict[str, Any]) -> dict[str, Any] | None:
    """*message*, saying that it was interrupted, without what no provider would take back; None
    where nothing is left of it.
    """
    kept = {key: value for key, value in message.items() if key not in ("function_call", "audio")}
    kept["tool_calls"] = list(filter(_is_complete, parts_of(kept, "tool_calls")))
    kept["thinking_blocks"] = list(filter(_is_signed, parts_of(kept, "thinking_blocks")))
    kept = {key: value for key, value in kept.items() if value != []}
    if not any(value for key, value in kept.items() if key != "role"):
        return None
    content = kept.get("content")
    if isinstance(content, list):
        return {**kept, "content": [*content, {"type": "text", "text": marked("")}]}
    return {**kept, "content": marked(content)}


def _is_signed(block: Any) -> bool:
    return field(block, "signature") not in (MISSING, None, "")


def _is_complete(call: Any) -> bool:
    """Whether all of *call*, of a function, is there: its name, and arguments that can be read."""
    return isinstance(field(field(call, "function"), "name"), str) and not _is_cut_off(call)


def _is_cut_off(call: Any) -> bool:
    """Whether the arguments of *call* end before their end."""
    arguments = field(field(call, "function"), "arguments")
    return isinstance(arguments, str) and not is_json(arguments)
