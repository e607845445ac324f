"""Assembly of the events of Anthropic's messages, whole and interrupted."""

from __future__ import annotations

import pytest

from helpers.messages import INTERRUPTED_REPLY
from helpers.stream_chunks import (
    MESSAGE_STOP,
    assemble_blocks,
    block_delta,
    block_start,
    block_stop,
    stop_reason,
)


def test_citations_and_compactions_are_assembled():
    assert assemble_blocks(
        block_start(0, type="text", text="", citations=None),
        block_delta(0, "citations", citation={"n": 1}),
        block_delta(0, "citations", citation={"n": 2}),
        block_delta(0, "text", text="a"),
        block_stop(0),
        block_start(1, type="compaction", content=None),
        block_delta(1, "compaction", content="b", encrypted_content="c"),
        block_stop(1),
        MESSAGE_STOP,
    ) == [
        {"type": "text", "text": "a", "citations": [{"n": 1}, {"n": 2}]},
        {"type": "compaction", "content": "b", "encrypted_content": "c"},
    ]


def test_big_numbers_in_the_input_of_a_tool_survive():
    (block,) = assemble_blocks(
        block_start(0, type="tool_use", id="1", name="f", input={}),
        block_delta(0, "input_json", partial_json='{"n": 1234567890123456789012'),
        block_delta(0, "input_json", partial_json="34567890}"),
        block_stop(0),
        MESSAGE_STOP,
    )
    assert block["input"] == {"n": 123456789012345678901234567890}


def test_events_that_cannot_be_assembled_are_refused():
    with pytest.raises(ValueError, match="'future' came with a 'future_delta', which is not known"):
        assemble_blocks(
            block_start(0, type="future"),
            block_delta(0, "future", x=1),
            block_stop(0),
            MESSAGE_STOP,
        )

    with pytest.raises(ValueError, match="ended without message_stop"):
        assemble_blocks(block_start(0, type="text", text="a"), block_stop(0))

    with pytest.raises(ValueError, match="the input of the tool call '1' is no JSON"):
        assemble_blocks(
            block_start(0, type="tool_use", id="1", input={}),
            block_delta(0, "input_json", partial_json="{"),
            block_stop(0),
            stop_reason("tool_use"),
            MESSAGE_STOP,
        )

    with pytest.raises(ValueError, match="block 1 goes on that was not begun"):
        assemble_blocks(block_delta(1, "text", text="a"), MESSAGE_STOP)


def test_a_call_that_a_token_limit_cut_off_is_left_out():
    assert assemble_blocks(
        block_start(0, type="text", text="a"),
        block_stop(0),
        block_start(1, type="tool_use", id="1", name="f", input={}),
        block_delta(1, "input_json", partial_json='{"x": "lon'),
        block_stop(1),
        stop_reason("max_tokens"),
        MESSAGE_STOP,
    ) == [{"type": "text", "text": "a"}]


def test_a_message_without_content_is_not_stored():
    assert assemble_blocks(MESSAGE_STOP) is None


def test_interrupted_blocks_keep_only_the_parts_that_a_provider_accepts():
    mark = {"type": "text", "text": INTERRUPTED_REPLY}
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}

    assert assemble_blocks(
        block_start(0, type="thinking", thinking="H", signature="x"),
        block_stop(0),
        block_start(1, type="text", text="a"),
        block_stop(1),
        block_start(2, **call),
        block_stop(2),
        block_start(3, type="tool_use", id="2", name="f", input={}),
        block_delta(3, "input_json", partial_json='{"x"'),
        interrupted=True,
    ) == [
        {"type": "thinking", "thinking": "H", "signature": "x"},
        {"type": "text", "text": "a"},
        mark,
        call,
    ]
    assert assemble_blocks(block_start(0, type="thinking", thinking="H"), interrupted=True) is None
    assert assemble_blocks(block_start(0, type="text", text=""), interrupted=True) is None

    half = [block_start(0, type="text", text=""), block_delta(0, "text", text="a")]
    assert assemble_blocks(*half, interrupted=True) == [{"type": "text", "text": "a"}, mark]
    assert assemble_blocks(block_start(0, **search), block_stop(0), interrupted=True) is None

    half_found = [*half, block_start(1, **search), block_stop(1), block_start(2, **found)]
    assert assemble_blocks(*half_found, interrupted=True) == [{"type": "text", "text": "a"}, mark]

    searched = [block_start(0, **search), block_stop(0), block_start(1, **found), block_stop(1)]
    assert assemble_blocks(*searched, interrupted=True) == [search, found, mark]
    assert assemble_blocks(*searched, MESSAGE_STOP, interrupted=True) == [search, found]
