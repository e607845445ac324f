"""What streams add up to: the chunks of each dialect, whole and interrupted."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai import messages as pydantic_ai

from tower_memory.dialects import (
    AnthropicMessages,
    ChatCompletions,
    OpenAIResponses,
    PydanticAI,
    Streamed,
)

INTERRUPTED = "(interrupted: this reply is not complete)"


def reply(dialect, chunks, *, interrupted=False, stream=None):
    return dialect.reply_items(
        [{"role": "user", "content": "a"}], Streamed(chunks, interrupted, stream)
    )


@pytest.mark.parametrize("dialect", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
def test_text_is_text_in_every_dialect(dialect):
    assert reply(dialect, ["He", "llo"]) == [{"role": "assistant", "content": "Hello"}]
    cut = [{"role": "assistant", "content": f"He\n\n{INTERRUPTED}"}]
    assert reply(dialect, ["He"], interrupted=True) == cut


@pytest.mark.parametrize("dialect", [ChatCompletions(), AnthropicMessages(), OpenAIResponses()])
@pytest.mark.parametrize(
    ("chunks", "found"), [([], "nothing"), ([1, {}], "dict, int"), ([object()], "object")]
)
def test_chunks_of_an_unknown_kind_are_refused_with_what_came(dialect, chunks, found):
    with pytest.raises(TypeError, match=f"a stream must give .* or text, got {found}"):
        reply(dialect, chunks)


def test_a_client_of_another_dialect_is_told_by_what_it_gives():
    """Whoever forgets to say which dialect is told so, and stores nothing of another."""
    chat, message = ChatCompletions(), {"role": "assistant", "content": [], "stop_reason": "x"}
    with pytest.raises(TypeError, match=r"or text, got dict; .*AnthropicMessages\(\)"):
        reply(chat, [START, STOP])
    with pytest.raises(TypeError, match=r"got dict with role, .*AnthropicMessages\(\)"):
        chat.reply_items([{"role": "user", "content": "a"}], message)


def test_among_known_chunks_unknown_ones_say_nothing():
    assert chat(1, {"type": "future"}, delta(content="a"), object())["content"] == "a"
    known = [begin(0, type="text", text="a"), {"type": "future"}, end(0), object(), STOP]
    assert blocks(*known) == [{"type": "text", "text": "a"}]
    assert items(object(), {"type": "response.future"}, last("completed", [SPOKEN])) == [SPOKEN]


# Chat completions


def delta(finish_reason=None, **fields):
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def call(index, arguments, **fields):
    return {"index": index, **fields, "function": {"arguments": arguments}}


def chat(*chunks, interrupted=False):
    (message,) = reply(ChatCompletions(), chunks, interrupted=interrupted)
    return message


def test_what_some_servers_repeat_in_each_chunk_is_said_once():
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
    assert chat(*chunks) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }


def test_calls_whose_pieces_are_mixed_and_named_in_pieces_are_put_together():
    message = chat(
        delta(tool_calls=[call(1, "", id="b", type="function"), call(0, "[", id="a")]),
        delta(tool_calls=[{"index": 0, "id": "", "function": {"name": "get_"}}]),
        delta(tool_calls=[{"index": 0, "id": None, "function": {"name": "it"}}, call(1, "{}")]),
        delta(tool_calls=[call(0, "1]")]),
    )
    one, two = message["tool_calls"]
    assert one == {"id": "b", "type": "function", "function": {"arguments": "{}"}}
    assert two == {"id": "a", "function": {"arguments": "[1]", "name": "get_it"}}


def test_a_vendors_fields_are_put_together_too():
    message = chat(
        delta(
            content=[{"type": "text", "text": "a"}],
            reasoning_details=[{"index": 0, "text": "H", "type": "x"}],
            score=1,
            usage={"n": 1},
            note=None,
        ),
        delta(
            content=[{"type": "text", "text": "b"}],
            reasoning_details=[{"index": 0, "text": "m", "type": "x"}, "odd"],
            score=2,
            usage={"n": 2, "m": 3},
            note="n",
        ),
        delta(reasoning_details=["odd"]),
    )
    assert message == {
        "role": "assistant",
        "content": [{"type": "text", "text": "ab"}],
        "reasoning_details": [{"index": 0, "text": "Hm", "type": "x"}, "odd", "odd"],
        "score": 2,
        "usage": {"n": 2, "m": 3},
        "note": "n",
    }


def test_other_choices_than_the_first_are_not_said():
    other = {"choices": [{"index": 1, "delta": {"content": "other"}}, {"delta": {"content": "a"}}]}
    assert chat(other, {"choices": [{"index": 0, "delta": None}]})["content"] == "a"


def test_the_clients_own_events_and_ollamas_chunks_are_understood():
    inside = SimpleNamespace(**delta(content="a"))
    events = [{"type": "chunk", "chunk": inside}, {"type": "content.delta", "delta": "a"}]
    assert chat(*events)["content"] == "a"
    called = [{"function": {"name": "f", "arguments": {"x": 1}}}]
    message = chat(
        {"message": {"role": "assistant", "content": "a", "thinking": "H"}, "done": False},
        {"message": {"role": "assistant", "content": "b", "tool_calls": called}, "done": True},
    )
    assert message == {
        "role": "assistant",
        "content": "ab",
        "thinking": "H",
        "tool_calls": called,
    }


def test_of_an_interrupted_message_only_what_a_provider_takes_back_is_kept():
    begun = [
        delta(content="a", reasoning_content="H", audio={"id": "x", "data": "y"}),
        delta(function_call={"name": "f", "arguments": "{"}),
        delta(
            tool_calls=[
                call(0, '{"x": 1}', id="1"),
                call(1, '{"x": ', id="2"),
                call(2, "{}", id="3"),
                {"index": 3, "id": "4", "type": "custom", "custom": {"name": "g", "input": "a"}},
            ]
        ),
        delta(tool_calls=[{"index": n, "function": {"name": "f"}} for n in (0, 1)]),
    ]
    assert chat(*begun, interrupted=True) == {
        "role": "assistant",
        "content": f"a\n\n{INTERRUPTED}",
        "reasoning_content": "H",
        "tool_calls": [{"id": "1", "function": {"arguments": '{"x": 1}', "name": "f"}}],
    }
    half = delta(tool_calls=[call(0, '{"x"', id="1", type="function")], refusal=None)
    assert reply(ChatCompletions(), [half], interrupted=True) == []
    assert reply(ChatCompletions(), [{"choices": []}], interrupted=True) == []
    parts = chat(delta(content=[{"type": "text", "text": "a"}]), interrupted=True)["content"]
    assert parts == [{"type": "text", "text": "a"}, {"type": "text", "text": INTERRUPTED}]
    deep = delta(tool_calls=[{**call(0, "[" * 10**5, id="1"), "function": {"name": "f"}}])
    assert "tool_calls" in chat(deep, interrupted=True)


def test_a_message_that_was_finished_before_it_was_closed_is_whole():
    ends = [delta("stop"), {"type": "chunk", "chunk": delta("stop")}, {"done": True}]
    for end in ends:
        assert chat(delta(content="a"), end, interrupted=True)["content"] == "a"


def test_a_message_that_ends_in_the_middle_of_a_call_is_refused():
    half = delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{"}}])
    with pytest.raises(ValueError, match="in the middle of a tool call, without a finish_reason"):
        chat(half)
    assert chat(half, delta("length"))["tool_calls"]  # the provider's word


def test_what_one_thought_in_pieces_is_one_thought():
    """As litellm, OpenRouter and Mistral stream it."""
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "thinking", "thinking": "m.", "signature": ""},
        {"type": "thinking", "thinking": "", "signature": "x"},
        {"type": "thinking", "thinking": "And", "signature": ""},
    ]
    message = chat(*(delta(thinking_blocks=[block]) for block in blocks))
    assert message["thinking_blocks"] == [
        {"type": "thinking", "thinking": "Hmm.", "signature": "x"},
        {"type": "thinking", "thinking": "And", "signature": ""},
    ]
    chunks = [delta(thinking_blocks=[block]) for block in blocks]
    cut = chat(*chunks, delta(content="a"), interrupted=True)
    assert [block["signature"] for block in cut["thinking_blocks"]] == ["x"]

    details = [
        {"type": "reasoning.text", "text": "H", "format": "claude-v1", "index": 0},
        {"type": "reasoning.text", "text": "m", "format": "claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "x", "format": "claude-v1", "index": 0},
    ]
    message = chat(*(delta(reasoning_details=[detail]) for detail in details))
    assert message["reasoning_details"] == [{**details[0], "text": "Hm"}, details[2]]

    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in "ab"]
    pieces = ["", thought[:1], thought[1:], "Hel", "lo"]
    assert chat(*(delta(content=piece) for piece in pieces))["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "ab"}]},
        {"type": "text", "text": "Hello"},
    ]
    assert chat(delta(content="a"), delta(content=thought[:1]))["content"] == [
        {"type": "text", "text": "a"},
        thought[0],
    ]


def test_calls_of_one_index_and_different_ids_are_different_calls():
    message = chat(
        delta(tool_calls=[call(0, "{}", id="1")]), delta(tool_calls=[call(0, "[]", id="2")])
    )
    assert [each["id"] for each in message["tool_calls"]] == ["1", "2"]


@given(st.text(min_size=1), st.data())
def test_text_in_whatever_pieces_is_the_text(text, data):
    places = st.lists(st.integers(0, len(text)), max_size=5).map(sorted)
    cuts = [0, *data.draw(places), len(text)]
    pieces = [text[start:end] for start, end in pairwise(cuts)]
    assert chat(*(delta(content=piece) for piece in pieces))["content"] == text


# Anthropic


START = {"type": "message_start", "message": {"role": "assistant", "content": []}}
STOP = {"type": "message_stop"}


def begin(index, **block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index, kind, **fields):
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": f"{kind}_delta", **fields},
    }


def end(index):
    return {"type": "content_block_stop", "index": index}


def stopped(reason):
    return {"type": "message_delta", "delta": {"stop_reason": reason}}


def blocks(*events, interrupted=False):
    items = reply(AnthropicMessages(), [START, *events], interrupted=interrupted)
    return items[0]["content"] if items else None


def test_citations_and_compactions_are_put_together():
    assert blocks(
        begin(0, type="text", text="", citations=None),
        more(0, "citations", citation={"n": 1}),
        more(0, "citations", citation={"n": 2}),
        more(0, "text", text="a"),
        end(0),
        begin(1, type="compaction", content=None),
        more(1, "compaction", content="b", encrypted_content="c"),
        end(1),
        STOP,
    ) == [
        {"type": "text", "text": "a", "citations": [{"n": 1}, {"n": 2}]},
        {"type": "compaction", "content": "b", "encrypted_content": "c"},
    ]


def test_big_numbers_in_what_a_tool_is_given_survive():
    (block,) = blocks(
        begin(0, type="tool_use", id="1", name="f", input={}),
        more(0, "input_json", partial_json='{"n": 1234567890123456789012'),
        more(0, "input_json", partial_json="34567890}"),
        end(0),
        STOP,
    )
    assert block["input"] == {"n": 123456789012345678901234567890}


def test_what_cannot_be_put_together_is_refused():
    with pytest.raises(ValueError, match="'future' came with a 'future_delta', which is not known"):
        blocks(begin(0, type="future"), more(0, "future", x=1), end(0), STOP)
    with pytest.raises(ValueError, match="ended without message_stop"):
        blocks(begin(0, type="text", text="a"), end(0))
    with pytest.raises(ValueError, match="the input of the tool call '1' is no JSON"):
        blocks(
            begin(0, type="tool_use", id="1", input={}),
            more(0, "input_json", partial_json="{"),
            end(0),
            stopped("tool_use"),
            STOP,
        )
    with pytest.raises(ValueError, match="block 1 goes on that was not begun"):
        blocks(more(1, "text", text="a"), STOP)


def test_a_call_that_a_limit_cut_off_is_no_call():
    assert blocks(
        begin(0, type="text", text="a"),
        end(0),
        begin(1, type="tool_use", id="1", name="f", input={}),
        more(1, "input_json", partial_json='{"x": "lon'),
        end(1),
        stopped("max_tokens"),
        STOP,
    ) == [{"type": "text", "text": "a"}]


def test_a_message_without_content_is_not_kept():
    assert blocks(STOP) is None


def test_of_interrupted_blocks_only_what_a_provider_takes_back_is_kept():
    mark = {"type": "text", "text": INTERRUPTED}
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    assert blocks(
        begin(0, type="thinking", thinking="H", signature="x"),
        end(0),
        begin(1, type="text", text="a"),
        end(1),
        begin(2, **call),
        end(2),
        begin(3, type="tool_use", id="2", name="f", input={}),
        more(3, "input_json", partial_json='{"x"'),
        interrupted=True,
    ) == [
        {"type": "thinking", "thinking": "H", "signature": "x"},
        {"type": "text", "text": "a"},
        mark,
        call,
    ]
    assert blocks(begin(0, type="thinking", thinking="H"), interrupted=True) is None
    assert blocks(begin(0, type="text", text=""), interrupted=True) is None
    half = [begin(0, type="text", text=""), more(0, "text", text="a")]
    assert blocks(*half, interrupted=True) == [{"type": "text", "text": "a"}, mark]
    assert blocks(begin(0, **search), end(0), interrupted=True) is None
    half_found = [*half, begin(1, **search), end(1), begin(2, **found)]
    assert blocks(*half_found, interrupted=True) == [{"type": "text", "text": "a"}, mark]
    searched = [begin(0, **search), end(0), begin(1, **found), end(1)]
    assert blocks(*searched, interrupted=True) == [search, found, mark]
    assert blocks(*searched, STOP, interrupted=True) == [search, found]


# Responses


def done(index, **item):
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def text_delta(index, text):
    return {"type": "response.output_text.delta", "output_index": index, "delta": text}


def last(kind, output, status=None):
    response = {"output": output, "status": status or kind}
    return {"type": f"response.{kind}", "response": response}


def items(*events, interrupted=False):
    return reply(OpenAIResponses(), events, interrupted=interrupted)


THOUGHT = {"type": "reasoning", "id": "rs", "summary": []}
SPOKEN = {"type": "message", "id": "msg", "role": "assistant", "content": []}


def test_the_items_are_those_of_the_response_or_else_those_that_were_done():
    assert items(done(0, type="x"), last("completed", [THOUGHT, SPOKEN])) == [THOUGHT, SPOKEN]
    assert items(last("incomplete", [SPOKEN])) == [SPOKEN]
    late_first = [done(1, **SPOKEN), done(0, **THOUGHT)]
    assert items(*late_first, last("completed", [])) == [THOUGHT, SPOKEN]


def test_a_response_that_failed_or_did_not_come_is_refused():
    with pytest.raises(ValueError, match="must be completed or incomplete, got 'failed'"):
        items(done(0, **SPOKEN), last("failed", []))
    with pytest.raises(ValueError, match="ended without response.completed"):
        items(done(0, **SPOKEN))
    for status in ("failed", "cancelled", "queued", "in_progress"):
        with pytest.raises(ValueError, match=f"got '{status}'"):
            OpenAIResponses().reply_items("a", {"output": [SPOKEN], "status": status})


def test_of_an_interrupted_response_what_was_done_is_kept_and_the_text_that_was_not():
    mark = {"role": "assistant", "content": INTERRUPTED}
    cut = {"role": "assistant", "content": f"ab\n\n{INTERRUPTED}"}
    begun = [done(0, **THOUGHT), text_delta(1, "a"), text_delta(1, "b")]
    assert items(*begun, interrupted=True) == [cut]  # without the reasoning that it came of
    assert items(*begun, done(1, **SPOKEN), interrupted=True) == [THOUGHT, SPOKEN, mark]
    assert items({"type": "response.created"}, interrupted=True) == []
    finished = [*begun, last("completed", [THOUGHT, SPOKEN])]
    assert items(*finished, interrupted=True) == [THOUGHT, SPOKEN]


# pydantic-ai


def test_pydantic_ais_streams_are_read_by_what_they_say_they_are():
    parts = [
        pydantic_ai.TextPart("a"),
        pydantic_ai.ToolCallPart("f", '{"x": 1}', "1"),
        pydantic_ai.ToolCallPart("f", '{"x', "2"),
        pydantic_ai.ToolCallPart("f", {"x": 1}, "3"),
    ]
    now = datetime.now(UTC)

    def streamed(state, *, interrupted):
        response = pydantic_ai.ModelResponse(parts, state=state, timestamp=now)
        stream = SimpleNamespace(get=lambda: response)
        request = [pydantic_ai.ModelRequest.user_text_prompt("a")]
        return PydanticAI().reply_items(request, Streamed((), interrupted, stream))[0]

    whole = streamed("complete", interrupted=False)
    assert len(whole["parts"]) == 4
    assert streamed("suspended", interrupted=False) == {**whole, "state": "suspended"}
    assert streamed("complete", interrupted=True) == whole
    cut = streamed("incomplete", interrupted=True)
    assert cut["state"] == "interrupted"
    assert [part.get("tool_call_id") for part in cut["parts"]] == [None, "1", "3", None]
    assert cut["parts"][-1]["content"] == INTERRUPTED
    (again,) = pydantic_ai.ModelMessagesTypeAdapter.validate_python([cut])
    assert again.parts[:2] == parts[:2]
    with pytest.raises(ValueError, match="before its response was complete .*'incomplete'"):
        streamed("incomplete", interrupted=False)


def test_other_streams_than_pydantic_ais_are_refused():
    request = [pydantic_ai.ModelRequest.user_text_prompt("a")]
    with pytest.raises(TypeError, match="must be pydantic-ai's StreamedResponse, got int"):
        PydanticAI().reply_items(request, Streamed(("a",), stream=3))
