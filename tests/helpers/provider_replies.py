"""Requests and replies of each provider that hold everything a client has to send back."""

from __future__ import annotations

import json

import pytest

# On trio the clients leave async generators to the garbage collector, and some clients warn about
# unknown items.
CLIENT_WARNINGS = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

IMAGE = "data:image/png;base64,iVBORw0KGgo="

# Chat completions

SAID = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this, and how is the weather?"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    ],
}
CALLS = [
    {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"at":"x"}'},
    },
    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]
CALLING = {
    "role": "assistant",
    "content": "Let me see.",
    "refusal": None,
    "reasoning_content": "A vendor's own field.",
    "tool_calls": CALLS,
}
RESULTS = [
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": "noon"},
]


def completion(message, finish_reason="stop"):
    choice = {"index": 0, "finish_reason": finish_reason, "logprobs": None, "message": message}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def chunk(delta, finish_reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


CHUNKS = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"reasoning_content": "A vendor's "}),
    chunk({"reasoning_content": "own field."}),
    chunk({"content": "Let "}),
    chunk({"content": "me see."}),
    chunk(
        {"tool_calls": [{"index": 0, **CALLS[0], "function": {"name": "weather", "arguments": ""}}]}
    ),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"at":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"x"}'}}]}),
    chunk({"tool_calls": [{"index": 1, **CALLS[1]}]}),
    chunk({}, "tool_calls"),
    {**chunk({}), "choices": [], "usage": {"total_tokens": 3}},
]


# OpenAI, responses

REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "gAAAAB",
    "status": "completed",
}
FUTURE = {"id": "fu_1", "type": "some_future_item", "payload": {"deep": [1, None]}}
SPOKEN = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [
        {"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []},
    ],
}
FUNCTION_CALLS = [
    {
        "id": f"fc_{number}",
        "type": "function_call",
        "call_id": f"call_{number}",
        "name": "weather",
        "arguments": "{}",
        "status": "completed",
    }
    for number in (1, 2)
]
OUTPUT = [REASONING, FUTURE, SPOKEN, *FUNCTION_CALLS]
OUTPUTS = [
    {"type": "function_call_output", "call_id": f"call_{number}", "output": "sunny"}
    for number in (1, 2)
]
ASKED = {
    "role": "user",
    "content": [
        {"type": "input_text", "text": "What is this, and how is the weather?"},
        {"type": "input_image", "image_url": IMAGE, "detail": "low"},
    ],
}


def response(output, status="completed"):
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1.0,
        "model": "m",
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
    }


def events_of(output, status="completed"):
    """Return the events of a response; its texts arrive in two pieces."""
    events = [{"type": "response.created", "response": response([], "in_progress")}]
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        begun = {**item, "status": "in_progress"}
        if item["type"] == "message":
            begun["content"] = []
        if item["type"] == "function_call":
            begun["arguments"] = ""
        events.append({"type": "response.output_item.added", **place, "item": begun})

        if item["type"] == "message":
            text = item["content"][0]["text"]
            part = {**item["content"][0], "text": ""}
            place["content_index"] = 0
            events.append({"type": "response.content_part.added", **place, "part": part})
            events += [
                {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
                for piece in (text[:4], text[4:])
            ]

        if item["type"] == "function_call":
            delta = {"type": "response.function_call_arguments.delta", **place}
            events.append({**delta, "delta": item["arguments"]})

        events.append({"type": "response.output_item.done", "output_index": index, "item": item})

    events.append({"type": "response.some_future_event", "x": 1})
    events.append({"type": f"response.{status}", "response": response(output, status)})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


# Anthropic


ASKING = {
    "role": "user",
    "content": [
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
        },
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
    ],
}
ASKING_STORED = {
    "role": "user",
    "content": [ASKING["content"][0], {"type": "text", "text": "What is this?"}],
}
BLOCKS = [
    {"type": "thinking", "thinking": "Hm. Let me think.", "signature": "EqQB"},
    {"type": "redacted_thinking", "data": "EmwK"},
    {"type": "text", "text": "Let me see.", "citations": None},
    {"type": "some_future_block", "payload": {"deep": [1, None]}},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"at": "x", "days": [1, 2]}},
    {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
]
TOOL_RESULTS = {
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "noon", "is_error": False},
        {"type": "text", "text": "And now?"},
    ],
}


def anthropic_message(content, stop_reason="tool_use"):
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def deltas_of(block):
    """Yield the pieces in which the text, the thinking or the input of *block* arrives.

    The input of a tool call is an object, or the text that the model made instead of its JSON.
    """
    kind = block["type"]
    if kind == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"][:4]}
        yield {"type": "thinking_delta", "thinking": block["thinking"][4:]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif kind == "text":
        yield {"type": "text_delta", "text": block["text"][:4]}
        yield {"type": "text_delta", "text": block["text"][4:]}
    elif kind.endswith("tool_use") and block["input"]:
        text = block["input"] if isinstance(block["input"], str) else json.dumps(block["input"])
        for piece in ("", text[:14], text[14:]):
            yield {"type": "input_json_delta", "partial_json": piece}


EMPTY = {"thinking": "", "signature": "", "text": "", "input": {}}


def message_events(content=BLOCKS, stop_reason="tool_use"):
    """Yield the events of a message."""
    yield {"type": "message_start", "message": anthropic_message([], None)}
    yield {"type": "ping"}
    for index, block in enumerate(content):
        begun = {key: EMPTY.get(key, value) for key, value in block.items()}
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in deltas_of(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": stop_reason, "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}
