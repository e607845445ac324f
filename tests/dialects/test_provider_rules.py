"""Provider rules: what is stored stays as it was said, and what is sent is what the provider accepts.

Each case is a stored item and the item that is sent in its place; None if the item is left out.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import pytest

from helpers.messages import THOUGHT, assistant, calling, result, user
from tower_memory import History, Message
from tower_memory.dialects import (
    AnthropicMessages,
    ChatCompletions,
    GeminiContents,
    OpenAIResponses,
    PydanticAI,
    Streamed,
)
from tower_memory.dialects.toolkit import EMPTY_MESSAGE, INTERRUPTED_REPLY, UNNAMED_TOOL


@dataclass
class Said:
    """A message object."""

    role: str
    content: Any


QUOTED = '{"INVALID_JSON":"{\\"at\\": \\"Ro"}'
HALF = '{"at": "Ro'


def sent(dialect, stored, new, field="messages", **fields):
    """Return the messages that are sent in front of *new*; fail if *stored* is changed."""
    before = copy.deepcopy(stored)
    request = dialect.with_history({field: new, **fields}, stored)
    assert stored == before
    return request[field][: -len(new)] if new else request[field]


# Chat completions


def call(arguments="{}", name="f", **fields):
    return {
        "id": "1",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **fields,
    }


def with_calls(*calls, content=None):
    return {**assistant(content), "tool_calls": list(calls)}


def text_part(text):
    return {"type": "text", "text": text}


CHAT = {
    "no content key": ({"role": "assistant"}, assistant(EMPTY_MESSAGE)),
    "null": (assistant(None), assistant(EMPTY_MESSAGE)),
    "empty text": (assistant(""), assistant(EMPTY_MESSAGE)),
    "white space": (assistant(" \n"), assistant(EMPTY_MESSAGE)),
    "no parts": (assistant([]), assistant(EMPTY_MESSAGE)),
    "blank parts": (
        assistant([text_part(""), text_part("a"), text_part(" ")]),
        assistant([text_part("a")]),
    ),
    "a refusal": (
        {**assistant(None), "refusal": "No."},
        {**assistant("No."), "refusal": None},
    ),
    "zero values": (
        {
            **assistant("a"),
            "function_call": {"name": "", "arguments": ""},
            "audio": {"id": ""},
            "refusal": "",
            "tool_calls": [],
            "annotations": [],
            "name": "",
        },
        assistant("a"),
    ),
    "null is no zero value of refusal": (
        {**assistant("a"), "refusal": None, "tool_calls": None},
        {**assistant("a"), "refusal": None},
    ),
    "half a call": (with_calls(call(HALF)), assistant(EMPTY_MESSAGE)),
    "half a call after text": (with_calls(call(HALF), content="Hm."), assistant("Hm.")),
    "a call without a name": (with_calls(call(name="")), assistant(EMPTY_MESSAGE)),
    "no call at all": (with_calls("odd", {}), assistant(EMPTY_MESSAGE)),
    "a custom call without a name": (
        with_calls({"id": "1", "type": "custom", "custom": {"name": "", "input": "a"}}),
        assistant(EMPTY_MESSAGE),
    ),
    "a deprecated function call": (
        {**assistant(None), "function_call": {"name": "f", "arguments": HALF}},
        {**assistant(None), "function_call": {"name": "f", "arguments": QUOTED}},
    ),
    "a call beside empty text": (assistant(""), assistant(EMPTY_MESSAGE)),
    "pictures of Ollama": (
        {**assistant(""), "images": ["x"]},
        {**assistant(""), "images": ["x"]},
    ),
    "a run item": (
        {"type": "Message", "id": "1", "role": "assistant", "content": "a", "created_at": "x"},
        assistant("a"),
    ),
    "a message object": (Message("assistant", "a"), assistant("a")),
    "an unknown field": (
        {**assistant("a"), "reasoning_content": ""},
        {**assistant("a"), "reasoning_content": ""},
    ),
}


@pytest.mark.parametrize(("stored", "expected"), CHAT.values(), ids=CHAT)
def test_a_stored_chat_message_is_sent_as_the_provider_accepts_it(stored, expected):
    """Whatever was stored, the provider gets a message that it accepts."""
    assert sent(ChatCompletions(), [user("a"), stored], [user("b")]) == [user("a"), expected]


ANSWERED_CALLS = {
    "half arguments": (call(HALF), call(QUOTED)),
    "no JSON object": (call("[1]"), call('{"INVALID_JSON":"[1]"}')),
    "no arguments": (call(""), call("{}")),
    "none": (call(None), call("{}")),
    "null": (call("null"), call("{}")),
    "a number": (call(4), call('{"INVALID_JSON":4}')),
    "no name": (call(name=""), call(name=UNNAMED_TOOL)),
    "no type": ({"id": "1", "function": {"name": "f", "arguments": "{}"}}, call()),
    "no function": ({"id": "1"}, call(name=UNNAMED_TOOL)),
    "arguments as a mapping": (call({"at": "x"}, index=0), call({"at": "x"}, index=0)),
    "a custom call": (
        {"id": "1", "custom": {"name": "", "input": None}},
        {"type": "custom", "id": "1", "custom": {"name": UNNAMED_TOOL, "input": ""}},
    ),
    "a custom call with text": (
        {"id": "1", "custom": {"name": "f", "input": "a"}},
        {"type": "custom", "id": "1", "custom": {"name": "f", "input": "a"}},
    ),
}


@pytest.mark.parametrize(("stored", "expected"), ANSWERED_CALLS.values(), ids=ANSWERED_CALLS)
@pytest.mark.parametrize("content", [None, ""])
def test_an_answered_chat_call_is_mended_and_sent_with_its_result(stored, expected, content):
    """The model sees its broken call together with the result that a tool loop gave it."""
    history = [user("a"), with_calls(stored, content=content)]
    messages = ChatCompletions().with_history([result("1")], history)
    assert messages == [user("a"), with_calls(expected), result("1")]


def test_a_call_that_no_result_answers_is_left_out_beside_one_that_is_answered():
    """A partial call leaves the other calls of its message alone."""
    half = {**call(HALF), "id": "2"}
    history = [user("a"), with_calls(call(), half), result("1"), assistant("b")]
    assert sent(ChatCompletions(), history, [user("c")]) == [
        *(user("a"), with_calls(call()), result("1"), assistant("b")),
    ]


@pytest.mark.parametrize(
    ("seconds", "transcript", "expected"),
    [
        (1000, "Hi", {**assistant(None), "audio": {"id": "x"}}),
        (-1000, "Hi", assistant("Hi")),
        (10, "Hi", assistant("Hi")),
        (-1000, "", assistant(EMPTY_MESSAGE)),
    ],
    ids=["valid", "expired", "about to expire", "without a transcript"],
)
def test_expired_audio_is_replaced_by_its_transcript(seconds, transcript, expected):
    """An id is sent only as long as the provider keeps the audio."""
    audio = {"id": "x", "expires_at": time.time() + seconds, "transcript": transcript}
    stored = {**assistant(None), "audio": audio}
    assert sent(ChatCompletions(), [user("a"), stored], [user("b")]) == [user("a"), expected]


def test_text_beside_expired_audio_stays():
    """The transcript replaces no other content."""
    stored = {**assistant("said"), "audio": {"id": "x", "expires_at": 0, "transcript": "Hi"}}
    assert sent(ChatCompletions(), [user("a"), stored], [user("b")])[1] == assistant("said")


@pytest.mark.parametrize("later", [[], [assistant("done")]], ids=["a question", "a reply"])
def test_a_reply_is_added_between_an_interrupted_call_and_a_question(later):
    """Mistral refuses a user's message after a tool result, so a reply says what happened."""
    messages = sent(ChatCompletions(), [user("a"), calling("1"), *later], [user("b")])
    assert messages[3:] == (later or [assistant(INTERRUPTED_REPLY)])


def test_a_filtered_chat_reply_is_stored_and_its_exchange_is_not_sent():
    """litellm reports a refusal of Anthropic as a filtered reply."""
    choice = {"message": assistant("I c"), "finish_reason": "content_filter"}
    (item,) = ChatCompletions().reply_items([user("a")], {"choices": [choice]})
    assert item == {**assistant("I c"), "finish_reason": "content_filter"}
    history = [user("a"), assistant("b"), user("bad"), item, user("c"), assistant("d")]
    assert sent(ChatCompletions(), history, [user("e")]) == [*history[:2], *history[4:]]
    assert sent(ChatCompletions(), [item], [user("e")]) == []


def test_a_whole_refused_exchange_is_left_out():
    """All questions of the exchange go, and what came after the refusal in it."""
    refused = {**with_calls(call()), "finish_reason": "content_filter"}
    bad = [user("bad"), user("and this"), refused, result("1"), assistant("sorry")]
    history = [user("a"), assistant("b"), *bad]
    assert sent(ChatCompletions(), history, [user("c")]) == history[:2]
    assert sent(ChatCompletions(), history, [assistant("Hm."), user("c")]) == history[:2]


def test_a_refused_exchange_stays_if_the_request_goes_on_with_it():
    """A result of its tool call needs the call."""
    refused = {**with_calls(call()), "finish_reason": "content_filter"}
    history = [user("a"), refused]
    messages = ChatCompletions().with_history([result("1")], history)
    assert messages == [user("a"), with_calls(call()), result("1")]


# Anthropic


def block(kind, **fields):
    return {"type": kind, **fields}


def use(call_input, name="f", **fields):
    return block("tool_use", id="1", name=name, input=call_input, **fields)


THINKING = block("thinking", thinking="Hm.", signature="x")
CUT = {"stop_reason": "max_tokens"}
ANTHROPIC = {
    "blank text": ([text_part(" "), text_part("a")], {}, [text_part("a")]),
    "only blank text": ([text_part("\n")], {}, None),
    "a blank string": (" ", {}, None),
    "thinking at the end": ([text_part("a"), THINKING], {}, [text_part("a")]),
    "only thinking": ([THINKING], {}, None),
    "thinking without a signature": (
        [block("thinking", thinking="Hm.", signature=""), text_part("a")],
        {},
        [text_part("a")],
    ),
    "thinking without the field": (
        [block("thinking", thinking="Hm."), text_part("a")],
        {},
        [text_part("a")],
    ),
    "half a call": ([text_part("a"), use({})], CUT, [text_part("a")]),
    "an invalid call": ([text_part("a"), use("x")], {}, [text_part("a")]),
    "a call without a name": ([text_part("a"), use({}, name="")], {}, [text_part("a")]),
    "a call that the server's code made": ([use({}), text_part("a")], {}, [text_part("a")]),
    "a result of an unknown server call": (
        [block("web_search_tool_result", tool_use_id="s", content=[]), text_part("a")],
        {},
        [text_part("a")],
    ),
    "an unknown block": ([{"odd": 1}, text_part("a")], {}, [{"odd": 1}, text_part("a")]),
}


@pytest.mark.parametrize(("content", "noted", "expected"), ANTHROPIC.values(), ids=ANTHROPIC)
def test_a_stored_message_of_anthropic_is_sent_as_the_provider_accepts_it(content, noted, expected):
    """Whatever was stored, the provider gets blocks that it accepts."""
    kept = [] if expected is None else [assistant(expected)]
    history = [user("a"), {**assistant(content), **noted}]
    assert sent(AnthropicMessages(), history, [user("b")]) == [user("a"), *kept]


@pytest.mark.parametrize(
    ("stored", "noted", "expected"),
    [
        ([use({})], CUT, [use({})]),
        ([use("x")], {}, [use({"INVALID_JSON": "x"})]),
        ([use(None)], {}, [use({})]),
        ([use({}, name="")], {}, [use({}, name=UNNAMED_TOOL)]),
        ([use({}), text_part("a")], {}, [text_part("a"), use({})]),
    ],
    ids=["cut", "no object", "none", "no name", "before text"],
)
def test_an_answered_call_of_anthropic_is_mended_and_sent_last(stored, noted, expected):
    """The model sees its broken call together with the result that a tool loop gave it."""
    answer = user([block("tool_result", tool_use_id="1", content="done")])
    history = [user("a"), {**assistant(stored), **noted}]
    assert AnthropicMessages().with_history([answer], history) == [
        *(user("a"), assistant(expected), answer),
    ]


@pytest.mark.parametrize("content", [[], [text_part("I c")]])
def test_a_refused_exchange_of_anthropic_is_stored_and_not_sent(content):
    """Anthropic goes on refusing as long as the refused question is sent."""
    response = {**assistant(content), "stop_reason": "refusal"}
    (item,) = AnthropicMessages().reply_items([user("bad")], response)
    assert item == response
    history = [user("a"), assistant("b"), user("bad"), item]
    assert sent(AnthropicMessages(), history, [user("c")]) == history[:2]


def test_a_refusal_counts_even_if_the_stream_broke_off_after_it():
    """The kept part of the reply must not bring the refused question back."""
    events = [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": text_part("I c")},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "refusal"}},
    ]
    (kept,) = AnthropicMessages().reply_items([user("bad")], Streamed(events, interrupted=True))
    assert kept["stop_reason"] == "refusal"
    assert sent(AnthropicMessages(), [user("bad"), kept], [user("b")]) == []


def answer(*ids):
    return [block("tool_result", tool_use_id=each, content="done") for each in ids]


def test_a_message_with_results_of_two_messages_is_split():
    """The results of a message's calls directly follow it, and other text comes last."""
    one, two = assistant([use({})]), assistant([{**use({}), "id": "2"}])
    late = user([*answer("1", "2"), text_part("c")])
    for history, new in [
        ([user("a"), one, user("b"), two], [late]),
        ([user("a"), one, user("b"), two, late], []),
    ]:
        given = AnthropicMessages().with_history([*new, user("d")], history)
        assert given == [
            *(user("a"), one, user(answer("1")), user("b"), two),
            *(user([*answer("2"), text_part("c")]), user("d")),
        ]


def test_an_empty_message_takes_the_place_of_a_question_that_a_limit_cut_off():
    """The request answers a call, so the call must stay, and the user must come first."""
    history = History([assistant([use({})])], is_cut=True)
    assert AnthropicMessages().with_history([user(answer("1"))], history) == [
        *(user(EMPTY_MESSAGE), assistant([use({})]), user(answer("1"))),
    ]


def test_a_system_message_that_a_window_puts_first_becomes_the_users():
    """A summary is not dropped silently."""
    history = [{"role": "system", "content": "So far: a."}, assistant("b")]
    assert sent(AnthropicMessages(), history, [user("c")]) == [user("So far: a."), assistant("b")]


PAUSED = {
    **assistant([block("server_tool_use", id="s", name="web_search", input={})]),
    "stop_reason": "pause_turn",
}


def test_a_paused_reply_of_anthropic_goes_on_without_a_new_message():
    """The request ends with the paused reply, whose server call still waits for its result."""
    history = [user("a"), PAUSED]
    assert sent(AnthropicMessages(), history, []) == [user("a"), assistant(PAUSED["content"])]
    assert sent(AnthropicMessages(), history, [user("b")]) == [user("a")]
    with pytest.raises(ValueError, match="must have at least one message"):
        AnthropicMessages().with_history({"messages": []}, [user("a"), assistant("b")])


# Responses


def item(kind, **fields):
    return {"type": kind, **fields}


def function(arguments="{}", name="f", **fields):
    return item("function_call", call_id="1", name=name, arguments=arguments, **fields)


def message(text, **fields):
    return item("message", role="assistant", content=[item("output_text", text=text)], **fields)


STORED_THOUGHT = {"type": "reasoning", "id": "rs", "summary": []}
SEARCH = item("web_search_call", id="ws", status="completed")
ANSWER = message("a", id="msg")
WITHOUT_ID = message("a")

RESPONSES = {
    "reasoning by its id": ([STORED_THOUGHT, ANSWER], [WITHOUT_ID]),
    "encrypted reasoning": ([THOUGHT, ANSWER], [THOUGHT, ANSWER]),
    "a server's call after lost reasoning": ([STORED_THOUGHT, SEARCH, ANSWER], [WITHOUT_ID]),
    "reasoning that led to nothing": ([ANSWER, THOUGHT], [ANSWER]),
    "half a call": ([THOUGHT, function("{"), ANSWER], [WITHOUT_ID]),
    "a call of an incomplete response": ([function(status="incomplete")], []),
    "a call without a name": ([function(name="")], []),
    "a custom call without a name": (
        [item("custom_tool_call", call_id="1", name="", input="a")],
        [],
    ),
    "a call that the server has run": (
        [item("custom_tool_call", call_id="1", name="x_search", input="{}"), SEARCH, ANSWER],
        [SEARCH, ANSWER],
    ),
    "no text": ([message(""), message(" ")], []),
    "no content": ([item("message", role="assistant", content=None), ANSWER], [ANSWER]),
    "a blank part": (
        [item("message", role="assistant", content=[*ANSWER["content"], text_part("")])],
        [WITHOUT_ID],
    ),
    "an id that a result names": (
        [STORED_THOUGHT, item("mcp_approval_request", id="r", name="f", arguments="{}")],
        [
            item("mcp_approval_request", id="r", name="f", arguments="{}"),
            item(
                "mcp_approval_response",
                approval_request_id="r",
                approve=False,
                reason="(interrupted: this call has no result)",
            ),
        ],
    ),
}


@pytest.mark.parametrize(("stored", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_stored_output_is_sent_as_the_provider_accepts_it(stored, expected):
    """Whatever was stored, the provider gets items that it accepts."""
    given = sent(OpenAIResponses(), [user("a"), *stored], [user("b")], "input")
    assert given == [user("a"), *expected]


@pytest.mark.parametrize("store", [None, True, False])
def test_reasoning_by_its_id_is_sent_in_the_open_exchange_if_the_server_stores_it(store):
    """The model needs its reasoning between a tool call and the result."""
    output = item("function_call_output", call_id="1", output="done")
    history = [user("a"), STORED_THOUGHT, function(id="fc")]
    fields = {} if store is None else {"store": store}
    given = sent(OpenAIResponses(), history, [output], "input", **fields)
    assert given == (history if store is not False else [user("a"), function()])


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (function("{"), function('{"INVALID_JSON":"{"}')),
        (function(""), function("{}")),
        (function(name=None), function(name=UNNAMED_TOOL)),
        (
            item("custom_tool_call", call_id="1", name="", input=None),
            item("custom_tool_call", call_id="1", name=UNNAMED_TOOL, input=""),
        ),
        (
            item("custom_tool_call", call_id="1", name="", input="a"),
            item("custom_tool_call", call_id="1", name=UNNAMED_TOOL, input="a"),
        ),
    ],
    ids=["half", "empty", "no name", "custom", "custom with text"],
)
def test_an_answered_call_of_responses_is_mended_and_sent_with_its_result(stored, expected):
    """The model sees its broken call together with the result that a tool loop gave it."""
    output = item(f"{stored['type']}_output", call_id="1", output="done")
    given = OpenAIResponses().with_history([output], [user("a"), stored])
    assert given == [user("a"), expected, output]


# pydantic-ai


def part(kind, **fields):
    return {"part_kind": kind, **fields}


TIME = "2026-01-01T00:00:00Z"


def responded(*parts, **fields):
    return {"kind": "response", "parts": list(parts), "timestamp": TIME, **fields}


def said(text):
    return part("text", content=text)


def tool_call(args="{}", name="f"):
    return part("tool-call", tool_name=name, args=args, tool_call_id="1")


SERVER_CALL = part("builtin-tool-call", tool_name="web_search", args={}, tool_call_id="s")
SERVER_RESULT = part(
    "builtin-tool-return",
    tool_name="web_search",
    content="found",
    tool_call_id="s",
    timestamp=TIME,
)
THOUGHT_PART = part("thinking", content="Hm.")
PYDANTIC_AI = {
    "no parts": ([], [said(EMPTY_MESSAGE)]),
    "blank text": ([said(" "), said("a")], [said("a")]),
    "only thinking": ([THOUGHT_PART], [said(EMPTY_MESSAGE)]),
    "thinking at the end": ([said("a"), THOUGHT_PART], [said("a")]),
    "thinking before text": ([THOUGHT_PART, said("a")], [THOUGHT_PART, said("a")]),
    "half a call": ([said("a"), tool_call("{")], [said("a")]),
    "a call without a name": ([said("a"), tool_call(name="")], [said("a")]),
    "a server's call": ([SERVER_CALL, said("a")], [said("a")]),
    "a finished server's call": (
        [SERVER_CALL, SERVER_RESULT, said("a")],
        [SERVER_CALL, SERVER_RESULT, said("a")],
    ),
}


def sent_parts(stored, new="b"):
    """Return the kinds and contents of the parts that pydantic-ai gets of *stored* items."""
    from pydantic_ai.messages import ModelRequest

    request = [ModelRequest.user_text_prompt(new)] if isinstance(new, str) else new
    messages = PydanticAI().with_history(request, stored)
    return [
        [(each.part_kind, getattr(each, "content", None) or each.args) for each in message.parts]
        for message in messages
    ]


QUESTION = {"kind": "request", "parts": [part("user-prompt", content="a")]}


@pytest.mark.parametrize(("stored", "expected"), PYDANTIC_AI.values(), ids=PYDANTIC_AI)
def test_a_stored_response_of_pydantic_ai_is_sent_as_providers_accept_it(stored, expected):
    """Whatever was stored, the providers behind pydantic-ai get parts that they accept."""
    given = sent_parts([QUESTION, responded(*stored)])
    assert given[1] == [
        (each["part_kind"], each.get("content") or each["args"]) for each in expected
    ]


def test_an_empty_prompt_of_pydantic_ai_gets_a_text():
    """A provider refuses a user's message without content."""
    empty = {"kind": "request", "parts": [part("user-prompt", content="")]}
    assert sent_parts([empty])[0] == [("user-prompt", EMPTY_MESSAGE)]


def test_a_plain_summary_of_a_window_becomes_a_message_of_pydantic_ai():
    """A window of the user's own knows no message classes."""
    given = sent_parts([user("So far: a."), assistant("Yes.")])
    assert given[:2] == [[("user-prompt", "So far: a.")], [("text", "Yes.")]]


def test_an_item_that_is_no_message_of_pydantic_ai_is_refused_without_its_text():
    """The error of pydantic shows the item, so it is not passed on."""
    with pytest.raises(TypeError, match=r"others are at the places \[1\]$") as caught:
        sent_parts([QUESTION, {"kind": "secret"}])
    assert caught.value.__cause__ is None


def test_a_message_with_results_of_two_responses_is_split():
    """The results of a response's calls directly follow it."""
    first, second = tool_call(), {**tool_call(), "tool_call_id": "2"}
    returns = [
        part("tool-return", tool_name="f", content=each, tool_call_id=each, timestamp=TIME)
        for each in "12"
    ]
    late = {"kind": "request", "parts": [*returns, part("user-prompt", content="c")]}
    given = sent_parts([QUESTION, responded(first), QUESTION, responded(second), late])
    assert given[2] == [("tool-return", "1")]
    assert given[5] == [("tool-return", "2"), ("user-prompt", "c")]


def test_a_refused_exchange_of_pydantic_ai_is_not_sent():
    """pydantic-ai reports a refusal of Anthropic as a filtered response."""
    refused = responded(said("I c"), finish_reason="content_filter")
    assert sent_parts([QUESTION, refused]) == [[("user-prompt", "b")]]


def test_a_reply_is_added_after_an_interrupted_call_of_pydantic_ai():
    """Mistral refuses a user's message after a tool result."""
    given = sent_parts([QUESTION, responded(tool_call())])
    assert [kinds[0][0] for kinds in given] == [
        "user-prompt",
        "tool-call",
        "tool-return",
        *(
            "text",
            "user-prompt",
        ),
    ]
    assert given[3] == [("text", INTERRUPTED_REPLY)]


def test_results_of_pydantic_ai_without_a_call_are_left_out():
    """The other parts of their message stay."""
    lone = part(
        "tool-return",
        tool_name="f",
        content="done",
        tool_call_id="9",
        timestamp=TIME,
    )
    mixed = {"kind": "request", "parts": [lone, part("user-prompt", content="a")]}
    alone = {"kind": "request", "parts": [lone]}
    assert sent_parts([mixed, responded(said("c")), alone]) == [
        *([("user-prompt", "a")], [("text", "c")], [("user-prompt", "b")]),
    ]


# Gemini


def content(role, *parts):
    return {"role": role, "parts": list(parts)}


def made(name, **fields):
    return {"functionCall": {"name": name, "args": {}, **fields}}


def returned(name, **fields):
    return {"functionResponse": {"name": name, "response": {}, **fields}}


ASKED = content("user", {"text": "a"})


def test_calls_of_gemini_without_ids_are_answered_by_their_names():
    """A late result goes to its own call, not to the latest."""
    history = [ASKED, content("model", made("f")), ASKED, content("model", made("g"))]
    given = GeminiContents().with_history([content("user", returned("f"))], history)
    assert given[2] == content("user", returned("f"))
    assert given[5]["parts"][0]["functionResponse"]["name"] == "g"


def test_a_content_with_results_of_two_contents_is_split():
    """The results of a content's calls directly follow it."""
    history = [ASKED, content("model", made("f")), ASKED, content("model", made("g"))]
    late = content("user", returned("f"), returned("g"))
    given = GeminiContents().with_history([late], history)
    assert given == [
        *(*history[:2], content("user", returned("f"))),
        *(*history[2:], content("user", returned("g"))),
    ]


def test_a_content_of_the_user_is_put_before_calls_that_would_follow_the_model():
    """A late result moves to its call and leaves two contents of the model behind."""
    history = [
        *(ASKED, content("model", made("f")), ASKED, content("model", {"text": "wait"})),
        *(content("user", returned("f")), content("model", made("g"))),
    ]
    given = GeminiContents().with_history([ASKED], history)
    assert [(each["role"], list(each["parts"][0])) for each in given] == [
        *(("user", ["text"]), ("model", ["functionCall"]), ("user", ["functionResponse"])),
        *(("user", ["text"]), ("model", ["text"]), ("user", ["text"])),
        *(("model", ["functionCall"]), ("user", ["functionResponse"]), ("user", ["text"])),
    ]


def test_an_empty_content_takes_the_place_of_a_question_of_gemini_that_a_limit_cut_off():
    """The request answers a call, so the call must stay, and the user must come first."""
    history = History([content("model", made("f"))], is_cut=True)
    given = GeminiContents().with_history([content("user", returned("f"))], history)
    assert given[0] == content("user", {"text": EMPTY_MESSAGE})
    assert len(given) == 3


# Rare shapes


def test_a_chat_call_with_neither_id_nor_function_gets_a_result_that_names_none():
    """It is the only call that waits, so its result needs no name."""
    custom = {"type": "custom", "custom": {"name": "f", "input": "a"}}
    messages = sent(ChatCompletions(), [user("a"), with_calls(custom)], [user("b")])
    added = {"role": "tool", "content": "(interrupted: this call has no result)"}
    assert messages == [user("a"), with_calls(custom), added, assistant(INTERRUPTED_REPLY)]


def test_a_chat_reply_that_contains_itself_is_left_for_the_store_to_refuse():
    """It is not changed in place."""
    said = Said("assistant", [])
    said.content.append(said)
    (stored,) = ChatCompletions().reply_items([user("a")], said)
    assert stored is said


def test_a_message_object_in_a_history_of_responses_is_sent_as_a_mapping():
    """A window may return objects."""
    assert sent(OpenAIResponses(), [Message("user", "a")], [user("b")], "input") == [user("a")]


def test_reasoning_that_the_request_goes_on_with_stays():
    """The item that it led to is sent along by the program."""
    new = [function(), item("function_call_output", call_id="1", output="done")]
    given = sent(OpenAIResponses(), [user("a"), message(""), THOUGHT], new, "input")
    assert given == [user("a"), THOUGHT]


def test_a_request_of_pydantic_ai_with_only_a_system_prompt_has_no_items():
    """Instructions are not stored."""
    from pydantic_ai.messages import ModelRequest, SystemPromptPart

    assert PydanticAI().new_items([ModelRequest([SystemPromptPart("Be brief.")])]) == []
