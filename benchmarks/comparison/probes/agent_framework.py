"""agent-framework: an `Agent` with a `FileHistoryProvider`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from agent_framework import (
    Agent,
    AgentSession,
    BaseChatClient,
    ChatResponse,
    FileHistoryProvider,
)
from agent_framework import (
    Message as AgentMessage,
)

from benchmarks.comparison.probe import Message, Model, Probe
from benchmarks.comparison.running import main

warnings.simplefilter("ignore")  # FileHistoryProvider is marked as experimental


class _Scripted(BaseChatClient[Any]):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self._model = model

    def _inner_get_response(self, *, messages: Any, **_: Any) -> Any:
        async def respond() -> ChatResponse:
            text = await self._model([message.text for message in messages])
            return ChatResponse(messages=[AgentMessage(role="assistant", contents=[text])])

        return respond()


class AgentFramework(Probe):
    """One provider for all sessions. The key of a request is the id of its message."""

    name = "agent-framework"
    distributions = ("agent-framework-core",)
    setup = "`Agent` with `FileHistoryProvider`"
    stores = "lines"

    async def open(self) -> None:
        """See `Probe.open`."""
        self._provider = FileHistoryProvider(self.folder)

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""
        agent = Agent(client=_Scripted(model), context_providers=[self._provider])
        message = AgentMessage(role="user", contents=[text], message_id=key)
        response = await agent.run(message, session=AgentSession(session_id=session_id))
        return response.text

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        messages = await self._provider.get_messages(session_id)
        return [(str(message.role), message.text) for message in messages]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`: the provider cannot delete, so the program removes the file."""
        self._file(session_id).unlink()

    def damage(self, session_id: str) -> None:
        """See `Probe.damage`."""
        file = self._file(session_id)
        lines = file.read_bytes().splitlines()
        lines[2] = lines[2][: len(lines[2]) // 2]
        file.write_bytes(b"\n".join(lines) + b"\n")

    def _file(self, session_id: str) -> Path:
        return self.folder / f"{session_id}.jsonl"


if __name__ == "__main__":
    main(AgentFramework)
