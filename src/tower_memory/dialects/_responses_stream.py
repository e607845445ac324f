"""Assembling the output items of a response from the events of an OpenAI stream.

The last event of a stream carries the whole response. If a stream ended before it, the output is
the items that were complete, and the text of the message that was not.
"""

from __future__ import annotations

from typing import Any, Final

from tower_memory._fields import field, list_field
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import OTHER_DIALECTS
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._text import mark_interrupted, type_names

_END_EVENTS: Final = ("response.completed", "response.incomplete", "response.failed")


def check_status(response: Any) -> None:
    """Refuse a response that failed, was cancelled or has not ended."""
    status = field(response, "status")
    if status in ("failed", "cancelled", "queued", "in_progress"):
        msg = f"response.status must be completed or incomplete, got {status!r}"
        raise ValueError(msg)


def assemble_output(streamed: Streamed) -> list[Any]:
    """Return the output items of *streamed*, as the provider accepts them in a later request.

    Raises:
        TypeError: The chunks are not events of a response.
        ValueError: The response failed, or the stream ended before the response was complete.
    """
    events = [(field(event, "type"), event) for event in streamed.chunks]
    if not any(str(kind).startswith("response.") for kind, _ in events):
        types = type_names(streamed.chunks)
        msg = f"a stream must give a response's events or text, got {types}; {OTHER_DIALECTS}"
        raise TypeError(msg)

    done = {
        field(event, "output_index"): to_builtins(field(event, "item"))
        for kind, event in events
        if kind == "response.output_item.done"
    }
    items = [done[index] for index in sorted(done)]

    ends = [field(event, "response") for kind, event in events if kind in _END_EVENTS]
    if ends:
        check_status(ends[-1])
        return [to_builtins(item) for item in list_field(ends[-1], "output")] or items
    if not streamed.interrupted:
        msg = "the stream ended without response.completed: its response is not complete"
        raise ValueError(msg)

    # The provider refuses reasoning without the item that it led to.
    while items and field(items[-1], "type") == "reasoning":
        items.pop()

    text = "".join(
        field(event, "delta")
        for kind, event in events
        if kind == "response.output_text.delta" and field(event, "output_index") not in done
    )
    if not items and not text:
        return []
    return [*items, {"role": "assistant", "content": mark_interrupted(text)}]
