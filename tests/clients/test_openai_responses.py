"""The openai client's responses over HTTP: the second request holds the first turn.

The expected requests are those that the provider's documentation prescribes:

- All items of ``output``, reasoning included, then ``function_call_output`` items
  (https://platform.openai.com/docs/guides/function-calling,
  https://platform.openai.com/docs/guides/reasoning).
"""

from __future__ import annotations

import openai
import pytest

from helpers.layers import memory_over
from helpers.messages import user
from helpers.provider_replies import ASKED, CLIENT_WARNINGS, OUTPUT, OUTPUTS, events_of, response
from helpers.stream_chunks import SPOKEN
from helpers.streams import read_if_streamed
from tower_memory.dialects import OpenAIResponses

pytestmark = CLIENT_WARNINGS


def responses_plain(client):
    return client.responses.create


def responses_streamed(client):
    async def create(**request):
        return await client.responses.create(stream=True, **request)

    return create


def responses_parsed(client):
    return client.responses.parse


def responses_helper(client):
    async def stream(**request):
        return client.responses.stream(**request)

    return stream


@pytest.mark.parametrize(
    "way", [responses_plain, responses_streamed, responses_parsed, responses_helper]
)
async def test_openai_responses(server, store, way):
    """Plain, streamed and parsed replies, and the stream helper, are all sent back alike."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await way(client)(**request)

        service = memory_over(store, dialect=OpenAIResponses())(ask)
        is_stream = way in (responses_streamed, responses_helper)
        server.replies.extend([events_of(OUTPUT) if is_stream else response(OUTPUT)] * 2)
        request = {
            "model": "m",
            "instructions": "Be brief.",
            "include": ["reasoning.encrypted_content"],
            "store": False,
        }
        await read_if_streamed(await service({**request, "input": [ASKED]}))
        await read_if_streamed(await service({**request, "input": OUTPUTS}))

    assert server.requests[0]["input"] == [ASKED]
    assert server.requests[1]["input"] == [ASKED, *OUTPUT, *OUTPUTS]

    for sent in server.requests:
        assert {key: sent[key] for key in request} == request


async def test_openai_responses_are_not_given_the_history_twice(server, store):
    """A request that names a stored response or conversation is sent without the history."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await client.responses.create(**request)

        service = memory_over(store, dialect=OpenAIResponses())(ask)
        server.replies.extend([response(OUTPUT), response([SPOKEN]), response([SPOKEN])])
        await service({"model": "m", "input": "Hi"})
        await service({"model": "m", "input": OUTPUTS, "previous_response_id": "resp_1"})
        await service({"model": "m", "input": "And?", "conversation": "conv_1"})

    assert [sent["input"] for sent in server.requests] == ["Hi", OUTPUTS, "And?"]

    said = user("Hi")
    kept = [said, *OUTPUT, *OUTPUTS, SPOKEN, user("And?"), SPOKEN]

    assert await store.load("s") == kept
