"""Assembling the message of a chat completion from the chunks of its stream.

``_chat_pieces`` joins the deltas. This module finds them, and decides if the reply is whole.

1. The choice with the lowest index counts. With ``n`` above 1, a chunk may have pieces of several
   choices, or each choice has chunks of its own. Some servers number the chunks in
   ``choices[].index`` instead (microsoft/foundry-local#263). The index is taken for such a number
   if no chunk has several choices, at most one choice has a finish_reason, and the index rises with
   each chunk except perhaps the last. All choices then belong to one message.
2. A message ends with a ``finish_reason`` that is a string and not empty, or with ``done`` in
   Ollama's own API.
3. A chunk with an ``error``, or with the ``finish_reason`` ``"error"``, says that the reply failed:
   after HTTP 200, a provider has no other way to report a failure
   (https://openrouter.ai/docs/api_reference/errors-and-debugging#mid-stream-errors). Such a stream
   is refused with `ValueError`. If the stream was interrupted as well, its message counts as
   interrupted.
4. A stream that ends regularly without a ``finish_reason`` is a whole reply, because some servers
   never send one (anomalyco/opencode#43379, databricks/unity-gateway#215). If such streams were
   refused, all replies of these servers would be lost. Only a stream that ends inside a tool call
   is refused with `ValueError`, since such a call cannot be sent back. A gateway may cut off text
   without an error (pi#8460). Such text cannot be told from whole text, and is stored as it came.
5. An interrupted message loses its incomplete tool calls, and its text is marked as interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tower_memory._fields import MISSING, field, list_field
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._chat_pieces import join_deltas, map_values
from tower_memory.dialects._messages import OTHER_DIALECTS
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._text import (
    is_json,
    mark_interrupted,
    type_names,
    without_half_character,
)


def assemble_message(streamed: Streamed) -> tuple[dict[str, Any] | None, str]:
    """Return the message that *streamed* carried, and its finish_reason.

    The message is None if it is empty. The finish_reason is empty if there is none.

    Raises:
        TypeError: The chunks are not those of a chat completion.
        ValueError: The reply failed, or the stream ended inside a tool call.
    """
    chunks = list(map(_unwrap, streamed.chunks))
    choices = _first_choice(chunks)
    if not streamed.interrupted and any(map(_is_failure, (*chunks, *choices))):
        msg = (
            "the provider reported the reply as failed (an error, or the finish_reason 'error'): "
            "it is not a reply"
        )
        raise ValueError(msg)

    deltas = _deltas(chunks, choices)
    if not deltas and not streamed.interrupted:
        msg = (
            "a stream must give a chat completion's chunks or text, "
            f"got {type_names(streamed.chunks)}; {OTHER_DIALECTS}"
        )
        raise TypeError(msg)

    message = join_deltas(deltas)
    reasons = [reason for choice in choices if (reason := _finish_reason(choice))]
    if any(map(_is_last, (*chunks, *choices))):
        return message, "".join(reasons[-1:])
    if streamed.interrupted:
        return _interrupted_message(message), ""
    if any(map(_is_cut_off, list_field(message, "tool_calls"))):
        msg = "the stream ended in the middle of a tool call, without a finish_reason"
        raise ValueError(msg)
    return message, ""


# Chunks and choices


def _unwrap(chunk: Any) -> Any:
    """Return *chunk*, or the chunk inside an event of the client's own stream helper."""
    return field(chunk, "chunk") if field(chunk, "type") == "chunk" else chunk


def _first_choice(chunks: Iterable[Any]) -> list[Any]:
    """Return the pieces of the first choice, in order (rule 1)."""
    rows = [list_field(chunk, "choices") for chunk in chunks]
    choices = [choice for row in rows for choice in row]
    indexes = [
        index if isinstance(index := field(choice, "index"), int) else 0 for choice in choices
    ]

    counts_chunks = (
        all(len(row) <= 1 for row in rows)
        and sum(bool(_finish_reason(choice)) for choice in choices) <= 1
        and all(before < after for before, after in pairwise(indexes[:-1]))
    )
    if counts_chunks:
        return choices

    first = min(indexes, default=0)
    return [choice for choice, index in zip(choices, indexes, strict=True) if index == first]


def _finish_reason(choice: Any) -> str:
    """Return the finish_reason of *choice*, or an empty text if it has none."""
    reason = field(choice, "finish_reason")
    return reason if isinstance(reason, str) else ""


def _is_failure(part: Any) -> bool:
    """Return True if *part*, a chunk or a choice, says that the reply failed."""
    error = field(part, "error")
    return _finish_reason(part) == "error" or (error is not MISSING and bool(error))


def _is_last(part: Any) -> bool:
    """Return True if *part*, a chunk or a choice, is the last of its message."""
    return field(part, "done") is True or _finish_reason(part) not in ("", "error")


def _deltas(chunks: Iterable[Any], choices: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the mappings that *choices*, or chunks of Ollama's own API, add to the message."""
    values = [to_builtins(field(choice, "delta")) or {} for choice in choices]
    values += [
        to_builtins(field(chunk, "message"))
        for chunk in chunks
        if field(chunk, "done") is not MISSING
    ]
    return [value for value in values if isinstance(value, dict)]


# Interrupted messages


def _interrupted_message(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return *message* marked as interrupted, without parts that a provider would refuse.

    Return None if nothing remains.
    """
    rest = {key: value for key, value in message.items() if key not in ("function_call", "audio")}
    rest["tool_calls"] = list(filter(_is_complete, list_field(rest, "tool_calls")))
    rest["thinking_blocks"] = list(filter(_is_signed, list_field(rest, "thinking_blocks")))
    rest = {key: map_values(_without_half, value) for key, value in rest.items() if value != []}
    if not any(value for key, value in rest.items() if key != "role"):
        return None

    content = rest.get("content")
    if isinstance(content, list):
        return {**rest, "content": [*content, {"type": "text", "text": mark_interrupted("")}]}
    return {**rest, "content": mark_interrupted(content)}


def _without_half(value: Any) -> Any:
    """Return a text without half a surrogate pair at its end, and any other value as it is."""
    return without_half_character(value) if isinstance(value, str) else value


def _is_signed(block: Any) -> bool:
    return field(block, "signature") not in (MISSING, None, "")


def _is_complete(call: Any) -> bool:
    """Return True if *call* has a function name, and arguments that are not cut off."""
    return isinstance(field(field(call, "function"), "name"), str) and not _is_cut_off(call)


def _is_cut_off(call: Any) -> bool:
    """Return True if the arguments of *call* are text that is not JSON."""
    arguments = field(field(call, "function"), "arguments")
    return isinstance(arguments, str) and not is_json(arguments)
