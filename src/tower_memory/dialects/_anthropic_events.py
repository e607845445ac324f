"""The content that the events of one of Anthropic's streams add up to.

The rules are those of Anthropic's documentation of its events, and of its own client
(``anthropic.lib.streaming``). What is not known here is refused, not guessed: a block that was put
together wrongly would be refused by the provider each time it went back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tower_memory._shapes import INTERRUPTED_REPLY, field
from tower_memory.dialects._carried import OTHERS
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._plain import plain
from tower_memory.dialects._text import kinds_of


def content_of(streamed: Streamed) -> list[Any]:
    """The blocks of the message that *streamed* was, to be sent back.

    Raises:
        TypeError: Its chunks are no such events.
        ValueError: They are not all there, or cannot be put together.
    """
    kinds = {field(event, "type") for event in streamed.chunks}
    if "message_start" not in kinds:
        found = kinds_of(streamed.chunks)
        msg = f"a stream must give a message's events or text, got {found}; {OTHERS}"
        raise TypeError(msg)
    complete = "message_stop" in kinds
    if not complete and not streamed.interrupted:
        msg = "the stream ended without message_stop: its message is not complete"
        raise ValueError(msg)
    blocks, inputs, done = _collected(streamed)
    for index in done & {index for index, written in inputs.items() if written}:
        try:
            blocks[index]["input"] = msgspec.json.decode(inputs[index])
        except (ValueError, RecursionError) as error:
            if "tool_use" in _stop_reasons(streamed):
                msg = f"the input of the tool call {blocks[index].get('id')!r} is no JSON: {error}"
                raise ValueError(msg) from error
            del blocks[index]  # cut off by a limit: it is no call
    return list(blocks.values()) if complete else _marked(blocks, done)


def _collected(
    streamed: Streamed,
) -> tuple[dict[Any, dict[str, Any]], dict[Any, str], set[Any]]:
    """The blocks by their index, what was written as input of those that are calls, and which of
    them are done.
    """
    blocks: dict[Any, dict[str, Any]] = {}
    inputs: dict[Any, str] = {}
    done: set[Any] = set()
    for event in streamed.chunks:
        kind, index = field(event, "type"), field(event, "index")
        if kind == "content_block_start":
            blocks[index] = plain(field(event, "content_block"))
        elif kind == "content_block_stop":
            done.add(index)
        elif kind == "content_block_delta":
            delta = plain(field(event, "delta"))
            if index not in blocks:
                msg = f"block {index!r} goes on that was not begun"
                raise ValueError(msg)
            if delta.get("type") == "input_json_delta":
                inputs[index] = inputs.get(index, "") + delta["partial_json"]
            else:
                _add(blocks[index], delta)
    return blocks, inputs, done


def _stop_reasons(streamed: Streamed) -> list[Any]:
    deltas = [field(event, "delta") for event in streamed.chunks]
    return [field(delta, "stop_reason") for delta in deltas]


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta:
        case {"type": "text_delta", "text": text}:
            block["text"] += text
        case {"type": "thinking_delta", "thinking": thinking}:
            block["thinking"] += thinking
        case {"type": "signature_delta", "signature": signature}:
            block["signature"] = signature
        case {"type": "citations_delta", "citation": citation}:
            block["citations"] = [*(block.get("citations") or ()), citation]
        case {"type": "compaction_delta", **fields}:
            block.update(fields)
        case _:
            kinds = f"{block['type']!r} came with a {delta.get('type')!r}"
            msg = f"a block of the type {kinds}, which is not known"
            raise ValueError(msg)


def _marked(blocks: dict[Any, dict[str, Any]], done: set[Any]) -> list[Any]:
    """Those *blocks* that a provider would take back, and one that says it was interrupted."""
    answered = {blocks[index].get("tool_use_id") for index in done & blocks.keys()}
    kept: list[dict[str, Any]] = []
    for index, block in blocks.items():
        if block["type"] == "text":
            complete = bool(block["text"])
        elif block["type"].endswith("_tool_use"):  # the provider's own tools
            complete = index in done and block["id"] in answered
        else:
            complete = index in done
        if complete:
            kept.append(block)
    if not kept:
        return []
    calls = [position for position, block in enumerate(kept) if block["type"] == "tool_use"]
    kept.insert(min(calls, default=len(kept)), {"type": "text", "text": INTERRUPTED_REPLY})
    return kept
