"""Rules of pydantic-ai for a conversation that is sent back to the provider.

The rules are those of the provider's documentation, and of the request types of its client.
"""

from __future__ import annotations

import pytest
from pydantic_ai import Agent
from pydantic_ai import messages as pydantic_ai
from pydantic_ai.models.function import FunctionModel

from helpers.layers import memory_over
from tower_memory import InMemorySessionStore
from tower_memory.bridges import AsyncioLayer
from tower_memory.dialects import PydanticAI


async def test_an_agent_that_returns_its_whole_conversation_is_saved_once():
    agent = Agent(
        FunctionModel(lambda messages, _: pydantic_ai.ModelResponse([pydantic_ai.TextPart("b")])),
        instructions="Be brief.",
        system_prompt="In French.",
    )

    async def run(messages):
        result = await agent.run(message_history=list(messages))
        return result.all_messages()

    store = InMemorySessionStore()
    async with AsyncioLayer() as bridge:
        layer = memory_over(store, dialect=PydanticAI())
        for text in "acd":
            await layer(bridge(run))([pydantic_ai.ModelRequest.user_text_prompt(text)])

    items = await store.load("s")
    assert [item["kind"] for item in items] == ["request", "response"] * 3

    prompts = [item["parts"][0]["content"] for item in items[::2]]
    assert prompts == ["a", "c", "d"]
    assert not any(item.get("instructions") for item in items)


def test_results_of_interrupted_calls_stand_before_the_content_of_the_request():
    calls = [pydantic_ai.ToolCallPart("f", {}, each) for each in "12"]
    response = pydantic_ai.ModelResponse(calls)
    (item,) = PydanticAI().reply_items([pydantic_ai.ModelRequest([])], response)
    request = pydantic_ai.ModelRequest(
        [pydantic_ai.ToolReturnPart("f", "c", "1"), pydantic_ai.UserPromptPart("and")],
        instructions="Be brief.",
    )
    _, given = PydanticAI().with_history([request], [item])

    assert [part.part_kind for part in given.parts] == ["tool-return", "tool-return", "user-prompt"]
    assert given.parts[0].outcome == "interrupted"
    assert given.parts[0].timestamp == response.timestamp  # the same for every request
    assert given.instructions == "Be brief."


def test_messages_of_other_libraries_are_refused():
    with pytest.raises(TypeError, match=r"request\.messages\[0\] must be a pydantic-ai message"):
        PydanticAI().new_items([{"kind": "request", "parts": []}])
