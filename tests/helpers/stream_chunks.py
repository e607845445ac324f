"""Chunks and events of streamed replies, and the items that a dialect assembles from them."""

from __future__ import annotations

from helpers.messages import assistant, user
from tower_memory.dialects import AnthropicMessages, ChatCompletions, OpenAIResponses, Streamed


def assemble(dialect, chunks, *, interrupted=False, stream=None):
    """Return the items that *dialect* assembles from *chunks*."""
    return dialect.reply_items([user("a")], Streamed(chunks, interrupted, stream))


# Chat completions


def chat_chunk(finish_reason=None, **fields):
    """Return a chunk whose delta has *fields*."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def call_delta(index, arguments, **fields):
    """Return a piece of the tool call at *index*."""
    return {"index": index, **fields, "function": {"arguments": arguments}}


def assemble_chat(*chunks, interrupted=False):
    """Return the message that the chat completions dialect assembles from *chunks*."""
    (message,) = assemble(ChatCompletions(), chunks, interrupted=interrupted)
    return message


# Anthropic


MESSAGE_START = {"type": "message_start", "message": assistant([])}
MESSAGE_STOP = {"type": "message_stop"}


def block_start(index, **block):
    """Return the event that begins the block at *index*."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(index, kind, **fields):
    """Return the event that continues the block at *index*."""
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": f"{kind}_delta", **fields},
    }


def block_stop(index):
    """Return the event that ends the block at *index*."""
    return {"type": "content_block_stop", "index": index}


def stop_reason(reason):
    """Return the event that gives the reason of the message's end."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}}


def assemble_blocks(*events, interrupted=False):
    """Return the blocks that Anthropic's dialect assembles, or None for no message."""
    items = assemble(AnthropicMessages(), [MESSAGE_START, *events], interrupted=interrupted)
    return items[0]["content"] if items else None


# Responses


def item_done(index, **item):
    """Return the event that ends the output item at *index*."""
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def output_text_delta(index, text, **fields):
    """Return the event that continues the text of the output item at *index*."""
    kind = "response.output_text.delta"
    return {"type": kind, "output_index": index, "delta": text, **fields}


def response_end(kind, output, status=None):
    """Return the event of *kind* that ends the response."""
    response = {"output": output, "status": status or kind}
    return {"type": f"response.{kind}", "response": response}


def assemble_items(*events, interrupted=False):
    """Return the items that the dialect of OpenAI's responses assembles from *events*."""
    return assemble(OpenAIResponses(), events, interrupted=interrupted)


SPOKEN = {"type": "message", "id": "msg", "role": "assistant", "content": []}
