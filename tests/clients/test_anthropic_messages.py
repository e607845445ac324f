"""The anthropic client over HTTP: the second request holds the first turn.

The expected requests are those that the provider's documentation prescribes:

- An assistant's message with all blocks as they came, thinking with its signature, then a user's
  message that begins with the ``tool_result`` blocks
  (https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking).
"""

from __future__ import annotations

import anthropic
import pytest

from helpers.layers import memory_over
from helpers.messages import assistant
from helpers.provider_replies import (
    ASKING,
    ASKING_STORED,
    BLOCKS,
    CLIENT_WARNINGS,
    TOOL_RESULTS,
    anthropic_message,
    message_events,
)
from helpers.streams import read_if_streamed
from tower_memory.dialects import AnthropicMessages

pytestmark = CLIENT_WARNINGS


def messages_plain(client):
    return client.messages.create


def messages_streamed(client):
    async def create(**request):
        return await client.messages.create(stream=True, **request)

    return create


def messages_helper(client):
    async def stream(**request):
        return client.messages.stream(**request)

    return stream


@pytest.mark.parametrize("way", [messages_plain, messages_streamed, messages_helper])
async def test_anthropic_messages(server, store, way):
    """Plain and streamed replies, and the stream helper, are all sent back alike."""
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return await way(client)(**request)

        service = memory_over(store, dialect=AnthropicMessages())(ask)
        reply = anthropic_message(BLOCKS) if way is messages_plain else list(message_events())
        server.replies.extend([reply] * 2)
        system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
        request = {"model": "m", "max_tokens": 1000, "system": system}
        await read_if_streamed(await service({**request, "messages": [ASKING]}))
        await read_if_streamed(await service({**request, "messages": [TOOL_RESULTS]}))

    assert server.requests[0]["messages"] == [ASKING]
    assert server.requests[1]["messages"] == [
        ASKING_STORED,
        assistant(BLOCKS),
        TOOL_RESULTS,
    ]
    assert all(sent["system"] == system for sent in server.requests)


async def test_a_stream_read_through_anthropics_helper_is_saved(server, store):
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client:

        async def ask(request):
            return client.messages.stream(**request)

        service = memory_over(store, dialect=AnthropicMessages())(ask)
        server.replies.extend([list(message_events())] * 2)
        request = {"model": "m", "max_tokens": 1000}
        async with await service({**request, "messages": [ASKING]}) as stream:
            assert [text async for text in stream.text_stream] == ["Let ", "me see."]
        async with await service({**request, "messages": [TOOL_RESULTS]}) as stream:
            final = await stream.get_final_message()

    assert len(await store.load("s")) == 4
    assert final.stop_reason == "tool_use"
