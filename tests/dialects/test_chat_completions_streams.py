"""Assembly of the chunks of chat completions, whole and interrupted."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.messages import INTERRUPTED_REPLY
from helpers.stream_chunks import assemble, assemble_chat, call_delta, chat_chunk
from tower_memory.dialects import ChatCompletions


def test_fields_that_servers_repeat_in_each_chunk_are_taken_once():
    chunks = [
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "role": "assistant",
                        "tool_calls": [
                            {
                                "index": 0,
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "f", "arguments": piece},
                            }
                        ],
                    },
                }
            ]
        }
        for piece in ("{", "}")
    ]
    assert assemble_chat(*chunks) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


def test_calls_in_mixed_pieces_are_assembled():
    message = assemble_chat(
        chat_chunk(
            tool_calls=[call_delta(1, "", id="b", type="function"), call_delta(0, "[", id="a")]
        ),
        chat_chunk(tool_calls=[{"index": 0, "id": "", "function": {"name": "get_"}}]),
        chat_chunk(
            tool_calls=[{"index": 0, "id": None, "function": {"name": "it"}}, call_delta(1, "{}")]
        ),
        chat_chunk(tool_calls=[call_delta(0, "1]")]),
    )
    one, two = message["tool_calls"]

    assert one == {"id": "b", "type": "function", "function": {"arguments": "{}"}}
    assert two == {"id": "a", "function": {"arguments": "[1]", "name": "get_it"}}


def test_the_fields_of_a_vendor_are_assembled_too():
    message = assemble_chat(
        chat_chunk(
            content=[{"type": "text", "text": "a"}],
            reasoning_details=[{"index": 0, "text": "H", "type": "x"}],
            score=1,
            usage={"n": 1},
            note=None,
        ),
        chat_chunk(
            content=[{"type": "text", "text": "b"}],
            reasoning_details=[{"index": 0, "text": "m", "type": "x"}, "odd"],
            score=2,
            usage={"n": 2, "m": 3},
            note="n",
        ),
        chat_chunk(reasoning_details=["odd"]),
    )
    assert message == {
        "role": "assistant",
        "content": [{"type": "text", "text": "ab"}],
        "reasoning_details": [{"index": 0, "text": "Hm", "type": "x"}, "odd", "odd"],
        "score": 2,
        "usage": {"n": 2, "m": 3},
        "note": "n",
    }


def test_choices_other_than_the_first_are_ignored():
    other = {"choices": [{"index": 1, "delta": {"content": "other"}}, {"delta": {"content": "a"}}]}
    assert assemble_chat(other, {"choices": [{"index": 0, "delta": None}]})["content"] == "a"


def test_the_clients_own_events_and_ollamas_chunks_are_understood():
    inside = SimpleNamespace(**chat_chunk(content="a"))
    events = [{"type": "chunk", "chunk": inside}, {"type": "content.delta", "delta": "a"}]

    assert assemble_chat(*events)["content"] == "a"

    called = [{"function": {"name": "f", "arguments": {"x": 1}}}]
    message = assemble_chat(
        {"message": {"role": "assistant", "content": "a", "thinking": "H"}, "done": False},
        {"message": {"role": "assistant", "content": "b", "tool_calls": called}, "done": True},
    )

    assert message == {
        "role": "assistant",
        "content": "ab",
        "thinking": "H",
        "tool_calls": called,
    }


def test_an_interrupted_message_keeps_only_the_parts_that_a_provider_accepts():
    begun = [
        chat_chunk(content="a", reasoning_content="H", audio={"id": "x", "data": "y"}),
        chat_chunk(function_call={"name": "f", "arguments": "{"}),
        chat_chunk(
            tool_calls=[
                call_delta(0, '{"x": 1}', id="1"),
                call_delta(1, '{"x": ', id="2"),
                call_delta(2, "{}", id="3"),
                {"index": 3, "id": "4", "type": "custom", "custom": {"name": "g", "input": "a"}},
            ]
        ),
        chat_chunk(tool_calls=[{"index": n, "function": {"name": "f"}} for n in (0, 1)]),
    ]
    assert assemble_chat(*begun, interrupted=True) == {
        "role": "assistant",
        "content": f"a\n\n{INTERRUPTED_REPLY}",
        "reasoning_content": "H",
        "tool_calls": [{"id": "1", "function": {"arguments": '{"x": 1}', "name": "f"}}],
    }

    half = chat_chunk(tool_calls=[call_delta(0, '{"x"', id="1", type="function")], refusal=None)
    assert assemble(ChatCompletions(), [half], interrupted=True) == []
    assert assemble(ChatCompletions(), [{"choices": []}], interrupted=True) == []

    parts = assemble_chat(chat_chunk(content=[{"type": "text", "text": "a"}]), interrupted=True)[
        "content"
    ]
    assert parts == [{"type": "text", "text": "a"}, {"type": "text", "text": INTERRUPTED_REPLY}]

    deep = chat_chunk(
        tool_calls=[{**call_delta(0, "[" * 10**5, id="1"), "function": {"name": "f"}}]
    )
    assert "tool_calls" in assemble_chat(deep, interrupted=True)


def test_a_message_that_was_finished_before_it_was_closed_is_whole():
    ends = [chat_chunk("stop"), {"type": "chunk", "chunk": chat_chunk("stop")}, {"done": True}]
    for end in ends:
        assert assemble_chat(chat_chunk(content="a"), end, interrupted=True)["content"] == "a"


def test_a_message_that_ends_in_the_middle_of_a_call_is_refused():
    half = chat_chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{"}}])
    with pytest.raises(ValueError, match="in the middle of a tool call, without a finish_reason"):
        assemble_chat(half)
    # The provider says that it is complete.
    assert assemble_chat(half, chat_chunk("length"))["tool_calls"]


def test_a_thought_in_pieces_is_joined():
    """As litellm, OpenRouter and Mistral stream it."""
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "thinking", "thinking": "m.", "signature": ""},
        {"type": "thinking", "thinking": "", "signature": "x"},
        {"type": "thinking", "thinking": "And", "signature": ""},
    ]
    message = assemble_chat(*(chat_chunk(thinking_blocks=[block]) for block in blocks))

    assert message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "Hmm.", "signature": "x"},
        {"type": "thinking", "thinking": "And", "signature": ""},
    ]

    chunks = [chat_chunk(thinking_blocks=[block]) for block in blocks]
    cut = assemble_chat(*chunks, chat_chunk(content="a"), interrupted=True)

    assert [block["signature"] for block in cut["thinking_blocks"]] == ["x"]

    details = [
        {"type": "reasoning.text", "text": "H", "format": "claude-v1", "index": 0},
        {"type": "reasoning.text", "text": "m", "format": "claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "x", "format": "claude-v1", "index": 0},
    ]
    message = assemble_chat(*(chat_chunk(reasoning_details=[detail]) for detail in details))

    assert message["reasoning_details"] == [{**details[0], "text": "Hm"}, details[2]]

    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in "ab"]
    pieces = ["", thought[:1], thought[1:], "Hel", "lo"]

    assert assemble_chat(*(chat_chunk(content=piece) for piece in pieces))["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "ab"}]},
        {"type": "text", "text": "Hello"},
    ]
    assert assemble_chat(chat_chunk(content="a"), chat_chunk(content=thought[:1]))["content"] == [
        {"type": "text", "text": "a"},
        thought[0],
    ]


def test_calls_of_one_index_and_different_ids_are_different_calls():
    message = assemble_chat(
        chat_chunk(tool_calls=[call_delta(0, "{}", id="1")]),
        chat_chunk(tool_calls=[call_delta(0, "[]", id="2")]),
    )
    assert [each["id"] for each in message["tool_calls"]] == ["1", "2"]


@given(st.text(min_size=1), st.data())
def test_text_in_any_pieces_is_joined(text, data):
    places = st.lists(st.integers(0, len(text)), max_size=5).map(sorted)
    cuts = [0, *data.draw(places), len(text)]
    pieces = [text[start:end] for start, end in pairwise(cuts)]
    assert assemble_chat(*(chat_chunk(content=piece) for piece in pieces))["content"] == text
