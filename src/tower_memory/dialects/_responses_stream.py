"""Assembling the output items of a response from the events of an OpenAI stream.

The source of rules 1, 2 and 4 is OpenAI's reference of its streaming events
(https://platform.openai.com/docs/api-reference/responses-streaming).

1. The last event of a stream carries the whole response, so its output counts. If its output is
   empty, the items that earlier events reported as complete count.
2. A response that failed, was cancelled or has not ended is not a reply, and is refused with
   `ValueError`.
3. A stream without a last event is refused with `ValueError`, unless it was interrupted. An
   interrupted stream gives its complete items, without reasoning that led to no item, and a message
   with the text of all incomplete messages.
4. The deltas of several texts may be interleaved. The text of incomplete messages is joined in the
   order of ``(output_index, content_index)``, and within one text in the order of arrival.
5. A surrogate pair that was split over two deltas is one character (see ``_text``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from typing import Any, Final

from tower_memory._arguments import shown_name
from tower_memory._fields import field, list_field
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import OTHER_DIALECTS
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._text import join_text, mark_interrupted, type_names

_END_EVENTS: Final = ("response.completed", "response.incomplete", "response.failed")


def check_status(response: Any) -> None:
    """Refuse a response that failed, was cancelled or has not ended."""
    status = field(response, "status")
    if status in ("failed", "cancelled", "queued", "in_progress"):
        msg = f"response.status must be completed or incomplete, got {shown_name(status)}"
        raise ValueError(msg)


def assemble_output(streamed: Streamed) -> list[Any]:
    """Return the output items of *streamed*, as the provider accepts them in a later request.

    Raises:
        TypeError: The chunks are not events of a response.
        ValueError: The response failed, or the stream ended before the response was complete.
    """
    events = [(field(event, "type"), event) for event in streamed.chunks]
    kinds = {str(kind) for kind, _ in events}
    if not any(kind.startswith("response.") for kind in kinds):
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
        failure = "with an error event, " if "error" in kinds else ""
        msg = f"the stream ended {failure}without response.completed: its response is not complete"
        raise ValueError(msg)

    # The provider refuses reasoning without the item that it led to.
    while items and field(items[-1], "type") == "reasoning":
        items.pop()

    text = _unfinished_text(events, done)
    if not items and not text:
        return []
    return [*items, {"role": "assistant", "content": mark_interrupted(text)}]


def _unfinished_text(events: list[tuple[Any, Any]], done: Container[Any]) -> str:
    """Return the text of the messages whose output index is not in *done*."""
    texts: dict[tuple[Any, Any], list[str]] = defaultdict(list)
    for kind, event in events:
        if kind == "response.output_text.delta" and field(event, "output_index") not in done:
            place = (field(event, "output_index"), field(event, "content_index"))
            texts[place].append(field(event, "delta"))

    return join_text(piece for place in sorted(texts, key=_in_order) for piece in texts[place])


def _in_order(place: tuple[Any, Any]) -> tuple[int, int]:
    """Return *place* as a sort key; an absent index counts as 0."""
    output_index, content_index = (part if isinstance(part, int) else 0 for part in place)
    return output_index, content_index
