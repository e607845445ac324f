"""The client of Gemini over HTTP. It needs asyncio; on trio it runs in a bridge.

The expected requests are those that the provider's documentation prescribes: the model's content as
it came, with each thought signature in its part, then all results in one content
(https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from google import genai
from google.genai import types

from helpers.layers import memory_over
from helpers.messages import INTERRUPTED_CALL
from helpers.provider_replies import CLIENT_WARNINGS
from helpers.streams import read_if_streamed
from helpers.validators import check_gemini
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import GeminiContents

pytestmark = [
    *CLIENT_WARNINGS,
    # The client subclasses aiohttp's session, if aiohttp is installed.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]

# The base64 texts differ in the two alphabets; the client sends the URL-safe one.
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "-__-AQ=="}}
QUESTION = {"role": "user", "parts": [IMAGE, {"text": "What is this?"}]}
PARTS = [
    {"text": "Hm. Let me think.", "thought": True},
    {"text": "Let me see."},
    {"functionCall": {"name": "weather", "args": {"at": "x"}}, "thoughtSignature": "-__-"},
    {"functionCall": {"name": "time", "args": {}}},
    {"text": "", "thoughtSignature": "_w=="},
]
RESULTS = {
    "role": "user",
    "parts": [
        {"functionResponse": {"name": name, "response": {"output": "sunny"}}}
        for name in ("weather", "time")
    ],
}
PIECES = [
    [{"text": "Hm. ", "thought": True}],
    [{"text": "Let me think.", "thought": True}, {"text": "Let "}],
    [{"text": "me see."}],
    [{**PARTS[2], "thoughtSignature": "+//+"}],
    PARTS[3:],
]


def model(*parts):
    return {"role": "model", "parts": list(parts)}


def reply(*parts, reason=None):
    """Return a response, or a chunk of one."""
    reason = {} if reason is None else {"finishReason": reason}
    return {"candidates": [{"content": model(*parts), "index": 0, **reason}]}


def replied(pieces, *, streamed):
    """Return what the server sends for *pieces*: the parts of each chunk."""
    if not streamed:
        return reply(*(part for piece in pieces for part in piece), reason="STOP")
    return [*(reply(*piece) for piece in pieces), reply(reason="STOP")]


def parsed(contents):
    """Return *contents* as objects, since the client sends some fields in snake case."""
    return list(map(types.Content.model_validate, contents))


@asynccontextmanager
async def gemini(server, store, *, streamed):
    """A service that calls the client, with memory."""
    client = genai.Client(api_key="none", http_options={"base_url": server.url}).aio

    async def ask(request):
        if streamed:
            return await client.models.generate_content_stream(model="m", **request)
        return await client.models.generate_content(model="m", **request)

    async def close(_request):
        await client.aclose()

    async with AsyncioLayer() as bridge:
        yield memory_over(store, dialect=GeminiContents())(bridge(ask))
        await bridge(close)(None)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("form", [dict, types.Content.model_validate], ids=["mappings", "objects"])
async def test_replies_are_sent_back_as_they_came(server, store, streamed, form):
    """Calls without ids, signatures and inline data, with a server that refuses as the API does."""
    server.check = lambda body: check_gemini(body["contents"])
    pieces = PIECES if streamed else [PARTS]
    server.replies.extend([replied(pieces, streamed=streamed)] * 3)
    config = {"system_instruction": "Be brief."}

    async with gemini(server, store, streamed=streamed) as service:
        for content in (QUESTION, RESULTS):
            response = await service({"contents": [form(content)], "config": config})
            await read_if_streamed(response)
        await read_if_streamed(await service({"contents": "Again?", "config": config}))

    interrupted = [
        {"functionResponse": {"name": name, "response": {"error": INTERRUPTED_CALL}}}
        for name in ("weather", "time")
    ]
    conversation = [
        *(QUESTION, model(*PARTS), RESULTS, model(*PARTS)),
        {"role": "user", "parts": interrupted},
        {"role": "user", "parts": [{"text": "Again?"}]},
    ]
    for request, length in zip(server.requests, (1, 3, 6), strict=True):
        assert parsed(request["contents"]) == parsed(conversation[:length])
    assert all(sent["systemInstruction"]["parts"] for sent in server.requests)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_functions_that_the_client_calls_are_stored(server, store, streamed):
    """The client calls Python functions itself; the next request has these calls and results."""

    def weather(at: str) -> str:
        """Return the weather."""
        return f"sunny at {at}"

    call = [{"text": "Let "}], [{"text": "me."}, PARTS[2]]
    answer = [{"text": "It is "}], [{"text": "sunny."}]
    for pieces in (call, answer, call, answer):
        server.replies.append(replied(pieces, streamed=streamed))

    async with gemini(server, store, streamed=streamed) as service:
        for question in ("How is it?", "How is it?"):
            request = {"contents": question, "config": {"tools": [weather]}}
            await read_if_streamed(await service(request))

    items = await store.load("s")
    assert [item["role"] for item in items] == ["user", "model", "user", "model"] * 2
    (result,) = items[2]["parts"]
    assert result["functionResponse"]["response"] == {"result": "sunny at x"}
    assert server.requests[2]["contents"] == [*items[:4], items[4]]
    assert items[1]["parts"][-1] == PARTS[2]
