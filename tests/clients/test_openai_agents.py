"""An agent of openai-agents over HTTP. It needs asyncio; on trio it runs in a bridge."""

from __future__ import annotations

import agents
import openai

from helpers.layers import memory_over
from helpers.messages import user
from helpers.provider_replies import CLIENT_WARNINGS, FUNCTION_CALLS, REASONING, response
from helpers.stream_chunks import SPOKEN
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import OpenAIResponses

pytestmark = CLIENT_WARNINGS


async def test_openai_agents(server, store):
    """All items of a run with a tool call are saved, and the next run starts with them."""
    said = {"type": "output_text", "text": "It is sunny.", "annotations": []}
    final = {**SPOKEN, "id": "msg_2", "content": [said]}

    @agents.function_tool
    def weather() -> str:
        return "sunny"

    agents.set_tracing_disabled(True)

    async def run(items):
        async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
            model = agents.OpenAIResponsesModel("m", client)
            agent = agents.Agent(name="a", model=model, tools=[weather])
            return (await agents.Runner.run(agent, items)).to_input_list()

    calling = [REASONING, FUNCTION_CALLS[0]]
    server.replies.extend([response(calling), response([final]), response([final])])

    async with AsyncioLayer() as bridge:
        service = memory_over(store, dialect=OpenAIResponses())(bridge(run))
        first, second = (user(text) for text in ("Hi", "And?"))
        await service([first])
        kept = list(await store.load("s"))
        assert [item.get("type", item.get("role")) for item in kept] == [
            *("user", "reasoning", "function_call", "function_call_output", "message"),
        ]
        await service([second])

    assert server.requests[2]["input"] == [*kept, second]
    assert server.requests[1]["input"] == kept[:-1]
    assert len(await store.load("s")) == 7
