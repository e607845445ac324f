"""The items that the events of one of OpenAI's response streams add up to.

The last event has the whole response. Of a stream that did not come so far there are the items
that were done, and the text of the message that was not.
"""

from __future__ import annotations

from typing import Any, Final

from tower_memory._shapes import field, parts_of
from tower_memory.dialects._carried import OTHERS
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._plain import plain
from tower_memory.dialects._text import kinds_of, marked

_LAST: Final = ("response.completed", "response.incomplete", "response.failed")


def check_status(response: Any) -> None:
    """Refuse a response that is none, or not yet."""
    status = field(response, "status")
    if status in ("failed", "cancelled", "queued", "in_progress"):
        msg = f"response.status must be completed or incomplete, got {status!r}"
        raise ValueError(msg)


def output_of(streamed: Streamed) -> list[Any]:
    """The items that *streamed* gave, to be sent back.

    Raises:
        TypeError: Its chunks are no such events.
        ValueError: The response failed, or did not come to its end.
    """
    events = [(field(event, "type"), event) for event in streamed.chunks]
    if not any(str(kind).startswith("response.") for kind, _ in events):
        found = kinds_of(streamed.chunks)
        msg = f"a stream must give a response's events or text, got {found}; {OTHERS}"
        raise TypeError(msg)
    done = {
        field(event, "output_index"): plain(field(event, "item"))
        for kind, event in events
        if kind == "response.output_item.done"
    }
    items = [done[index] for index in sorted(done)]
    ends = [field(event, "response") for kind, event in events if kind in _LAST]
    if ends:
        check_status(ends[-1])
        return [plain(item) for item in parts_of(ends[-1], "output")] or items
    if not streamed.interrupted:
        msg = "the stream ended without response.completed: its response is not complete"
        raise ValueError(msg)
    while items and field(items[-1], "type") == "reasoning":  # of which nothing came
        items.pop()
    text = "".join(
        field(event, "delta")
        for kind, event in events
        if kind == "response.output_text.delta" and field(event, "output_index") not in done
    )
    if not items and not text:
        return []
    return [*items, {"role": "assistant", "content": marked(text)}]
