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

import msgspec

from tower_memory._shapes import MISSING, field, parts_of
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._plain import plain
from tower_memory.dialects._text import kinds_of, marked

_WHOLE: Final = frozenset({"role", "type", "id", "index"})


def message_of(streamed: Streamed) -> dict[str, Any]:
    """The message that *streamed* was, to be sent back.

    Raises:
        TypeError: Its chunks are neither text nor a completion's.
    """
    message: dict[str, Any] = {"role": "assistant", "content": None}
    pieces = [piece for chunk in streamed.chunks for piece in _pieces(chunk)]
    if not pieces:
        msg = (
            "a stream must give a chat completion's chunks or text, "
            f"got {kinds_of(streamed.chunks)}; write a dialect for it"
        )
        raise TypeError(msg)
    for piece in pieces:
        _add(message, piece)
    if streamed.interrupted and not _is_finished(streamed):
        _mark(message)
    return message


def _pieces(chunk: Any) -> Iterator[Any]:
    """What *chunk* adds to the message."""
    if isinstance(chunk, str):
        yield {"content": str(chunk)}
        return
    if field(chunk, "type") == "chunk":  # an event of the client's own, of which this is the cause
        chunk = field(chunk, "chunk")
    for choice in parts_of(chunk, "choices"):
        if field(choice, "index") in (0, None, MISSING):
            delta = field(choice, "delta")
            yield plain(delta) if delta not in (None, MISSING) else {}
    if (message := field(chunk, "message")) is not MISSING:  # Ollama's own
        yield plain(message)


def _is_finished(streamed: Streamed) -> bool:
    """Whether all of the message came, whatever happened then."""
    choices = [choice for chunk in streamed.chunks for choice in parts_of(chunk, "choices")]
    return any(field(choice, "finish_reason") not in (None, MISSING) for choice in choices)


def _add(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        have = whole.get(key)
        if isinstance(value, list):
            whole[key] = _with_parts(have if isinstance(have, list) else [], value)
        elif have is None or (key in _WHOLE and value):
            whole[key] = value
        elif isinstance(have, dict) and isinstance(value, dict):
            _add(have, value)
        elif isinstance(have, str) and isinstance(value, str):
            whole[key] = have if key == "name" and value == have else have + value
        elif value is not None:
            whole[key] = value


def _with_parts(whole: list[Any], pieces: list[Any]) -> list[Any]:
    for piece in pieces:
        index = piece.get("index") if isinstance(piece, dict) else None
        begun = [part for part in whole if index is not None and field(part, "index") == index]
        if begun:
            _add(begun[0], piece)
        else:
            whole.append(piece)
    return whole


def _mark(message: dict[str, Any]) -> None:
    """Say that *message* was interrupted, and take out what no provider would take back."""
    begun = message.pop("tool_calls", None) or ()
    if calls := [call for call in begun if _is_complete(call)]:
        message["tool_calls"] = calls
    for name in ("function_call", "audio"):
        message.pop(name, None)
    content = message["content"]
    if isinstance(content, list):
        message["content"] = [*content, {"type": "text", "text": marked("")}]
    else:
        message["content"] = marked(content)


def _is_complete(call: Any) -> bool:
    """Whether *call* has a name and arguments that can be read."""
    function = field(call, "function")
    arguments = field(function, "arguments")
    if isinstance(arguments, str):
        try:
            msgspec.json.decode(arguments)
        except (ValueError, RecursionError):
            return False
    return isinstance(field(function, "name"), str)
