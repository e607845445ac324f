"""Replies that a provider sends, and refuses if they are sent back as they came.

A `Harm` is one such reply. The tables have those of each provider; a loopback server with the
provider's validator sends them to real clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.messages import assistant
from helpers.provider_replies import REASONING, chunk

AUDIO_EXPIRES_AT = {"audio_old": 1, "audio_new": 9_999_999_999}
"""Seconds since 1970 after which the server refuses an audio, by its id."""


@dataclass(frozen=True)
class Harm:
    """A reply that the provider would refuse in a later request.

    Attributes:
    name: What is wrong with the reply.
    reply: The message, the blocks or the items of the reply.
    reason: Why the reply ended, as the provider says it.
    answered: True if the next request answers the calls of the reply.
    """

    name: str
    reply: Any
    reason: str = "stop"
    answered: bool = False


# Chat completions


def call(arguments="{}", name="weather", call_id="call_0"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*each, content=None):
    return {**assistant(content), "tool_calls": list(each)}


def spoken_audio(audio_id):
    expires_at = AUDIO_EXPIRES_AT[audio_id]
    audio = {"id": audio_id, "data": "AA==", "expires_at": expires_at, "transcript": "Hello!"}
    return {**assistant(None), "audio": audio}


HALF = '{"city": "Ro'

CHAT = [
    Harm("half a call", calls(call(HALF)), "length"),
    Harm("text and half a call", calls(call(HALF), content="Let me see."), "length"),
    Harm("no content key", {"role": "assistant"}),
    Harm("null content", assistant(None)),
    Harm("empty content", assistant("")),
    Harm("blank content", assistant(" \n")),
    Harm("zero refusal", {**assistant("Hi!"), "refusal": ""}),
    Harm("no tool calls", {**assistant("Hi!"), "tool_calls": []}),
    Harm("no arguments", calls(call("")), "tool_calls", answered=True),
    Harm("broken arguments", calls(call(HALF)), "tool_calls", answered=True),
    Harm("a list as arguments", calls(call("[1]")), "tool_calls", answered=True),
    Harm("an unnamed call", calls(call(name="")), "tool_calls", answered=True),
    Harm("an unnamed, unanswered call", calls(call(name="")), "tool_calls"),
    Harm("a call id in each turn", calls(call()), "tool_calls", answered=True),
]
"""Replies that servers with the API of OpenAI's chat completions send."""

UNANSWERED = [
    Harm("an unanswered call", calls(call()), "tool_calls"),
    Harm("a call and half a call", calls(call(), call(HALF, call_id="call_1")), "length"),
]
"""Replies of the same servers, after which the user speaks instead of the tool."""

MALFORMED = [
    Harm("zero function_call", {**assistant("Hi!"), "function_call": {"name": ""}}),
    Harm("zero audio", {**assistant("Hi!"), "audio": {"id": ""}}),
    Harm("a call with a null name", calls(call(name=None)), "tool_calls", answered=True),
]
"""Replies that lack what OpenAI's schema requires, such as Snowflake's; only its client reads them.
"""

AUDIO = [
    Harm("expired audio", spoken_audio("audio_old")),
    Harm("audio", spoken_audio("audio_new")),
]
"""Audio of the model, which only OpenAI's own server accepts."""

REFUSALS = [Harm("refusal", {**assistant(None), "refusal": "No."})]
"""Refusals, which only OpenAI's own server sends."""


def chat_chunks(message, reason):
    """Return the chunks of a chat completion; arguments arrive in two pieces."""
    fields = {key: value for key, value in message.items() if key not in ("role", "tool_calls")}
    deltas = [{"role": "assistant"}, fields]
    for index, each in enumerate(message.get("tool_calls", ())):
        name, arguments = each["function"]["name"], each["function"]["arguments"]
        begun = {**each, "function": {"name": name, "arguments": arguments[:1]}}
        deltas.append({"tool_calls": [{"index": index, **begun}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": arguments[1:]}}]})
    if message.get("tool_calls") == []:
        deltas.append({"tool_calls": []})
    return [*map(chunk, deltas), chunk({}, reason)]


# OpenAI, responses


def spoken(text, number=1):
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    head = {"id": f"msg_{number}", "type": "message", "status": "completed", "role": "assistant"}
    return {**head, "content": [part]}


def function_call(arguments="{}", **fields):
    head = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "weather"}
    return {**head, "arguments": arguments, "status": "completed", **fields}


REASONING_BY_ID = {key: value for key, value in REASONING.items() if key != "encrypted_content"}
X_SEARCH = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "call_id": "xs_1",
    "name": "x_search",
    "input": '{"query": "weather"}',
    "status": "completed",
}

RESPONSES = [
    Harm("half a call", [function_call(HALF, status="incomplete")], "incomplete"),
    Harm(
        "reasoning and half a call",
        [REASONING, function_call(HALF, status="incomplete")],
        "incomplete",
    ),
    Harm("half a call, answered", [function_call(HALF, status="incomplete")], "incomplete", True),
    Harm("reasoning alone", [REASONING], "incomplete"),
    Harm("reasoning by id", [REASONING_BY_ID, spoken("Hi!")]),
    Harm("reasoning by id and a call", [REASONING_BY_ID, function_call()], answered=True),
    Harm("reasoning by id and an unanswered call", [REASONING_BY_ID, function_call()]),
    Harm("a call of the server's own tool", [X_SEARCH, spoken("Sunny.")]),
    Harm("reasoning and a call of the server's own tool", [REASONING, X_SEARCH, spoken("Sunny.")]),
    Harm("no output", []),
    Harm("empty text", [spoken("")]),
    Harm("no arguments", [function_call("")], answered=True),
    Harm("broken arguments", [function_call(HALF)], answered=True),
    Harm("broken arguments, unanswered", [function_call(HALF)]),
    Harm("an unnamed call", [function_call(name="")], answered=True),
    Harm("an unanswered call", [function_call()]),
]
"""Outputs of OpenAI's responses, and of xAI's."""


# Anthropic


def said(text):
    return {"type": "text", "text": text}


def tool_use(tool_input, **fields):
    return {"type": "tool_use", "id": "toolu_0", "name": "weather", "input": tool_input, **fields}


THINKING = {"type": "thinking", "thinking": "Hm. Let me think.", "signature": "EqQB"}
SERVER_CALL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
SERVER_RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}

ANSWERED = [said("Hello!")], "end_turn"
REFUSED = [([said("I c")], "refusal"), ([], "refusal")]
PAUSED = [said("Let me search."), SERVER_CALL], "pause_turn"
CONTINUED = [SERVER_RESULT, said("Sunny.")], "end_turn"

ANTHROPIC = [
    Harm("a call that was cut off", [said("Let me see."), tool_use({})], "max_tokens"),
    Harm("only a call that was cut off", [tool_use({})], "max_tokens"),
    Harm("a call that was cut off, answered", [tool_use({})], "max_tokens", answered=True),
    Harm("an empty text", [said("")], "end_turn"),
    Harm("blank texts", [said("\n"), said("Hi!"), said(" ")], "end_turn"),
    Harm("a blank text before a call", [said("\n\n"), tool_use({})], "tool_use", answered=True),
    Harm("no content", [], "end_turn"),
    Harm("thinking alone", [THINKING], "max_tokens"),
    Harm("thinking at the end", [said("Hi!"), THINKING], "max_tokens"),
    Harm("thinking without a signature", [{**THINKING, "signature": ""}, said("Hi!")], "end_turn"),
    Harm("an unnamed call", [tool_use({}, name="")], "tool_use", answered=True),
    Harm("an unanswered call", [said("Let me see."), tool_use({})], "tool_use"),
    Harm("a call id in each turn", [tool_use({})], "tool_use", answered=True),
    Harm("a paused reply", *PAUSED),
]
"""Blocks of Anthropic's messages, plain and streamed."""

BROKEN_INPUTS = [
    Harm("half an input", [said("Let me see."), tool_use(HALF)], "max_tokens"),
    Harm("an input that is no JSON", [tool_use('{"city": Rome}')], "tool_use", answered=True),
    Harm("an unanswered input that is no JSON", [tool_use('{"city": Rome}')], "tool_use"),
    Harm("half an input, answered", [tool_use(HALF)], "max_tokens", answered=True),
    Harm("an input that is no object", [tool_use("[1]")], "tool_use", answered=True),
]
"""Blocks of Anthropic's fine-grained tool streaming, which does not check the input."""
