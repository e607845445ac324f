"""Requests and replies of each provider that hold everything a client has to send back."""

from __future__ import annotations

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


def completion(message):
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "message": message}
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


def events_of(output):
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
            part = {**item["content"][0], "text": ""}
            place["content_index"] = 0
            events.append({"type": "response.content_part.added", **place, "part": part})
            events += [
                {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []}
                for text in ("Let ", "me see.")
            ]

        if item["type"] == "function_call":
            delta = {"type": "response.function_call_arguments.delta", **place, "delta": "{}"}
            events.append(delta)

        events.append({"type": "response.output_item.done", "output_index": index, "item": item})

    events.append({"type": "response.some_future_event", "x": 1})
    events.append({"type": "response.completed", "response": response(output)})
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


DELTAS = {
    "thinking": [
        {"type": "thinking_delta", "thinking": "Hm. "},
        {"type": "thinking_delta", "thinking": "Let me think."},
        {"type": "signature_delta", "signature": "EqQB"},
    ],
    "text": [{"type": "text_delta", "text": text} for text in ("Let ", "me see.")],
    "toolu_1": [
        {"type": "input_json_delta", "partial_json": text}
        for text in ("", '{"at": "x", "da', 'ys": [1, 2]}')
    ],
}
EMPTY = {"thinking": "", "signature": "", "text": "", "input": {}}


def message_events():
    yield {"type": "message_start", "message": anthropic_message([], None)}
    yield {"type": "ping"}
    for index, block in enumerate(BLOCKS):
        begun = {key: EMPTY.get(key, value) for key, value in block.items()}
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in DELTAS.get(block.get("id", block["type"]), ()):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}
