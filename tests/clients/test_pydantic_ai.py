"""The models of pydantic-ai over HTTP: the second request holds the first turn."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anthropic
import openai
import pytest
from pydantic_ai import direct
from pydantic_ai import messages as pydantic_ai
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from helpers.layers import memory_over
from helpers.provider_replies import (
    BLOCKS,
    CALLING,
    CLIENT_WARNINGS,
    FUNCTION_CALLS,
    REASONING,
    anthropic_message,
    completion,
    message_events,
    response,
)
from helpers.stream_chunks import SPOKEN
from tower_memory.dialects import PydanticAI

KNOWN_BLOCKS = [block for block in BLOCKS if block["type"] != "some_future_block"]

pytestmark = CLIENT_WARNINGS


@asynccontextmanager
async def chat_model(server):
    server.replies.extend([completion({**CALLING, "content": None})] * 3)
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
        yield OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def responses_model(server):
    server.replies.extend([response([REASONING, SPOKEN, *FUNCTION_CALLS])] * 3)
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
        yield OpenAIResponsesModel("m", provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def anthropic_model(server):
    server.replies.extend([anthropic_message(KNOWN_BLOCKS)] * 3)
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:
        yield AnthropicModel("m", provider=AnthropicProvider(anthropic_client=client))


@pytest.fixture(params=[chat_model, responses_model, anthropic_model])
async def model(server, request):
    async with request.param(server) as model:
        yield model


async def test_pydantic_ai(server, store, model):
    """The second request equals a request that is built by hand."""
    prompt = pydantic_ai.UserPromptPart(
        ["What is this?", pydantic_ai.BinaryContent(b"\x89PNG", media_type="image/png")]
    )
    question = pydantic_ai.ModelRequest(
        parts=[pydantic_ai.SystemPromptPart("Be brief."), prompt], instructions="In French."
    )

    async def ask(messages):
        return await direct.model_request(model, messages)

    service = memory_over(store, dialect=PydanticAI())(ask)
    answer = await service([question])
    returns = [
        pydantic_ai.ToolReturnPart(part.tool_name, "sunny", part.tool_call_id)
        for part in answer.tool_calls
    ]
    second = pydantic_ai.ModelRequest(parts=returns, instructions="In German.")
    await service([second])
    remembered = server.requests[-1]
    # The same conversation, built by hand.
    bare = pydantic_ai.ModelRequest(parts=[prompt])
    await ask([bare, answer, second])

    assert remembered == server.requests[-1]


@pytest.mark.parametrize("model", [anthropic_model], indirect=True)
async def test_pydantic_ai_streamed(server, store, model):
    """A streamed response is saved, and sent back with all its blocks."""
    # Without the block of an unknown type.
    events = [event for event in message_events() if event.get("index") != 3]
    server.replies.clear()
    server.replies.extend([events] * 2)

    async def ask(messages):
        return direct.model_request_stream(model, messages)

    service = memory_over(store, dialect=PydanticAI())(ask)
    question = pydantic_ai.ModelRequest.user_text_prompt("Hi")
    async with await service([question]) as stream:
        parts = [event async for event in stream if event.event_kind == "part_start"]

    assert [event.part.part_kind for event in parts] == [
        *("thinking", "thinking", "text", "tool-call", "tool-call"),
    ]

    returns = [
        pydantic_ai.ToolReturnPart("f", "sunny", part.tool_call_id)
        for part in stream.get().tool_calls
    ]
    async with await service([pydantic_ai.ModelRequest(parts=returns)]) as stream:
        async for _ in stream:
            pass

    sent = server.requests[1]["messages"][1]["content"]
    assert [block["type"] for block in sent] == [block["type"] for block in KNOWN_BLOCKS]
    assert sent[:2] == KNOWN_BLOCKS[:2]
