"""Clients of chat completions in conversations with servers that refuse.

The first two replies of each conversation are harmful: sent back as they came, OpenAI, vLLM or
Mistral would refuse them, and so every later request of the session. Each test asserts that the
server accepts all requests, and that the store has each reply as it was said.
"""

from __future__ import annotations

from functools import partial

import pytest

from helpers.harmful_replies import AUDIO, CHAT, MALFORMED, REFUSALS, REFUSED, UNANSWERED
from helpers.messages import result, user
from helpers.provider_replies import CLIENT_WARNINGS
from helpers.refusing_servers import (
    both_ways,
    check_openai,
    converse,
    harms,
    openai_client,
    remember,
    script_chat,
    script_refusals,
)
from helpers.streams import read_if_streamed
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import ChatCompletions

pytestmark = CLIENT_WARNINGS

FIRST = {"messages": [user("Hi")]}


def follow(harm, message):
    calls = message.get("tool_calls") or ()
    new = [result(call["id"]) for call in calls] if harm.answered else [user("And?")]
    return {"messages": new}


def content_of(message, absent):
    """Return the parts of *message* that the model made; values in *absent* count as absent."""
    content = {name: message.get(name) for name in ("content", "refusal", "function_call", "audio")}
    content["calls"] = [
        {"id": call["id"], **call["function"]} for call in message.get("tool_calls") or ()
    ]
    return without(content, absent)


def without(value, absent):
    """Return *value* without the keys whose value is in *absent*, at any depth."""
    if isinstance(value, list):
        return [without(part, absent) for part in value]
    if not isinstance(value, dict):
        return value
    return {key: without(part, absent) for key, part in value.items() if part not in absent}


async def assert_stored(store, messages, absent=(None,)):
    """Fail unless *store* has the *messages* of the assistant."""
    stored = [item for item in await store.load("s") if item["role"] == "assistant"]
    told = [content_of(message, absent) for message in messages]
    assert [content_of(item, absent) for item in stored] == told


async def converse_with_openai(server, store, harm, streamed):
    """Have a conversation; fail unless *store* has the messages as the client tells them."""
    async with openai_client(server) as client:

        async def ask(request):
            if streamed:
                return client.chat.completions.stream(model="m", **request)
            return await client.chat.completions.create(model="m", **request)

        service = remember(store, ChatCompletions(), ask)

        async def send(request):
            reply = await service(request)
            if streamed:
                async with reply as stream:
                    chunks = [event async for event in stream if event.type == "chunk"]
                reply = chunks[-1].snapshot
            return reply.choices[0].message.to_dict()

        messages = await converse(server, send, FIRST, partial(follow, harm))

    await assert_stored(store, messages)


@both_ways
@harms(CHAT, UNANSWERED, MALFORMED)
async def test_openai(server, sqlite, harm, streamed):
    """OpenAI's client, plain and with its stream helper."""
    script_chat(server, harm, streamed)
    await converse_with_openai(server, sqlite, harm, streamed)


@both_ways
@harms(AUDIO, REFUSALS)
async def test_openai_with_openais_own_replies(server, sqlite, harm, streamed):
    """Replies that only OpenAI's own server sends, and accepts."""
    script_chat(server, harm, streamed, [check_openai])
    await converse_with_openai(server, sqlite, harm, streamed)


@both_ways
@harms(CHAT, UNANSWERED)
async def test_litellm(server, sqlite, litellm, harm, streamed):
    """litellm, whose accumulator changes replies; so they are compared to the server's script."""
    said = script_chat(server, harm, streamed)

    async def ask(request):
        return await litellm.acompletion(
            model="openai/m", api_base=server.url, api_key="none", stream=streamed, **request
        )

    async with AsyncioLayer() as bridge:
        service = remember(sqlite, ChatCompletions(), bridge(ask))

        async def send(request):
            await read_if_streamed(await service(request))
            return said[len(server.requests) - 1]

        await converse(server, send, FIRST, partial(follow, harm))

    # litellm's chunks have no content instead of an empty one.
    await assert_stored(sqlite, said, absent=(None, ""))


@pytest.mark.parametrize("refused", REFUSED, ids=["with text", "without text"])
async def test_an_anthropic_refusal_through_litellm_ends(server, sqlite, litellm, refused):
    """The server goes on refusing as long as a request has the refused question."""
    texts = ("Hi", "Harm", "And?", "Bye")
    script_refusals(server, refused, streamed=False, turns=len(texts))

    async def ask(request):
        return await litellm.acompletion(
            model="anthropic/m", api_base=server.url, api_key="none", **request
        )

    async with AsyncioLayer() as bridge:
        service = remember(sqlite, ChatCompletions(), bridge(ask))
        for text in texts:
            await service({"messages": [user(text)]})

    stored = [item["content"] for item in await sqlite.load("s") if item["role"] == "assistant"]
    assert stored[2:] == ["Hello!", "Hello!"]
