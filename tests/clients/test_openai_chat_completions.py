"""The openai client's chat completions over HTTP: the second request holds the first turn.

The expected requests are those that the provider's documentation prescribes:

- The reply's message, then a ``tool`` message for each of its calls
  (https://platform.openai.com/docs/guides/function-calling?api-mode=chat).
"""

from __future__ import annotations

import openai
import pydantic
import pytest

from helpers.layers import memory_over
from helpers.messages import SYSTEM, user
from helpers.provider_replies import CALLING, CHUNKS, CLIENT_WARNINGS, RESULTS, SAID, completion
from helpers.streams import read_if_streamed
from tower_memory.bridges import AsyncioLayer

pytestmark = CLIENT_WARNINGS


def plain(client):
    return client.chat.completions.create


def streamed(client):
    async def create(**request):
        return await client.chat.completions.create(stream=True, **request)

    return create


def parsed(client):
    return client.chat.completions.parse


def helper(client):
    async def stream(**request):
        return client.chat.completions.stream(**request)

    return stream


class Answer(pydantic.BaseModel):
    answer: int


@pytest.mark.parametrize("way", [plain, streamed, parsed, helper])
async def test_openai_chat_completions(server, store, way):
    """Plain, streamed and parsed replies, and the stream helper, are all sent back alike."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await way(client)(**request)

        service = memory_over(store)(ask)
        is_stream = way in (streamed, helper)
        server.replies.extend([CHUNKS if is_stream else completion(CALLING)] * 2)
        request = {"model": "m", "temperature": 0.5, "messages": [SYSTEM, SAID]}

        if way is parsed:
            request["response_format"] = Answer
            server.replies[0] = completion({**CALLING, "content": '{"answer": 1}'})

        first = await read_if_streamed(await service(request))
        if way is parsed:
            assert first.choices[0].message.parsed == Answer(answer=1)
        await read_if_streamed(await service({"model": "m", "messages": [SYSTEM, *RESULTS]}))

    content = '{"answer": 1}' if way is parsed else CALLING["content"]
    assert server.requests[0]["messages"] == [SYSTEM, SAID]
    assert server.requests[0]["temperature"] == 0.5
    assert server.requests[1]["messages"] == [
        SYSTEM,
        SAID,
        {**CALLING, "content": content},
        *RESULTS,
    ]


async def test_openai_streams_are_passed_on_while_they_come(server, store):
    server.slow = True
    server.replies.append(CHUNKS)

    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await client.chat.completions.create(stream=True, **request)

        async with await memory_over(store)(ask)({"model": "m", "messages": [SAID]}) as stream:
            assert isinstance(stream, openai.AsyncStream)
            assert stream.response.status_code == 200
            async for number, each in enumerated(stream):
                assert each.model_dump(exclude_unset=True) == CHUNKS[number]
                server.go_on.set()  # the server sends the next chunk only now

    assert len(await store.load("s")) == 2


async def enumerated(stream):
    number = 0
    async for each in stream:
        yield number, each
        number += 1


async def test_an_openai_stream_that_breaks_saves_nothing(server, store):
    """With keep_interrupted, the text before the break is saved and sent back."""
    server.replies.append([*CHUNKS[:5], None])

    async with openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client:

        async def ask(request):
            return await client.chat.completions.create(stream=True, **request)

        with pytest.raises(openai.APIConnectionError):
            await read_if_streamed(
                await memory_over(store)(ask)({"model": "m", "messages": [SAID]})
            )

        assert await store.load("s") == []

        server.replies.append([*CHUNKS[:7], None])
        keeping = memory_over(store, keep_interrupted=True)(ask)

        with pytest.raises(openai.APIConnectionError):
            await read_if_streamed(await keeping({"model": "m", "messages": [SAID]}))

        server.replies.append(CHUNKS)
        again = user("Go on.")
        await read_if_streamed(await keeping({"model": "m", "messages": [again]}))

    said, cut_off, last = server.requests[-1]["messages"]
    assert (said, last) == (SAID, again)
    assert cut_off == {
        "role": "assistant",
        "content": "Let me see.\n\n(interrupted: this reply is not complete)",
        "refusal": None,
        "reasoning_content": "A vendor's own field.",
    }


async def test_a_client_stays_in_the_event_loop_that_made_it(server, store):
    server.replies.append(CHUNKS)
    clients = []

    async def ask(request):
        clients.append(openai.AsyncOpenAI(base_url=server.url, api_key="none"))
        return await clients[0].chat.completions.create(stream=True, **request)

    async def end(_request):
        await clients[0].close()

    async with AsyncioLayer() as bridge:
        async with await memory_over(store)(bridge(ask))({"model": "m", "messages": [SAID]}) as got:
            assert got.response.status_code == 200
            assert [each.model_dump(exclude_unset=True) async for each in got] == CHUNKS
        await bridge(end)(None)

    assert len(await store.load("s")) == 2
