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


def piece(arguments, name=None, **fields):
    """Return a piece of a tool call."""
    function = {"arguments": arguments} if name is None else {"arguments": arguments, "name": name}
    return {**fields, "function": function}


def calls_of(*pieces, per_chunk=1):
    """Return the (id, name, arguments) of the calls that *pieces* make, some in each chunk."""
    starts = range(0, len(pieces), per_chunk)
    chunks = [chat_chunk(tool_calls=list(pieces[start : start + per_chunk])) for start in starts]
    return [
        (call.get("id"), call["function"].get("name"), call["function"]["arguments"])
        for call in assemble_chat(*chunks, chat_chunk("tool_calls"))["tool_calls"]
    ]


@pytest.mark.parametrize("per_chunk", [1, 2, 9])
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(
            [piece('{"x":', "f", id="a"), piece("1}"), piece('{"y":', "g", id="b"), piece("2}")],
            id="no index",
        ),
        pytest.param(
            [
                piece('{"x":', "f", id="a"),
                piece("1}", "f", id="a"),
                piece('{"y":', "g", id="b"),
                piece("2}", id="b"),
            ],
            id="no index, and ids repeated",
        ),
        pytest.param(
            [
                piece('{"x":', "f", id="a"),
                piece("1}", "f"),
                piece('{"y":', "g", id="b"),
                piece("2}", "g"),
            ],
            id="no index, and names repeated",
        ),
        pytest.param(
            [
                piece('{"x":', "f", index=0, id="a"),
                piece('{"y":', "g", index=1, id="b"),
                piece("1}", id="a"),
                piece("2}", id="b"),
            ],
            id="the index only at first, and interleaved",
        ),
        pytest.param(
            [
                piece("", "f", index=0, id="a"),
                piece('{"x":1}', index=0, id=""),
                piece("", "g", index=0, id="b"),
                piece('{"y":2}', index=0, id=""),
            ],
            id="one index for all calls",
        ),
        pytest.param(
            [
                piece('{"x":1}', "f", index=0, id="a"),
                piece("", "g", index=0, id="b"),
                piece('{"y":2}', index=1),
            ],
            id="a wrong index at first",
        ),
        pytest.param(
            [
                piece('{"x":', "f", index=0, id="a"),
                piece("1}", "f", index=0, id="c"),
                piece('{"y":', "g", index=1, id="b"),
                piece("2}", index=1, id="d"),
            ],
            id="an id for each chunk",
        ),
    ],
)
def test_pieces_of_a_call_are_joined_by_identity(pieces, per_chunk):
    assert calls_of(*pieces, per_chunk=per_chunk) == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


@pytest.mark.parametrize(
    "fields", [{}, {"index": 0}, {"index": 0, "id": ""}, {"id": "f"}, {"index": 0, "id": "f"}]
)
@pytest.mark.parametrize("arguments", ['{"x":1}', {"x": 1}])
def test_a_named_piece_after_complete_arguments_is_another_call(fields, arguments):
    pieces = [piece(arguments, "f", **fields), piece(arguments, "f", **fields)]
    assert [call[1:] for call in calls_of(*pieces)] == [("f", arguments)] * 2


def test_calls_that_share_an_id_are_told_apart_by_their_index():
    pieces = [piece("", "f", index=0, id="a"), piece("", "f", index=1, id="a")]
    assert len(calls_of(*pieces, piece("{}", index=0), piece("[]", index=1))) == 2
    assert calls_of(*pieces, piece("{}", index=0))[0] == ("a", "f", "{}")


def test_a_piece_without_name_of_an_unknown_id_is_a_call_of_its_own():
    assert calls_of(piece("{}", "f", id="a"), piece("[]", id="b"))[1] == ("b", None, "[]")
    assert calls_of(piece("{}"), piece("[]", "f"))[1] == (None, "f", "[]")


def test_a_custom_call_in_pieces_is_joined():
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "g", "input": "x"}}
    second = {"index": 0, "custom": {"input": "y"}}
    function = piece("{}", "f", index=0, type="function")
    message = assemble_chat(chat_chunk(tool_calls=[first, second, function]), chat_chunk("stop"))

    assert message["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "g", "input": "xy"}},
        {"type": "function", "function": {"name": "f", "arguments": "{}"}},
    ]


def test_parts_of_other_lists_are_joined_by_id_if_they_have_no_index():
    details = [{"type": "reasoning.text", "id": each, "text": each} for each in "abab"]
    message = assemble_chat(*(chat_chunk(reasoning_details=[detail]) for detail in details))
    assert [each["text"] for each in message["reasoning_details"]] == ["aa", "bb"]


def test_fields_of_the_chunk_are_not_stored():
    delta = {"id": "chunk", "index": 3, "logprobs": [1], "content": "a", "tool_calls": ["odd"]}
    message = assemble_chat(chat_chunk(**delta), chat_chunk("stop", id="other"))
    assert message == {"role": "assistant", "content": "a", "tool_calls": ["odd"]}


def test_a_surrogate_pair_split_over_two_chunks_is_one_character():
    message = assemble_chat(
        chat_chunk(content="a\ud83d", reasoning="\ud83d"),
        chat_chunk(content="\ude00b", reasoning="\ude00"),
        chat_chunk(tool_calls=[piece('{"x":"\ud83d', "f", id="a")]),
        chat_chunk(tool_calls=[piece('\ude00"}')]),
    )
    assert (message["content"], message["reasoning"]) == ("a\U0001f600b", "\U0001f600")
    assert message["tool_calls"][0]["function"]["arguments"] == '{"x":"\U0001f600"}'

    half = chat_chunk(content="a\ud83d", reasoning=[{"type": "text", "text": "b\ud83d", "n": 1}])
    cut = assemble_chat(half, interrupted=True)
    assert cut["content"] == f"a\n\n{INTERRUPTED_REPLY}"
    assert cut["reasoning"] == [{"type": "text", "text": "b", "n": 1}]


@pytest.mark.parametrize(
    "end",
    [
        chat_chunk("error"),
        {"choices": [], "error": {"code": 502, "message": "secret"}},
        {"choices": [{"index": 0, "delta": {}, "error": {"code": 502}}]},
        {"error": "secret"},
        SimpleNamespace(error={"message": "secret"}),
    ],
)
def test_a_reply_that_its_provider_reports_as_failed_is_refused(end):
    with pytest.raises(ValueError, match="reported the reply as failed") as caught:
        assemble_chat(chat_chunk(content="secret"), end)
    assert "secret" not in str(caught.value)

    cut = assemble_chat(chat_chunk(content="a"), end, interrupted=True)
    assert cut["content"] == f"a\n\n{INTERRUPTED_REPLY}"


def test_a_stream_without_a_finish_reason_is_whole_unless_a_call_is_cut_off():
    whole = [chat_chunk(content="a"), {**chat_chunk(content="b"), "error": None}]
    assert assemble_chat(*whole)["content"] == "ab"


@pytest.mark.parametrize("reason", ["", None, 0, {}])
def test_only_a_text_that_is_not_empty_is_a_finish_reason(reason):
    cut = assemble_chat(chat_chunk(content="a"), chat_chunk(reason), interrupted=True)
    assert cut["content"] == f"a\n\n{INTERRUPTED_REPLY}"


def choice(index, text, finish_reason=None):
    return {"index": index, "delta": {"content": text}, "finish_reason": finish_reason}


@pytest.mark.parametrize("indexes", [(0, 1, 2, 3), (1, 2, 3, 4), (0, 1, 2, 0), (7, 7, 7, 7)])
def test_a_server_that_counts_chunks_in_the_index_of_the_choice_is_understood(indexes):
    ends = (None, None, None, "stop")
    choices = map(choice, indexes, "abcd", ends)
    message = assemble_chat(*({"choices": [each]} for each in choices), {"choices": []})
    assert message["content"] == "abcd"


def test_of_several_choices_the_first_counts():
    """OpenAI sends each choice in chunks of its own; other servers send them together."""
    choices = [choice(1, "x"), choice(0, "a"), choice(1, "y", "stop"), choice(0, "b", "stop")]
    assert assemble_chat(*({"choices": [each]} for each in choices))["content"] == "ab"
    assert assemble_chat({"choices": choices[:2]}, {"choices": choices[2:]})["content"] == "ab"
    assert assemble_chat({"choices": choices[2:]})["content"] == "b"
    assert assemble_chat(*({"choices": [each]} for each in choices[2:]))["content"] == "b"

    cut = assemble_chat(*({"choices": [each]} for each in choices[:3]), interrupted=True)
    assert cut["content"] == f"a\n\n{INTERRUPTED_REPLY}"


@given(st.text(min_size=1), st.data())
def test_text_in_any_pieces_is_joined(text, data):
    places = st.lists(st.integers(0, len(text)), max_size=5).map(sorted)
    cuts = [0, *data.draw(places), len(text)]
    pieces = [text[start:end] for start, end in pairwise(cuts)]
    assert assemble_chat(*(chat_chunk(content=piece) for piece in pieces))["content"] == text


def test_a_piece_with_a_new_id_continues_the_call_of_its_index_that_has_no_arguments_yet():
    """A server may make a new id for each chunk, also for the second (vllm-project/vllm#23522)."""
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "id": "b", "function": {"arguments": '{"x":'}},
        {"index": 0, "id": "c", "function": {"arguments": "1}"}},
    ]
    chunks = [chat_chunk(tool_calls=[piece]) for piece in pieces]
    message = assemble_chat(*chunks, chat_chunk("tool_calls"))
    assert message["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
    ]
