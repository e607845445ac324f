"""OpenAI's client of responses in conversations with a server that refuses.

The first reply of each conversation is harmful: sent back as it came, the server would refuse it,
and so every later request of the session. The test asserts that the server accepts all requests,
and that the store has each reply as the client tells it.
"""

from __future__ import annotations

import pytest

from helpers.harmful_replies import RESPONSES
from helpers.messages import user
from helpers.provider_replies import CLIENT_WARNINGS
from helpers.refusing_servers import (
    both_ways,
    converse,
    harms,
    openai_client,
    remember,
    script_responses,
)
from tower_memory.dialects import OpenAIResponses

pytestmark = CLIENT_WARNINGS


@pytest.mark.parametrize("stores", [True, False], ids=["store", "store=False"])
@both_ways
@harms(RESPONSES)
async def test_openai(server, sqlite, harm, streamed, stores):
    """Plain and streamed, and with a server that stores replies or does not."""
    script_responses(server, harm, streamed, stores)
    options = {} if stores else {"store": False}

    def follow(output):
        calls = [item["call_id"] for item in output if item["type"] == "function_call"]
        if harm.answered and calls:
            return {"input": list(map(call_output, calls)), **options}
        return {"input": [user("And?")], **options}

    async with openai_client(server) as client:

        async def ask(request):
            return await client.responses.create(model="m", stream=streamed, **request)

        service = remember(sqlite, OpenAIResponses(), ask)

        async def send(request):
            reply = await service(request)
            if streamed:
                async with reply as stream:
                    reply = [event async for event in stream][-1].response
            return [item.to_dict() for item in reply.output]

        outputs = await converse(server, send, {"input": [user("Hi")], **options}, follow)

    stored = [item for item in await sqlite.load("s") if "id" in item]
    assert stored == [item for output in outputs for item in output]


def call_output(call_id):
    return {"type": "function_call_output", "call_id": call_id, "output": "sunny"}
