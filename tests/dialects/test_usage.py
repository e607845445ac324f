"""The model and the token counts of replies and streams, as each provider reports them."""

from __future__ import annotations

from types import SimpleNamespace

import anthropic.types
import anthropic.types.beta
import openai.types.chat
import openai.types.responses
import pytest
from google.genai import types as genai
from pydantic_ai import Agent, direct
from pydantic_ai import messages as pydantic_ai
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from helpers.layers import memory_over
from helpers.messages import user
from helpers.streams import TextStream, read_all
from tower_memory import InMemorySessionStore
from tower_memory.dialects import Streamed, usage_of


def usage(model=None, given=None, output=None, cached=None, reasoning=None):
    return {
        "model": model,
        "input_tokens": given,
        "output_tokens": output,
        "cached_input_tokens": cached,
        "reasoning_tokens": reasoning,
    }


UNKNOWN = usage()

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 80, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 30},
}
COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hi"},
        }
    ],
    "usage": CHAT,
}
RESPONSE = {
    "id": "1",
    "object": "response",
    "created_at": 1,
    "model": "gpt",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 20},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 30},
        "total_tokens": 150,
    },
}
MESSAGE = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 5,
        "cache_creation_input_tokens": 15,
        "cache_read_input_tokens": 80,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
    },
}
GENERATED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}}],
    "modelVersion": "gemini",
    "usageMetadata": {
        "promptTokenCount": 90,
        "toolUsePromptTokenCount": 10,
        "cachedContentTokenCount": 80,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 150,
    },
}
OF_PYDANTIC_AI = pydantic_ai.ModelResponse(
    [pydantic_ai.TextPart("Hi")],
    model_name="any",
    usage=RequestUsage(
        input_tokens=100, cache_read_tokens=80, output_tokens=50, output_reasoning_tokens=30
    ),
)

REPLIES = [
    (COMPLETION, openai.types.chat.ChatCompletion.model_validate, "gpt"),
    (RESPONSE, openai.types.responses.Response.model_validate, "gpt"),
    (MESSAGE, anthropic.types.Message.model_validate, "claude"),
    (GENERATED, genai.GenerateContentResponse.model_validate, "gemini"),
    (
        pydantic_ai.ModelMessagesTypeAdapter.dump_python([OF_PYDANTIC_AI], mode="json")[0],
        lambda item: pydantic_ai.ModelMessagesTypeAdapter.validate_python([item])[0],
        "any",
    ),
]


@pytest.mark.parametrize(("reply", "to_object", "model"), REPLIES)
def test_the_counts_of_a_reply_mean_the_same_for_every_provider(reply, to_object, model):
    expected = usage(model, 100, 50, 80, 30)
    assert usage_of(reply) == expected
    assert usage_of(to_object(reply)) == expected


@pytest.mark.parametrize(("reply", "to_object", "model"), REPLIES[:4])
def test_a_reply_without_usage_has_only_its_model(reply, to_object, model):
    reply = {key: reply[key] for key in reply if key not in ("usage", "usageMetadata")}
    assert usage_of(reply) == usage(model)
    assert usage_of({**reply, "usage": None}) == usage(model)


@pytest.mark.parametrize(
    "response",
    [
        *("Hi", None, 3, [], [user("a")], {"messages": [user("a")]}, user("a")),
        {"usage": "much", "model": 3},
        *(Streamed(()), Streamed(("H", "i"), interrupted=True, stream=3)),
    ],
)
def test_a_response_that_reports_nothing_has_no_counts(response):
    assert usage_of(response) == UNKNOWN


def test_values_that_are_no_whole_numbers_are_no_counts():
    assert usage_of({"usage": {"prompt_tokens": True, "completion_tokens": "5"}}) == UNKNOWN


# Providers with spellings of their own


@pytest.mark.parametrize(
    ("reported", "counts"),
    [
        # xAI: reasoning is only in the total.
        (
            {
                **CHAT,
                "prompt_tokens": 12,
                "completion_tokens": 2,
                "total_tokens": 354,
                "completion_tokens_details": {"reasoning_tokens": 340},
            },
            (12, 342, 80, 340),
        ),
        # Gemini's chat completions: thoughts are only in the total.
        (
            {"prompt_tokens": 758, "completion_tokens": 102, "total_tokens": 1725},
            (758, 967, None, None),
        ),
        ({"prompt_tokens": 5, "total_tokens": 5}, (5, 0, None, None)),
        # A total that leaves out a part takes nothing away.
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 7}, (5, 7, None, None)),
        ({"completion_tokens": 7}, (None, 7, None, None)),
        # DeepSeek
        (
            {"prompt_tokens": 9, "completion_tokens": 7, "prompt_cache_hit_tokens": 4},
            (9, 7, 4, None),
        ),
        # Moonshot and Azure
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 7,
                "cached_tokens": 4,
                "reasoning_tokens": 3,
                "prompt_tokens_details": None,
            },
            (9, 7, 4, 3),
        ),
    ],
)
def test_the_chat_completions_of_other_providers_are_read_as_they_count(reported, counts):
    assert usage_of({"model": "m", "usage": reported}) == usage("m", *counts)


def test_ollamas_own_api_has_the_counts_in_the_reply_and_in_the_last_chunk():
    reply = {"model": "qwen", "message": {"role": "assistant", "content": "Hi"}, "done": True}
    counted = {**reply, "prompt_eval_count": 9, "eval_count": 7}
    assert usage_of(counted) == usage("qwen", 9, 7)
    assert usage_of(Streamed([{**reply, "done": False}, counted])) == usage("qwen", 9, 7)
    assert usage_of(reply) == usage("qwen")


def test_a_gemini_reply_without_candidates_has_the_counts_of_its_prompt():
    reply = {"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}}
    assert usage_of(reply) == usage(None, 9)
    assert usage_of({"usageMetadata": {"totalTokenCount": 9}}) == UNKNOWN


def test_the_tokens_of_a_summary_by_the_same_model_are_added_and_an_advisors_are_not():
    iterations = [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 20}
        | {"cache_read_input_tokens": 1000, "cache_creation_input_tokens": 0},
        {"type": "advisor_message", "model": "large", "input_tokens": 7, "output_tokens": 7},
        {"type": "message", "input_tokens": 5, "output_tokens": 3},
    ]
    sums = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}
    reply = {**MESSAGE, "usage": {**sums, "iterations": iterations}}
    assert usage_of(reply) == usage("claude", 1107, 23, 1002)


def test_the_model_that_completed_a_reply_in_place_of_another_is_its_model():
    reported = {
        "input_tokens": 5,
        "output_tokens": 3,
        "iterations": [
            {"type": "message", "model": "claude", "input_tokens": 4, "output_tokens": 0},
            {"type": "fallback_message", "model": "other", "input_tokens": 5, "output_tokens": 3},
        ],
    }
    start = {"type": "message_start", "message": {**MESSAGE, "usage": {"input_tokens": 4}}}
    end = {"type": "message_delta", "usage": reported}
    assert usage_of(Streamed([start, end])) == usage("other", 5, 3)


# Streams


def chunk(**fields):
    """Return a chunk of a chat completion."""
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gpt"} | {
        "choices": [],
        "usage": None,
        **fields,
    }


def event(kind, **fields):
    return {"type": kind, **fields}


STREAMS = [
    ([chunk(model=""), chunk(), chunk(usage=CHAT)], "gpt"),
    # Perplexity: each chunk has the counts so far.
    ([chunk(usage={"prompt_tokens": 100, "completion_tokens": 1}), chunk(usage=CHAT)], "gpt"),
    ([chunk(), chunk(x_groq={"usage": CHAT})], "gpt"),
    ([event("chunk", chunk=chunk()), event("chunk", chunk=chunk(usage=CHAT))], "gpt"),
    (
        [
            event("response.created", response={**RESPONSE, "usage": None}),
            event("response.output_text.delta", delta="Hi"),
            event("response.completed", response=RESPONSE),
        ],
        "gpt",
    ),
    (
        [
            event(
                "message_start",
                message={**MESSAGE, "usage": {**MESSAGE["usage"], "output_tokens": 1}},
            ),
            event("message_delta", delta={}, usage={"output_tokens": 9}),
            event("message_delta", delta={}, usage={"input_tokens": 5, "output_tokens": 50}),
            event("message_stop"),
        ],
        "claude",
    ),
    (
        [
            {"modelVersion": "gemini", "usageMetadata": {"promptTokenCount": 90}},
            {**GENERATED, "usageMetadata": {**GENERATED["usageMetadata"], "thoughtsTokenCount": 1}},
            GENERATED,
        ],
        "gemini",
    ),
]


@pytest.mark.parametrize(("chunks", "model"), STREAMS)
def test_the_last_counts_of_a_stream_are_those_of_its_reply(chunks, model):
    assert usage_of(Streamed(chunks)) == usage(model, 100, 50, 80, 30)
    assert usage_of(Streamed(chunks, interrupted=True)) == usage(model, 100, 50, 80, 30)


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        (STREAMS[0][0], openai.types.chat.ChatCompletionChunk),
        (STREAMS[6][0], genai.GenerateContentResponse),
    ],
)
def test_the_chunks_may_be_objects_of_the_client(chunks, kind):
    streamed = Streamed(list(map(kind.model_validate, chunks)))
    assert usage_of(streamed) == usage_of(Streamed(chunks))


def test_the_events_of_anthropics_client_are_read_with_their_message():
    start, *deltas, stop = STREAMS[5][0]
    stop = {**stop, "message": anthropic.types.beta.BetaMessage.model_validate(MESSAGE)}
    events = [SimpleNamespace(**each) for each in (start, *deltas, stop)]
    assert usage_of(Streamed(events)) == usage("claude", 100, 50, 80, 30)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, usage("gpt")), (4, usage("gpt")), (5, usage("claude", 100, 9, 80, 30))],
)
def test_an_interrupted_stream_has_the_counts_that_arrived(number, expected):
    chunks, _ = STREAMS[number]
    assert usage_of(Streamed(chunks[:2], interrupted=True)) == expected


def test_a_message_that_a_proxy_begins_anew_is_counted_once():
    again = event("message_start", message={**MESSAGE, "usage": {"input_tokens": 7}})
    streamed = Streamed([*STREAMS[5][0], again, event("message_delta", usage={"output_tokens": 3})])
    assert usage_of(streamed) == usage("claude", 7, 3)


# pydantic-ai


def test_a_response_of_pydantic_ai_without_counts_has_only_its_model():
    for reported in (RequestUsage(), RequestUsage(unmeasured_requests=1)):
        response = pydantic_ai.ModelResponse([], model_name="any", usage=reported)
        assert usage_of(response) == usage("any")


async def test_a_stream_of_pydantic_ai_tells_its_counts_itself():
    request = [pydantic_ai.ModelRequest.user_text_prompt("Hi")]
    async with direct.model_request_stream(TestModel(), request) as stream:
        chunks = [each async for each in stream]
        reply = stream.get()
    counted = usage_of(Streamed(chunks, stream=stream))
    assert counted == usage_of(reply) == usage("test", 51, counted["output_tokens"], 0, 0)
    assert counted["output_tokens"] > 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # agents need it
async def test_a_run_of_an_agent_and_its_messages_count_all_requests_of_the_run():
    agent = Agent(TestModel())

    @agent.tool_plain
    def weather() -> str:
        return "sunny"

    first = await agent.run("Hi")
    second = await agent.run("Again", message_history=first.all_messages())
    assert (first.usage.requests, second.usage.requests) == (2, 1)
    for run in (first, second):
        expected = usage("test", run.usage.input_tokens, run.usage.output_tokens, 0, 0)
        assert usage_of(run) == expected
        assert usage_of(run.all_messages()) == expected
        assert usage_of(run.new_messages()) == expected


def test_a_list_whose_new_responses_are_not_known_has_no_counts():
    assert usage_of([OF_PYDANTIC_AI]) == usage("any", 100, 50, 80, 30)
    assert usage_of([OF_PYDANTIC_AI, OF_PYDANTIC_AI]) == UNKNOWN


def test_a_sum_of_which_a_part_is_not_known_is_not_known():
    fields = {"kind": "response", "run_id": "1", "model_name": "any"}
    known = {"input_tokens": 3, "output_tokens": 2, "output_reasoning_tokens": 1}
    responses = [
        {**fields, "usage": known},
        {**fields, "usage": {"input_tokens": 3, "output_tokens": 2}},
    ]
    assert usage_of(responses) == usage("any", 6, 4)


# As metadata of a turn


async def test_the_usage_of_replies_and_streams_can_be_stored_as_it_is():
    store = InMemorySessionStore()

    async def reply(_messages):
        return COMPLETION

    delta = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}

    async def stream(_messages):
        return TextStream([chunk(choices=[delta]), chunk(usage=CHAT)])

    memory = memory_over(store, metadata=lambda request, response: usage_of(response))
    await memory(reply)([user("a")])
    await read_all(await memory(stream)([user("b")]))
    turns = (await store.load("s")).turns
    assert [dict(turn.metadata) for turn in turns] == [usage("gpt", 100, 50, 80, 30)] * 2
