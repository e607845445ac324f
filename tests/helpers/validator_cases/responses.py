"""Items of OpenAI's responses."""

from __future__ import annotations

from helpers.messages import assistant, user
from helpers.validator_cases.chat import HI


def call_item(**changes):
    """Return a function call of the responses API with *changes*."""
    return {
        "type": "function_call",
        "call_id": "a",
        "name": "f",
        "arguments": "{}",
        **changes,
    }


def output_item(call_id="a", **changes):
    """Return the output of a function call with *changes*."""
    return {"type": "function_call_output", "call_id": call_id, "output": "done", **changes}


def message_item(kind, role, **changes):
    """Return a message with one part of the type *kind*."""
    content = [{"type": kind, "text": "x"}]
    return {"type": "message", "role": role, "content": content, **changes}


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
PATCH = {"type": "delete_file", "path": "a.txt"}
STORED = {"type": "reasoning", "id": "rs_stored", "summary": []}
OPENAI_RESPONSES = {
    "text": [HI],
    "an image": [user([{"type": "input_image", "image_url": "u", "detail": "low"}])],
    "parts": [
        message_item("input_text", "user"),
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "x", "annotations": []},
                {"type": "refusal", "refusal": "No."},
            ],
        },
    ],
    "no parts": [HI, assistant([])],
    "a call": [HI, call_item(id="fc_1"), output_item()],
    "calls together": [HI, call_item(), call_item(call_id="b"), output_item("b"), output_item()],
    "a late output": [HI, call_item(), HI, output_item()],
    "a call whose output may still come": [HI, call_item(**{"async": True})],
    "a patch without output": [
        HI,
        {"type": "apply_patch_call", "call_id": "a", "status": "completed", "operation": PATCH},
        {"type": "apply_patch_call_output", "call_id": "a", "status": "completed"},
    ],
    "a custom call": [
        HI,
        {"type": "custom_tool_call", "call_id": "a", "name": "f", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "x"},
    ],
    "reasoning before a message": [HI, THOUGHT, assistant("Hello")],
    "reasoning before a call": [HI, THOUGHT, call_item(), output_item()],
    "reasoning that is stored": [HI, STORED, assistant("Hello")],
    "a reference": [{"type": "item_reference", "id": "rs_stored"}],
    "a reference without type": [{"id": "rs_stored"}],
    "the output of a stored call": [{"type": "item_reference", "id": "rs_stored"}, output_item()],
    "an unknown item": [HI, {"type": "web_search_call", "id": "ws_1", "status": "completed"}],
}
OPENAI_RESPONSES_REFUSED = {
    "no items": ("empty array", []),
    "an unknown role": ("role", [{"role": "tool", "content": "x"}]),
    "no content": ("content", [{"role": "user"}]),
    "content as a number": ("content", [user(1)]),
    "a part of the other side": ("'input_text'", [HI, message_item("input_text", "assistant")]),
    "the user's output": ("'output_text'", [message_item("output_text", "user")]),
    "a part without text": ("expected a string", [user([{"type": "input_text"}])]),
    "a message's id": ("begins with 'msg'", [message_item("output_text", "assistant", id="1")]),
    "a call's id": ("begins with 'fc'", [HI, call_item(id="call_1"), output_item()]),
    "reasoning's id": ("begins with 'rs'", [HI, {**THOUGHT, "id": "1"}, assistant("Hello")]),
    "an id twice": (
        "Duplicate item",
        [
            HI,
            call_item(id="fc_1"),
            output_item(),
            call_item(id="fc_1", call_id="b"),
            output_item("b"),
        ],
    ),
    "an empty call id": ("empty string", [HI, call_item(call_id="")]),
    "an output without call id": ("expected a string", [HI, call_item(), output_item(None)]),
    "a long call id": ("too long", [HI, call_item(call_id="a" * 65), output_item("a" * 65)]),
    "an empty name": ("empty string", [HI, call_item(name=""), output_item()]),
    "a name with a space": ("pattern", [HI, call_item(name="a b"), output_item()]),
    "no arguments": ("arguments", [HI, call_item(arguments=None), output_item()]),
    "no output": ("output", [HI, call_item(), output_item(output=None)]),
    "a call without output": ("No tool output found", [HI, call_item()]),
    "an output without call": ("No tool call found", [HI, output_item()]),
    "an output before its call": ("No tool call found", [HI, output_item(), call_item()]),
    "reasoning at the end": ("required following item", [HI, THOUGHT]),
    "reasoning before the user": ("required following item", [HI, THOUGHT, HI]),
    "reasoning before an output": (
        "required following item",
        [HI, call_item(), THOUGHT, output_item()],
    ),
    "reasoning without summary": (
        "summary",
        [HI, {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"}, assistant("Hello")],
    ),
    "reasoning that is not stored": (
        "not found",
        [HI, {"type": "reasoning", "id": "rs_1", "summary": []}, assistant("Hello")],
    ),
    "a reference to nothing": ("not found", [{"type": "item_reference", "id": "msg_1"}]),
    "half of a surrogate pair": ("not valid JSON", [user("\udc00")]),
}
