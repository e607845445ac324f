"""Assembling the content of a message from the events of an Anthropic stream.

The rules are those of Anthropic's documentation of its events
(https://platform.claude.com/docs/en/build-with-claude/streaming) and of its own client
(``anthropic.lib.streaming``). Unknown combinations are refused, not guessed, because the provider
would refuse a wrongly assembled block in every later request.

1. Events with the same ``index`` belong to one block. Blocks inside ``message_start`` are complete
   and come first.
2. A further ``message_start`` restarts the reply, because a proxy may retry within one stream
   (vercel/ai#18331). All earlier events are ignored. If no block had begun, the repeated event
   changes nothing.
3. A message is complete with ``message_stop``. A stream without it is refused with `ValueError`,
   unless it was interrupted.
4. An ``error`` event says that the reply failed. Such a stream is refused with `ValueError`; if it
   was interrupted, the message counts as interrupted.
5. The input of a tool call arrives as pieces of JSON. With fine-grained tool streaming, or if the
   reply was cut off, the input may be invalid JSON. The provider accepts only a JSON object, so any
   other input becomes ``{"INVALID_JSON": "<the text>"}``, as Anthropic suggests
   (https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming).
6. A surrogate pair that was split over two deltas is one character (see ``_text``).
7. An interrupted message keeps its complete blocks and its text, and gets a text block that marks
   the interruption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from tower_memory._arguments import shown, shown_name
from tower_memory._fields import field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import OTHER_DIALECTS
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._text import (
    INVALID_JSON,
    decode_object,
    join_text,
    type_names,
    without_half_character,
)

_TEXT_DELTAS: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
"""Name of the field that arrives in pieces, by the type of the delta."""


def assemble_message(streamed: Streamed) -> tuple[list[Any], Any]:
    """Return the content blocks of the message that *streamed* carried, and its stop_reason.

    The stop_reason of an interrupted message is None, unless it is a refusal.

    Raises:
        TypeError: The chunks are not events of a message.
        ValueError: The reply failed, or events are missing or do not fit together.
    """
    events = _last_message(streamed.chunks)
    kinds = {field(event, "type") for event in events}
    if not streamed.interrupted:
        _check_ended(kinds)

    is_complete = "message_stop" in kinds and "error" not in kinds
    blocks, inputs, done = _collect_blocks(events)
    reasons = [field(field(event, "delta"), "stop_reason") for event in events]
    reason = next((each for each in reversed(reasons) if isinstance(each, str)), None)

    for index, text in inputs.items():
        if not text or not (is_complete or index in done):
            continue
        tool_input = decode_object(text)
        blocks[index]["input"] = {INVALID_JSON: text} if tool_input is None else tool_input

    if is_complete:
        return list(blocks.values()), reason
    # A refusal counts even if the stream broke off after it was reported.
    return _interrupted_content(blocks, done), reason if reason == "refusal" else None


def _last_message(chunks: Sequence[Any]) -> Sequence[Any]:
    """Return the events of the last message that *chunks* began."""
    starts = [
        number for number, event in enumerate(chunks) if field(event, "type") == "message_start"
    ]
    if not starts:
        types = type_names(chunks)
        msg = f"a stream must give a message's events or text, got {types}; {OTHER_DIALECTS}"
        raise TypeError(msg)
    return chunks[starts[-1] :]


def _check_ended(kinds: set[Any]) -> None:
    """Refuse a message that failed or is not complete."""
    if "error" in kinds:
        msg = "the provider reported the reply as failed (an error event): it is not a reply"
        raise ValueError(msg)
    if "message_stop" not in kinds:
        msg = "the stream ended without message_stop: its message is not complete"
        raise ValueError(msg)


def _collect_blocks(
    events: Sequence[Any],
) -> tuple[dict[Any, dict[str, Any]], dict[Any, str], set[Any]]:
    """Return the blocks, the JSON texts of their tool inputs, and the indexes of complete blocks.

    The keys of both dicts are the indexes of the blocks.
    """
    begun = list_field(field(events[0], "message"), "content")
    blocks: dict[Any, dict[str, Any]] = {
        ("message_start", number): to_builtins(block) for number, block in enumerate(begun)
    }
    done: set[Any] = set(blocks)
    pieces: dict[tuple[Any, str], list[str]] = defaultdict(list)

    for event in events:
        kind, index = field(event, "type"), field(event, "index")

        if kind == "content_block_start":
            blocks[index] = to_builtins(field(event, "content_block"))
        elif kind == "content_block_stop":
            done.add(index)
        elif kind == "content_block_delta":
            delta = to_builtins(field(event, "delta"))
            if index not in blocks:
                msg = f"a delta came for block {shown(index)}, which was not begun"
                raise ValueError(msg)

            name = _TEXT_DELTAS.get(delta.get("type"))
            if name is not None and (name == "partial_json" or _may_have(blocks[index], name)):
                pieces[index, name].append(delta[name])
            else:
                _apply_delta(blocks[index], delta)

    inputs: dict[Any, str] = {}
    for (index, name), texts in pieces.items():
        if name == "partial_json":
            inputs[index] = join_text(texts)
        else:
            blocks[index][name] = join_text([blocks[index].get(name) or "", *texts])

    return blocks, inputs, done


def _may_have(block: dict[str, Any], name: str) -> bool:
    """Return True if text for the field *name* fits *block*; the first event may omit the field."""
    return name in block or block["type"] == name


def _apply_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a *delta* that arrives whole to *block*; refuse an unknown kind of delta."""
    match delta:
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "citations_delta", "citation": citation}:
            block["citations"] = [*(block.get("citations") or ()), citation]
        case {"type": "compaction_delta", **fields}:
            block.update(fields)
        case _:
            kinds = f"{shown_name(block['type'])} came with a {shown_name(delta.get('type'))}"
            msg = f"a block of the type {kinds}, which is not known"
            raise ValueError(msg)


def _interrupted_content(blocks: dict[Any, dict[str, Any]], done: set[Any]) -> list[Any]:
    """Return the *blocks* that the provider accepts, and a text that marks the interruption."""
    answered = {blocks[index].get("tool_use_id") for index in done & blocks.keys()}
    content: list[dict[str, Any]] = []

    for index, block in blocks.items():
        if block["type"] == "text":
            block["text"] = without_half_character(block["text"])
            is_accepted = bool(block["text"])
        elif block["type"].endswith("_tool_use"):  # a tool that the provider runs itself
            is_accepted = index in done and block["id"] in answered
        else:
            is_accepted = index in done
        if is_accepted:
            content.append(block)

    if not content:
        return []

    # The mark goes in front of the tool calls, so the message still ends with them.
    calls = [position for position, block in enumerate(content) if block["type"] == "tool_use"]
    mark = {"type": "text", "text": INTERRUPTED_REPLY}
    content.insert(min(calls, default=len(content)), mark)
    return content
