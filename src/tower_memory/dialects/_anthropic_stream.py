"""Assembling the content of a message from the events of an Anthropic stream.

The rules are those of Anthropic's documentation of its events and of its own client
(``anthropic.lib.streaming``). Unknown combinations are refused, not guessed, because the provider
would refuse a wrongly assembled block in every later request.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tower_memory._fields import field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import OTHER_DIALECTS
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._text import type_names


def assemble_content(streamed: Streamed) -> list[Any]:
    """Return the content blocks of the message that *streamed* carried, ready to be sent back.

    Raises:
        TypeError: The chunks are not events of a message.
        ValueError: Events are missing, or do not fit together.
    """
    kinds = {field(event, "type") for event in streamed.chunks}
    if "message_start" not in kinds:
        types = type_names(streamed.chunks)
        msg = f"a stream must give a message's events or text, got {types}; {OTHER_DIALECTS}"
        raise TypeError(msg)

    is_complete = "message_stop" in kinds
    if not is_complete and not streamed.interrupted:
        msg = "the stream ended without message_stop: its message is not complete"
        raise ValueError(msg)

    blocks, inputs, done = _collect_blocks(streamed)
    for index in done & {index for index, text in inputs.items() if text}:
        try:
            blocks[index]["input"] = msgspec.json.decode(inputs[index])
        except (ValueError, RecursionError) as error:
            if "tool_use" in _stop_reasons(streamed):
                msg = f"the input of the tool call {blocks[index].get('id')!r} is no JSON: {error}"
                raise ValueError(msg) from error
            # A token limit cut the input off, so the model made no call.
            del blocks[index]

    return list(blocks.values()) if is_complete else _interrupted_content(blocks, done)


def _collect_blocks(
    streamed: Streamed,
) -> tuple[dict[Any, dict[str, Any]], dict[Any, str], set[Any]]:
    """Return the blocks, the JSON texts of their tool inputs, and the indexes of complete blocks.

    Blocks and input texts are keyed by the block's index.
    """
    blocks: dict[Any, dict[str, Any]] = {}
    inputs: dict[Any, str] = {}
    done: set[Any] = set()

    for event in streamed.chunks:
        kind, index = field(event, "type"), field(event, "index")

        if kind == "content_block_start":
            blocks[index] = to_builtins(field(event, "content_block"))
        elif kind == "content_block_stop":
            done.add(index)
        elif kind == "content_block_delta":
            delta = to_builtins(field(event, "delta"))
            if index not in blocks:
                msg = f"block {index!r} goes on that was not begun"
                raise ValueError(msg)

            if delta.get("type") == "input_json_delta":
                inputs[index] = inputs.get(index, "") + delta["partial_json"]
            else:
                _apply_delta(blocks[index], delta)

    return blocks, inputs, done


def _stop_reasons(streamed: Streamed) -> list[Any]:
    deltas = [field(event, "delta") for event in streamed.chunks]
    return [field(delta, "stop_reason") for delta in deltas]


def _apply_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
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


def _interrupted_content(blocks: dict[Any, dict[str, Any]], done: set[Any]) -> list[Any]:
    """Return the *blocks* that the provider accepts, and a text that marks the interruption."""
    answered = {blocks[index].get("tool_use_id") for index in done & blocks.keys()}
    content: list[dict[str, Any]] = []

    for index, block in blocks.items():
        if block["type"] == "text":
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
