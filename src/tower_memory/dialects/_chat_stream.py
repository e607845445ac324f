"""Assembling the message of a chat completion from the chunks of its stream.

1. Text that arrives in fragments is joined. Of a value that arrives whole, such as an id, the
   latest one counts.
2. List elements with an ``index`` are fragments of the element with that index.
3. From an interrupted message, incomplete tool calls are removed, and its text is marked as
   interrupted.

The rules are those of OpenAI's own client (``openai.lib.streaming``), with one difference: some
servers repeat values such as an id in each chunk, and a repeated value is not joined.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tower_memory._fields import MISSING, field, list_field
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import OTHER_DIALECTS
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._text import is_json, mark_interrupted, type_names

_WHOLE_FIELDS: Final = frozenset({"role", "type", "id", "index"})
"""Fields of a message that arrive whole. All other texts of a message arrive in fragments."""

_FRAGMENTED_FIELDS: Final = frozenset(
    {"arguments", "data", "summary", "text", "thinking", "transcript"}
)
"""Fields inside a message's parts that arrive in fragments. Other texts there arrive whole."""


def assemble_message(streamed: Streamed) -> dict[str, Any] | None:
    """Return the message that *streamed* carried, ready to be sent back; None if it is empty.

    Raises:
        TypeError: The chunks are not those of a chat completion.
        ValueError: The stream ended inside a tool call.
    """
    message: dict[str, Any] = {"role": "assistant", "content": None}
    chunks = list(map(_unwrap, streamed.chunks))
    deltas = [delta for chunk in chunks for delta in _deltas(chunk)]
    for delta in deltas:
        _add(message, delta, inside=False)

    if not deltas and not streamed.interrupted:
        msg = (
            "a stream must give a chat completion's chunks or text, "
            f"got {type_names(streamed.chunks)}; {OTHER_DIALECTS}"
        )
        raise TypeError(msg)

    if any(map(_is_last, chunks)):
        return message
    if streamed.interrupted:
        return _interrupted_message(message)
    if any(map(_is_cut_off, list_field(message, "tool_calls"))):
        msg = "the stream ended in the middle of a tool call, without a finish_reason"
        raise ValueError(msg)
    return message


def _unwrap(chunk: Any) -> Any:
    """Return *chunk*, or the chunk inside an event of the client's own stream helper."""
    return field(chunk, "chunk") if field(chunk, "type") == "chunk" else chunk


def _is_last(chunk: Any) -> bool:
    """Return True if *chunk* is the last chunk of its message."""
    reasons = [field(choice, "finish_reason") for choice in list_field(chunk, "choices")]
    return field(chunk, "done") is True or any(reason not in (None, MISSING) for reason in reasons)


def _deltas(chunk: Any) -> Iterator[dict[str, Any]]:
    """Yield the mappings that *chunk* adds to the message of the first choice."""
    deltas = [
        to_builtins(field(choice, "delta")) or {}
        for choice in list_field(chunk, "choices")
        if field(choice, "index") in (0, None, MISSING)
    ]
    if field(chunk, "done") is not MISSING:  # a chunk of Ollama's own API
        deltas.append(to_builtins(field(chunk, "message")))
    yield from (delta for delta in deltas if isinstance(delta, dict))


def _add(target: dict[str, Any], delta: dict[str, Any], *, inside: bool) -> None:
    """Add *delta* to *target*: the message, or with *inside* a value inside the message."""
    for key, value in delta.items():
        present = target.get(key)
        if isinstance(value, list) or (isinstance(present, list) and isinstance(value, str)):
            target[key] = _add_parts(_as_parts(present), _as_parts(value))
        elif isinstance(present, dict) and isinstance(value, dict):
            _add(present, value, inside=True)
        elif isinstance(present, str) and isinstance(value, str):
            target[key] = _join(key, present, value, inside=inside)
        elif value is not None or present is None:
            target[key] = value


def _join(key: str, present: str, value: str, *, inside: bool) -> str:
    # Some servers repeat a name in each chunk, and some send it in fragments.
    if key == "name" and value != present:
        return present + value

    is_whole = key not in _FRAGMENTED_FIELDS if inside else key in _WHOLE_FIELDS
    return (value or present) if is_whole else present + value


def _as_parts(content: Any) -> list[Any]:
    """Return *content* as a list of parts, as some reasoning models send it."""
    if isinstance(content, list):
        parts: list[Any] = content
        return parts
    return [{"type": "text", "text": content}] if content else []


def _add_parts(parts: list[Any], fragments: list[Any]) -> list[Any]:
    for fragment in fragments:
        started = next(
            (part for part in parts if _continues(part, fragment, is_last=part is parts[-1])), None
        )
        if started is None:
            parts.append(fragment)
        else:
            _add(started, fragment, inside=True)
    return parts


def _continues(part: Any, fragment: Any, *, is_last: bool) -> bool:
    """Return True if *fragment* continues *part*.

    A fragment with an index continues the part with the same index, type and id. A fragment
    without an index continues the last part, if that is text or thinking without a signature.
    """
    if not isinstance(part, dict) or not isinstance(fragment, dict):
        return False

    for name in ("type", "id"):
        if part.get(name) and fragment.get(name) and part[name] != fragment[name]:
            return False

    if fragment.get("index") is not None:
        return bool(part.get("index") == fragment["index"])
    return is_last and part.get("type") in ("text", "thinking") and not part.get("signature")


def _interrupted_message(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return *message* marked as interrupted, without parts that a provider would refuse.

    Return None if nothing remains.
    """
    rest = {key: value for key, value in message.items() if key not in ("function_call", "audio")}
    rest["tool_calls"] = list(filter(_is_complete, list_field(rest, "tool_calls")))
    rest["thinking_blocks"] = list(filter(_is_signed, list_field(rest, "thinking_blocks")))
    rest = {key: value for key, value in rest.items() if value != []}
    if not any(value for key, value in rest.items() if key != "role"):
        return None

    content = rest.get("content")
    if isinstance(content, list):
        return {**rest, "content": [*content, {"type": "text", "text": mark_interrupted("")}]}
    return {**rest, "content": mark_interrupted(content)}


def _is_signed(block: Any) -> bool:
    return field(block, "signature") not in (MISSING, None, "")


def _is_complete(call: Any) -> bool:
    """Return True if *call* has a function name, and arguments that are not cut off."""
    return isinstance(field(field(call, "function"), "name"), str) and not _is_cut_off(call)


def _is_cut_off(call: Any) -> bool:
    """Return True if the arguments of *call* are text that is not JSON."""
    arguments = field(field(call, "function"), "arguments")
    return isinstance(arguments, str) and not is_json(arguments)
