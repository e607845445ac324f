"""Items: their wire form, and that encoding is lossless or refused."""

from __future__ import annotations

import json
import math
import pickle
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec
import pytest
from conftest import JSON
from hypothesis import given
from hypothesis import strategies as st

from tower_memory import (
    CorruptSessionError,
    HandoffItem,
    Message,
    MessageItem,
    Role,
    RunItem,
    SaveError,
    SessionConflict,
    SessionError,
    ToolCallItem,
    ToolOutputItem,
    Turn,
    TurnExists,
    UnencodableItemError,
)
from tower_memory._codec import ItemCodec, snapshot
from tower_memory._items import to_messages

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
def test_run_items_have_the_wire_form_of_tower_llm(item, wire):
    codec = ItemCodec(RunItem)
    assert codec.encode([item], "s") == [wire.encode()]
    assert codec.decode(wire.encode()) == item


@pytest.mark.parametrize(("item", "wire"), WIRE)
def test_run_items_among_json_values_come_back_as_their_json_mapping(item, wire):
    codec = ItemCodec(Any)
    (raw,) = codec.encode([item], "s")
    assert codec.decode(raw) == json.loads(wire)


def test_an_unknown_field_or_kind_of_run_item_is_an_error_and_no_loss():
    codec = ItemCodec(RunItem)
    with pytest.raises(ValueError, match="unknown field `mood`"):
        codec.decode(WIRE[0][1].replace('"id"', '"mood":"good","id"').encode())
    with pytest.raises(ValueError, match="Invalid value 'Reasoning'"):
        codec.decode(b'{"type":"Reasoning"}')


@given(st.lists(JSON))
def test_any_json_value_comes_back_equal_and_of_the_same_types(items):
    codec = ItemCodec(Any)
    back = [codec.decode(raw) for raw in codec.encode(items, "s")]
    assert repr(back) == repr(items)


@given(st.lists(JSON))
def test_a_snapshot_is_equal_and_shares_nothing_that_can_change(items):
    copies = snapshot(items, "s", None)
    assert list(copies) == items
    for copy, item in zip(copies, items, strict=True):
        assert copy is not item or not isinstance(item, (list, dict))


class Colour(Enum):
    TEAL = "teal"


cyclic: list[Any] = []
cyclic.append({"again": cyclic})
deep: list[Any] = []
for _ in range(100_000):
    deep = [deep]

REFUSED = [
    (math.nan, "items[1].parts[0]"),
    (math.inf, "items[1].parts[0]"),
    (b"bytes", "items[1].parts[0]"),
    ((1, 2), "items[1].parts[0]"),
    ({1, 2}, "items[1].parts[0]"),
    (TIME, "items[1].parts[0]"),
    (Decimal("1.5"), "items[1].parts[0]"),
    (Colour.TEAL, "items[1].parts[0]"),
    (object(), "items[1].parts[0]"),
    ("\ud800", "items[1].parts[0]"),
    ({"\ud800": 1}, "items[1].parts[0], a key"),
    ({1: 2}, "items[1].parts[0], a key"),
    ({None: 2}, "items[1].parts[0], a key"),
    ({"deep": [0, {"er": math.nan}]}, "items[1].parts[0].deep[1].er"),
    (WIRE[0][0], "items[1].parts[0]"),
]


@pytest.mark.parametrize(("value", "where"), REFUSED)
def test_what_json_cannot_hold_is_refused_and_its_place_named(value, where):
    items = [{"fine": 1}, {"parts": [value]}]
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(Any).encode(items, "user_123")
    assert caught.value.where == where
    assert caught.value.session_id == "user_123"
    assert str(caught.value).startswith(f"session 'user_123': {where} cannot be stored: ")


@pytest.mark.parametrize("value", [cyclic, deep])
def test_what_contains_itself_or_is_too_deep_is_refused(value):
    with pytest.raises(UnencodableItemError, match="contains itself, or is nested too deeply"):
        ItemCodec(Any).encode([value], "s")
    with pytest.raises(UnencodableItemError, match="contains itself, or is nested too deeply"):
        snapshot([value], "s", None)


def test_the_fault_in_a_run_item_is_found_in_its_field():
    item = ToolCallItem("call_1", "add", {"a": [1, math.nan]}, TIME)
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(RunItem).encode([item], "s")
    assert caught.value.where == "items[0].arguments.a[1]"
    assert math.isnan(caught.value.value)


@pytest.mark.parametrize("value", [b"bytes", {1}, TIME, (1,), {1: 2}, math.nan])
def test_a_run_item_is_its_json_mapping_only_where_nothing_is_changed(value):
    item = ToolCallItem("call_1", "add", {"a": [value]}, TIME)
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(Any).encode([item], "s")
    assert caught.value.where.startswith("items[0].arguments.a[0]")


def test_an_item_of_another_type_than_the_stores_is_refused():
    with pytest.raises(UnencodableItemError, match=r"items\[0\] cannot be stored"):
        ItemCodec(RunItem).encode([{"role": "user"}], "s")


@pytest.mark.parametrize(
    "error",
    [
        SessionError("message", session_id="s"),
        SessionConflict("s", expected=1, actual=2, response="r", turn=Turn("s", [])),
        TurnExists("s", turn_id="t", items=[1]),
        SaveError("s", "reason", response="r", turn=None),
        CorruptSessionError("s", row=3, reason="torn"),
        UnencodableItemError("s", where="items[0]", value=1, reason="r"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_sent_to_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
    assert type(copy) is type(error)


def test_a_type_that_cannot_be_decoded_is_refused_by_name():
    with pytest.raises(TypeError, match="item_type .* cannot be decoded from JSON"):
        ItemCodec(dict[int | str, list[int] | tuple[int]])


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
        WIRE[3][0],  # a handoff is no message
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


@pytest.mark.parametrize("name", ["key", "monkey"])
def test_a_field_of_any_name_is_not_taken_for_a_fault(name):
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(Any).encode([{name: 1, "b": float("nan")}], "s")
    assert caught.value.where == "items[0].b"
