"""Anthropic's client in conversations with a server that refuses.

The first two replies of most conversations are harmful: sent back as they came, Anthropic would
refuse them, and so every later request of the session. Each test asserts that the server accepts
all requests, and that the store has each reply as the client tells it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial

import pytest

from helpers.harmful_replies import (
    ANSWERED,
    ANTHROPIC,
    BROKEN_INPUTS,
    CONTINUED,
    PAUSED,
    REFUSED,
)
from helpers.messages import assistant, user
from helpers.provider_replies import CLIENT_WARNINGS
from helpers.refusing_servers import (
    anthropic_client,
    both_ways,
    converse,
    harms,
    remember,
    script_anthropic,
    script_refusals,
    twice,
)
from helpers.streams import read_if_streamed
from tower_memory.dialects import AnthropicMessages

pytestmark = CLIENT_WARNINGS

FIRST = {"messages": [user("Hi")]}


def follow(harm, blocks):
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "sunny"}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    return {"messages": [user(results if harm.answered and results else "And?")]}


@asynccontextmanager
async def claude(server, store, streamed):
    """Open a client, and give the function that makes a request and returns the reply's blocks."""
    async with anthropic_client(server) as client:

        async def ask(request):
            if streamed:
                return client.messages.stream(model="m", max_tokens=9, **request)
            return await client.messages.create(model="m", max_tokens=9, **request)

        service = remember(store, AnthropicMessages(), ask)

        async def send(request):
            reply = await service(request)
            if streamed:
                async with reply as stream:
                    reply = await stream.get_final_message()
            return [block.to_dict() for block in reply.content]

        yield send


async def stored_blocks(store):
    return [item["content"] for item in await store.load("s") if item["role"] == "assistant"]


@both_ways
@harms(ANTHROPIC)
async def test_anthropic(server, sqlite, harm, streamed):
    """Plain, and with the client's stream helper. A reply without blocks is not stored."""
    script_anthropic(server, twice(harm), streamed)
    async with claude(server, sqlite, streamed) as send:
        replies = await converse(server, send, FIRST, partial(follow, harm))

    assert await stored_blocks(sqlite) == [blocks for blocks in replies if blocks]


@harms(BROKEN_INPUTS)
async def test_anthropic_inputs_that_are_no_json(server, sqlite, harm):
    """Fine-grained tool streaming, without the client's stream helper, which fails on some."""
    script_anthropic(server, twice(harm), streamed=True)
    told = [
        {**block, "input": {"INVALID_JSON": block["input"]}} if "input" in block else block
        for block in harm.reply
    ]

    async with anthropic_client(server) as client:

        async def ask(request):
            return await client.messages.create(model="m", max_tokens=9, stream=True, **request)

        service = remember(sqlite, AnthropicMessages(), ask)

        async def send(request):
            await read_if_streamed(await service(request))
            return told

        await converse(server, send, FIRST, partial(follow, harm))

    assert (await stored_blocks(sqlite))[:2] == [told, told]


@both_ways
@pytest.mark.parametrize("refused", REFUSED, ids=["with text", "without text"])
async def test_an_anthropic_refusal_ends(server, sqlite, refused, streamed):
    """The server goes on refusing as long as a request has the refused question."""
    texts = ("Hi", "Harm", "And?", "Bye")
    script_refusals(server, refused, streamed, len(texts))

    async with claude(server, sqlite, streamed) as send:
        replies = [await send({"messages": [user(text)]}) for text in texts]

    assert replies == [blocks for blocks, _ in (ANSWERED, refused, ANSWERED, ANSWERED)]
    assert await stored_blocks(sqlite) == replies


@both_ways
async def test_a_paused_anthropic_reply_goes_on(server, sqlite, streamed):
    """A request without messages continues the paused reply, as the provider documents it."""
    script_anthropic(server, [PAUSED, CONTINUED, ANSWERED], streamed)
    async with claude(server, sqlite, streamed) as send:
        requests = [[user("Hi")], [], [user("And?")]]
        replies = [await send({"messages": messages}) for messages in requests]

    assert await stored_blocks(sqlite) == replies
    assert server.requests[1]["messages"] == [user("Hi"), assistant(PAUSED[0])]
