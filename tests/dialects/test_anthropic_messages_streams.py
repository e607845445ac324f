"""Assembly of the events of Anthropic's messages, whole and interrupted."""

from __future__ import annotations

import pytest

from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.stream_chunks import (
    MESSAGE_START,
    MESSAGE_STOP,
    assemble,
    assemble_blocks,
    block_delta,
    block_start,
    block_stop,
    stop_reason,
)
from tower_memory.dialects import AnthropicMessages


def test_thinking_citations_and_compactions_are_assembled():
    assert assemble_blocks(
        block_start(2, type="thinking", thinking=""),
        block_delta(2, "thinking", thinking="H"),
        block_delta(2, "thinking", thinking="m"),
        block_delta(2, "signature", signature="x"),
        block_stop(2),
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
        {"type": "thinking", "thinking": "Hm", "signature": "x"},
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

    with pytest.raises(ValueError, match="a delta came for block 1, which was not begun"):
        assemble_blocks(block_delta(1, "text", text="a"), MESSAGE_STOP)


def test_a_call_that_a_token_limit_cut_off_is_stored_and_sent_only_if_it_was_answered():
    dialect = AnthropicMessages()
    events = [
        MESSAGE_START,
        block_start(0, type="text", text="a"),
        block_stop(0),
        block_start(1, type="tool_use", id="1", name="f", input={}),
        block_delta(1, "input_json", partial_json='{"x": "lon'),
        block_stop(1),
        stop_reason("max_tokens"),
        MESSAGE_STOP,
    ]
    text = {"type": "text", "text": "a"}
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {"INVALID_JSON": '{"x": "lon'}}
    (item,) = assemble(dialect, events)
    assert item == {**assistant([text, call]), "stop_reason": "max_tokens"}

    history = [user("q"), item]
    question, result = user("?"), user([{"type": "tool_result", "tool_use_id": "1"}])
    assert dialect.with_history([question], history) == [user("q"), assistant([text]), question]
    assert dialect.with_history([result], history) == [
        *(user("q"), assistant([text, call]), result),
    ]


@pytest.mark.parametrize("text", ['{"x": "lon', '"text"', "[1]", "[" * 100_000, "\ud83d"])
def test_invalid_input_of_a_complete_call_is_kept_as_text(text):
    """Fine-grained tool streaming does not check the input."""
    half = len(text) // 2
    (block,) = assemble_blocks(
        block_start(0, type="tool_use", id="1", name="f", input={}),
        block_delta(0, "input_json", partial_json=text[:half]),
        block_delta(0, "input_json", partial_json=text[half:]),
        block_stop(0),
        stop_reason("tool_use"),
        MESSAGE_STOP,
    )
    assert block == {"type": "tool_use", "id": "1", "name": "f", "input": {"INVALID_JSON": text}}


def test_a_second_message_start_restarts_the_reply():
    """A proxy may retry within one stream."""
    begun = [
        block_start(0, type="text", text=""),
        block_delta(0, "text", text="a"),
        block_stop(0),
        block_start(1, type="tool_use", id="1", name="f", input={}),
        block_delta(1, "input_json", partial_json='{"x'),
    ]
    whole = [block_start(0, type="text", text="b"), block_stop(0), MESSAGE_STOP]
    error = {"type": "error", "error": {"type": "overloaded_error"}}

    assert assemble_blocks(*begun, MESSAGE_START, *whole) == [{"type": "text", "text": "b"}]
    assert assemble_blocks(*begun, error, MESSAGE_START, *whole) == [{"type": "text", "text": "b"}]
    assert assemble_blocks(MESSAGE_START, *whole) == [{"type": "text", "text": "b"}]
    assert assemble_blocks(*whole, MESSAGE_START, begun[0], begun[1], interrupted=True) == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": INTERRUPTED_REPLY},
    ]


def test_an_error_event_ends_the_reply_without_a_message():
    text = [block_start(0, type="text", text="secret"), block_stop(0)]
    error = {"type": "error", "error": {"type": "api_error", "message": "secret"}}
    for events in ([*text, error], [*text, error, MESSAGE_STOP]):
        with pytest.raises(ValueError, match="reported the reply as failed") as caught:
            assemble_blocks(*events)
        assert "secret" not in str(caught.value)
        assert len(assemble_blocks(*events, interrupted=True)) == 2


def test_blocks_of_the_message_start_are_kept():
    """Anthropic sends the call of a running program so."""
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}
    start = {"type": "message_start", "message": {"role": "assistant", "content": [call]}}
    text = [block_start(0, type="text", text="a"), block_stop(0)]

    assert assemble_blocks(start, MESSAGE_STOP) == [call]
    assert assemble_blocks(start, *text, MESSAGE_STOP) == [call, {"type": "text", "text": "a"}]
    assert assemble_blocks(start, interrupted=True)[-1] == call


def test_a_surrogate_pair_split_over_two_deltas_is_one_character():
    start, first, second = (
        block_start(0, type="text", text=""),
        block_delta(0, "text", text="a\ud83d"),
        block_delta(0, "text", text="\ude00b"),
    )
    call = [
        block_start(1, type="tool_use", id="1", name="f", input={}),
        block_delta(1, "input_json", partial_json='{"x":"\ud83d'),
        block_delta(1, "input_json", partial_json='\ude00"}'),
        block_stop(1),
    ]
    text, used = assemble_blocks(start, first, second, block_stop(0), *call, MESSAGE_STOP)
    assert (text["text"], used["input"]) == ("a\U0001f600b", {"x": "\U0001f600"})
    assert assemble_blocks(start, first, interrupted=True)[0]["text"] == "a"


def test_text_for_a_block_of_another_type_is_refused():
    with pytest.raises(ValueError, match="'tool_use' came with a 'text_delta'"):
        assemble_blocks(
            block_start(0, type="tool_use", id="1"), block_delta(0, "text", text="a"), MESSAGE_STOP
        )


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
