"""The codec: an item is encoded without loss, or refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.deep_stacks import call_deep, nested
from helpers.internals import ItemCodec, decode_metadata, encode_metadata, snapshot
from helpers.json_values import JSON
from tower_memory import MessageItem, Role, RunItem, ToolCallItem, UnencodableItemError

TIME = datetime(2025, 8, 11, 12, 34, 56, 123456, tzinfo=UTC)


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


MESSAGE = MessageItem("msg_1", Role.USER, "Hello", TIME)


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
    (MESSAGE, "items[1].parts[0]"),
]


@pytest.mark.parametrize(("value", "where"), REFUSED)
def test_a_value_that_json_cannot_hold_is_refused_with_its_path(value, where):
    items = [{"fine": 1}, {"parts": [value]}]
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(Any).encode(items, "user_123")
    assert caught.value.where == where
    assert caught.value.session_id == "user_123"
    assert str(caught.value).startswith(f"session 'user_123': {where} cannot be stored: ")


@pytest.mark.parametrize("value", [cyclic, deep])
def test_an_item_that_contains_itself_or_is_too_deep_is_refused(value):
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
def test_a_run_item_that_json_would_change_is_refused(value):
    item = ToolCallItem("call_1", "add", {"a": [value]}, TIME)
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(Any).encode([item], "s")
    assert caught.value.where.startswith("items[0].arguments.a[0]")


def test_an_item_of_another_type_than_the_stores_is_refused():
    with pytest.raises(UnencodableItemError, match=r"items\[0\] cannot be stored"):
        ItemCodec(RunItem).encode([{"role": "user"}], "s")


def test_a_type_that_cannot_be_decoded_is_refused_by_name():
    with pytest.raises(TypeError, match="item_type .* cannot be decoded from JSON"):
        ItemCodec(dict[int | str, list[int] | tuple[int]])


@pytest.mark.parametrize("name", ["key", "monkey"])
def test_a_fault_is_not_mistaken_for_a_field_with_key_in_its_name(name):
    with pytest.raises(UnencodableItemError) as caught:
        ItemCodec(Any).encode([{name: 1, "b": float("nan")}], "s")
    assert caught.value.where == "items[0].b"


@pytest.mark.parametrize("left", [900, 300, 60])
def test_the_same_depth_is_accepted_and_decoded_at_any_depth_of_the_stack(left):
    codec = ItemCodec(Any)
    for item in (nested(500), {"a": nested(496, {"b": [{}, {}]})}, ["["] * 600):
        (encoded,) = call_deep(lambda item=item: codec.encode([item], "s"), left)
        assert call_deep(lambda encoded=encoded: codec.decode(encoded), left) == item
        array = b"[" + encoded + b"]"
        assert call_deep(lambda array=array: codec.decode_array(array), left) == [item]
        assert call_deep(lambda item=item: snapshot([item], "s", None), left) == (item,)


@pytest.mark.parametrize("left", [900, 300, 60])
def test_an_item_of_a_greater_depth_is_refused_at_any_depth_of_the_stack(left):
    def encode():
        with pytest.raises(UnencodableItemError) as caught:
            ItemCodec(Any).encode([1, {"a": nested(500)}], "s")
        return caught.value

    error = call_deep(encode, left)
    assert error.where == "items[1]"
    assert str(error).endswith("it contains itself, or is nested too deeply")


def test_metadata_is_decoded_at_any_depth_of_the_stack():
    metadata = {"deep": nested(499)}
    stored = decode_metadata(encode_metadata(metadata, "s"))
    assert call_deep(lambda: dict(stored), 60) == metadata


@pytest.mark.parametrize("left", [900, 60])
def test_the_fault_in_a_deep_item_is_found_at_any_depth_of_the_stack(left):
    def encode():
        with pytest.raises(UnencodableItemError) as caught:
            ItemCodec(Any).encode([nested(50, math.nan)], "s")
        return caught.value

    assert call_deep(encode, left).where == "items[0]" + "[0]" * 50


@pytest.mark.parametrize("left", [900, 60])
def test_json_that_is_deeper_than_any_stack_raises_value_error(left):
    encoded = b"[" * 100_000 + b"]" * 100_000
    for decode in (ItemCodec(Any).decode, ItemCodec(Any).decode_array):
        with pytest.raises(ValueError, match="^it is nested too deeply$"):
            call_deep(lambda decode=decode: decode(encoded), left)


def test_malformed_deep_json_is_refused_without_its_content():
    encoded = b"[" * 400 + b'"secret' + b"]" * 400
    with pytest.raises(ValueError, match=r"^Input data was truncated$"):
        call_deep(lambda: ItemCodec(Any).decode(encoded), 60)


def test_without_enough_stack_to_start_a_thread_nothing_is_called_too_deep():
    with pytest.raises(RecursionError):
        call_deep(lambda: ItemCodec(Any).encode([nested(100)], "s"), 8)
