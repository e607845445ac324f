"""pydantic-ai: `Agent.run` with a conversation of an `InMemoryConversationStore`."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import InMemoryConversationStore
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import UsageLimits

from benchmarks.comparison.probe import Message, Model, Probe
from benchmarks.comparison.running import main

# A conversation keeps its usage, and by default the 51st request of a conversation is refused.
_NO_LIMIT = UsageLimits(request_limit=None)


class _FailingStore(InMemoryConversationStore):
    """Fails once."""

    async def write_record(self, *_: Any, **__: Any) -> None:
        self.__class__ = InMemoryConversationStore
        raise OSError(28, "No space left on device")


class PydanticAI(Probe):
    """The three calls of its guide: load, run, save. It has no keys of requests."""

    name = "pydantic-ai"
    distributions = ("pydantic-ai-slim",)
    setup = "`Agent.run(conversation=...)` with `InMemoryConversationStore`"
    stores = "memory"
    has_reply_before_save = True

    async def open(self) -> None:
        """See `Probe.open`."""
        self._store = InMemoryConversationStore()

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""
        del key

        async def answer(messages: list[Any], _: Any) -> ModelResponse:
            texts = [str(part.content) for message in messages for part in message.parts]
            return ModelResponse(parts=[TextPart(await model(texts))])

        conversation = await self._store.load(session_id)
        conversation = conversation or Conversation(conversation_id=session_id)
        agent = Agent(FunctionModel(answer))
        result = await agent.run(text, conversation=conversation, usage_limits=_NO_LIMIT)
        await self._store.save(result)
        return result.output

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        conversation = await self._store.load(session_id)
        messages = conversation.messages if conversation else []
        roles = {"request": "user", "response": "assistant"}
        return [
            (roles[message.kind], str(part.content))
            for message in messages
            for part in message.parts
            if part.part_kind in {"user-prompt", "text"}
        ]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`."""
        await self._store.delete(session_id)

    def fail_saves(self) -> None:
        """See `Probe.fail_saves`."""
        self._store.__class__ = _FailingStore


if __name__ == "__main__":
    main(PydanticAI)
