"""The models of pydantic-ai in conversations with servers that refuse.

The first replies of each conversation are harmful: sent back as they came, the provider would
refuse them, and so every later request of the session. Each test asserts that the server accepts
all requests, and that the store has each response as pydantic-ai tells it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial

import pytest
from pydantic_ai import direct
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ToolReturnPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from helpers.harmful_replies import (
    ANTHROPIC,
    BROKEN_INPUTS,
    CHAT,
    REFUSED,
    RESPONSES,
    UNANSWERED,
)
from helpers.provider_replies import CLIENT_WARNINGS
from helpers.refusing_servers import (
    anthropic_client,
    both_ways,
    converse,
    harms,
    openai_client,
    remember,
    script_anthropic,
    script_chat,
    script_refusals,
    script_responses,
    twice,
)
from tower_memory.dialects import PydanticAI

pytestmark = CLIENT_WARNINGS


@asynccontextmanager
async def openai_model(server, kind, **settings):
    async with openai_client(server) as client:
        yield kind("m", provider=OpenAIProvider(openai_client=client), settings=settings)


@asynccontextmanager
async def claude(server):
    async with anthropic_client(server) as client:
        yield AnthropicModel("m", provider=AnthropicProvider(anthropic_client=client))


def with_memory(model, store, streamed):
    """Return the function that makes a request and returns the complete response."""

    async def ask(messages):
        if streamed:
            return direct.model_request_stream(model, messages)
        return await direct.model_request(model, messages)

    service = remember(store, PydanticAI(), ask)

    async def send(request):
        reply = await service(request)
        if not streamed:
            return reply
        async with reply as stream:
            async for _ in stream:
                pass
        return stream.get()

    return send


def follow(harm, response):
    returns = [
        ToolReturnPart(part.tool_name, "sunny", part.tool_call_id) for part in response.tool_calls
    ]
    if harm.answered and returns:
        return [ModelRequest(returns)]
    return [ModelRequest.user_text_prompt("And?")]


async def assert_conversation(server, model, store, harm, streamed):
    """Have a conversation; fail unless *store* has the responses."""
    send = with_memory(model, store, streamed)
    first = [ModelRequest.user_text_prompt("Hi")]
    responses = await converse(server, send, first, partial(follow, harm))

    stored = [item for item in await store.load("s") if item["kind"] == "response"]
    assert stored == ModelMessagesTypeAdapter.dump_python(responses, mode="json")


@both_ways
@harms(CHAT)
async def test_chat_completions(server, sqlite, harm, streamed):
    """Plain and streamed, with OpenAI, vLLM and Mistral."""
    script_chat(server, harm, streamed)
    async with openai_model(server, OpenAIChatModel) as model:
        await assert_conversation(server, model, sqlite, harm, streamed)


@both_ways
@harms(UNANSWERED)
async def test_unanswered_calls(server, sqlite, harm, streamed):
    """Plain and streamed, with OpenAI, vLLM and Mistral."""
    script_chat(server, harm, streamed)
    async with openai_model(server, OpenAIChatModel) as model:
        await assert_conversation(server, model, sqlite, harm, streamed)


@pytest.mark.parametrize("stores", [True, False], ids=["store", "store=False"])
@both_ways
@harms(RESPONSES)
async def test_responses(server, sqlite, harm, streamed, stores):
    """Plain and streamed, and with a server that stores replies or does not."""
    script_responses(server, harm, streamed, stores)
    async with openai_model(server, OpenAIResponsesModel, openai_store=stores) as model:
        await assert_conversation(server, model, sqlite, harm, streamed)


@both_ways
@harms(ANTHROPIC)
async def test_anthropic(server, sqlite, harm, streamed):
    """Plain and streamed."""
    script_anthropic(server, twice(harm), streamed)
    async with claude(server) as model:
        await assert_conversation(server, model, sqlite, harm, streamed)


@harms(BROKEN_INPUTS)
async def test_anthropic_inputs_that_are_no_json(server, sqlite, harm):
    """Fine-grained tool streaming."""
    script_anthropic(server, twice(harm), streamed=True)
    async with claude(server) as model:
        await assert_conversation(server, model, sqlite, harm, streamed=True)


@both_ways
@pytest.mark.parametrize("refused", REFUSED, ids=["with text", "without text"])
async def test_an_anthropic_refusal_ends(server, sqlite, refused, streamed):
    """The server goes on refusing as long as a request has the refused question."""
    texts = ("Hi", "Harm", "And?", "Bye")
    script_refusals(server, refused, streamed, len(texts))

    async with claude(server) as model:
        send = with_memory(model, sqlite, streamed)
        responses = [await send([ModelRequest.user_text_prompt(text)]) for text in texts]

    assert [response.text for response in responses[2:]] == ["Hello!", "Hello!"]
