"""The litellm client over HTTP. It needs asyncio; on trio it runs in a bridge."""

from __future__ import annotations

import json

import pytest

from helpers.layers import memory_over
from helpers.messages import SYSTEM
from helpers.provider_replies import CALLING, CHUNKS, CLIENT_WARNINGS, RESULTS, SAID, completion
from helpers.streams import read_if_streamed
from tower_memory.bridges import AsyncioLayer

pytestmark = CLIENT_WARNINGS


@pytest.mark.parametrize("stream", [False, True])
async def test_litellm(server, store, litellm, stream):
    """Plain and streamed replies are saved, and the second request holds the first turn."""

    async def ask(request):
        return await litellm.acompletion(
            api_base=server.url, api_key="none", stream=stream, **request
        )

    server.replies.extend([CHUNKS if stream else completion(CALLING)] * 2)
    async with AsyncioLayer() as bridge:
        service = memory_over(store)(bridge(ask))
        await read_if_streamed(await service({"model": "openai/m", "messages": [SYSTEM, SAID]}))
        await read_if_streamed(await service({"model": "openai/m", "messages": [SYSTEM, *RESULTS]}))

    sent = {key: value for key, value in CALLING.items() if value is not None}
    assert server.requests[1]["messages"] == [SYSTEM, SAID, sent, *RESULTS]

    stored = (await store.load("s"))[1]
    assert {key: value for key, value in stored.items() if value is not None} == sent
    assert json.dumps(stored)
