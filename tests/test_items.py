"""Run items: their encoded form, and the messages they stand for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from helpers.internals import ItemCodec, to_messages
from tower_memory import (
    HandoffItem,
    Message,
    MessageItem,
    Role,
    RunItem,
    ToolCallItem,
    ToolOutputItem,
)

TIME = datetime(2025, 8, 11, 12, 34, 56, 123456, tzinfo=UTC)
WIRE = [
    (
        MessageItem("msg_1", Role.USER, "Hello", TIME),
        '{"type":"Message","id":"msg_1","role":"user","content":"Hello",'
        '"created_at":"2025-08-11T12:34:56.123456Z"}',
    ),
    (
        ToolCallItem("call_1", "add", {"a": 1}, TIME),
        '{"type":"ToolCall","id":"call_1","tool_name":"add","arguments":{"a":1},'
        '"created_at":"2025-08-11T12:34:56.123456Z"}',
    ),
    (
        ToolOutputItem("out_1", "call_1", 3, None, TIME),
        '{"type":"ToolOutput","id":"out_1","tool_call_id":"call_1","output":3,"error":null,'
        '"created_at":"2025-08-11T12:34:56.123456Z"}',
    ),
    (
        HandoffItem("h_1", "a", "b", None, TIME),
        '{"type":"Handoff","id":"h_1","from_agent":"a","to_agent":"b","reason":null,'
        '"created_at":"2025-08-11T12:34:56.123456Z"}',
    ),
]


@pytest.mark.parametrize(("item", "wire"), WIRE)
def test_run_items_are_encoded_as_tower_llm_encodes_them(item, wire):
    codec = ItemCodec(RunItem)
    assert codec.encode([item], "s") == [wire.encode()]
    assert codec.decode(wire.encode()) == item


@pytest.mark.parametrize(("item", "wire"), WIRE)
def test_run_items_among_json_values_come_back_as_their_json_mapping(item, wire):
    codec = ItemCodec(Any)
    (raw,) = codec.encode([item], "s")
    assert codec.decode(raw) == json.loads(wire)


def test_an_unknown_field_or_kind_of_run_item_is_an_error():
    codec = ItemCodec(RunItem)
    with pytest.raises(ValueError, match="unknown field `mood`"):
        codec.decode(WIRE[0][1].replace('"id"', '"mood":"good","id"').encode())
    with pytest.raises(ValueError, match="its tag names no known class"):
        codec.decode(b'{"type":"Reasoning"}')


def test_messages_are_found_among_chat_messages_and_run_items():
    call, output = WIRE[1][0], WIRE[2][0]
    other = msgspec.structs.replace(call, id="call_2", arguments="x")
    items = [
        WIRE[0][0],
        call,
        other,
        output,
        msgspec.structs.replace(output, output="text"),
        msgspec.structs.replace(output, error="no such tool"),
        WIRE[3][0],  # a handoff is not a message
        call,
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "vendor": 1},
        {"type": "reasoning"},
    ]
    add = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    sub = {"id": "call_2", "type": "function", "function": {"name": "add", "arguments": '"x"'}}

    assert to_messages(items) == [
        Message("user", "Hello"),
        Message("assistant", tool_calls=[add, sub]),
        Message("tool", "3", tool_call_id="call_1"),
        Message("tool", "text", tool_call_id="call_1"),
        Message("tool", "Error: no such tool", tool_call_id="call_1"),
        Message("assistant", tool_calls=[add]),
        Message("user", [{"type": "text", "text": "Hi"}]),
    ]
