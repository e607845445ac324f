"""Conversations of pydantic-ai that three processes continue at the same time."""

from __future__ import annotations

import pytest

from helpers.processes import start_python
from helpers.stores import every_shared_store, open_store
from tower_memory.integrations.pydantic_ai import SessionConversationStore

WRITER = """
import sys
import anyio
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart
from helpers.stores import open_store
from tower_memory.integrations.pydantic_ai import SessionConversationStore

async def main():
    address, _, name, count = sys.argv[1:]
    async with open_store(address) as store:
        conversations = SessionConversationStore(store)
        print("ready", flush=True)
        input()
        for n in range(int(count)):
            said = f"{name} {n}"
            while True:
                conversation = await conversations.load("c", limit=2)
                conversation = conversation or Conversation(conversation_id="c")
                conversation.messages.append(ModelRequest.user_text_prompt(said))
                conversation.messages.append(ModelResponse([TextPart(f"re: {said}")]))
                conversation.usage.requests += 1
                try:
                    await conversations.save(conversation)
                except ConversationConflict:
                    continue
                break

anyio.run(main, backend=sys.argv[2])
"""

WRITERS = {"a": "asyncio", "b": "asyncio", "c": "trio"}


@pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.long)])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@every_shared_store
async def test_each_turn_of_three_processes_is_saved_once_in_one_history(address, count):
    writers = [
        start_python(WRITER, address, backend, name, count) for name, backend in WRITERS.items()
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.close()
    for writer in writers:
        with writer:
            assert writer.wait() == 0

    async with open_store(address) as store:
        conversations = SessionConversationStore(store)
        loaded = await conversations.load("c")
        said = [message.parts[0].content for message in loaded.messages]
        assert said[1::2] == [f"re: {each}" for each in said[::2]]
        for name in WRITERS:
            own = [each for each in said[::2] if each.startswith(name)]
            assert own == [f"{name} {n}" for n in range(count)]
        assert len(said) == 2 * len(WRITERS) * count
        assert loaded.usage.requests == len(WRITERS) * count

        (record,) = await conversations.list_conversations()
        assert record.branches == []
        assert len(await store.load("c")) == 3 * len(WRITERS) * count
