"""openai-agents: `Runner.run` with a `SQLiteSession`."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from agents import Agent, ModelResponse, Runner, Usage, set_tracing_disabled
from agents import Model as AgentModel
from agents.memory import SQLiteSession
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from benchmarks.comparison.probe import Message, Model, Probe
from benchmarks.comparison.running import main

set_tracing_disabled(disabled=True)


class _Scripted(AgentModel):
    def __init__(self, model: Model) -> None:
        self._model = model

    async def get_response(self, *_: Any, **arguments: Any) -> ModelResponse:
        items = arguments["input"]
        texts = [items] if isinstance(items, str) else [_text(item) for item in items]
        content = ResponseOutputText(
            annotations=[], text=await self._model(texts), type="output_text"
        )
        message = ResponseOutputMessage(
            id=f"msg_{uuid4().hex}",
            content=[content],
            role="assistant",
            status="completed",
            type="message",
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def _text(item: Any) -> str:
    content = item["content"]
    return content if isinstance(content, str) else content[0]["text"]


class OpenAIAgents(Probe):
    """One session object for each session, which stays open. It has no keys of requests."""

    name = "openai-agents"
    distributions = ("openai-agents", "openai")
    setup = "`Runner.run(session=SQLiteSession(...))`"
    stores = "sqlite"

    async def open(self) -> None:
        """See `Probe.open`."""
        self._sessions: dict[str, SQLiteSession] = {}

    async def close(self) -> None:
        """See `Probe.close`."""
        for session in self._sessions.values():
            session.close()

    def _session(self, session_id: str) -> SQLiteSession:
        if session_id not in self._sessions:
            self._sessions[session_id] = SQLiteSession(session_id, self.path)
        return self._sessions[session_id]

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""
        del key
        agent = Agent(name="assistant", model=_Scripted(model))
        result = await Runner.run(agent, text, session=self._session(session_id))
        reply: str = result.final_output
        return reply

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        items: list[Any] = await self._session(session_id).get_items()
        return [(item["role"], _text(item)) for item in items]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`."""
        await self._session(session_id).clear_session()

    def damage(self, session_id: str) -> None:
        """See `Probe.damage`."""
        self.halve(
            "agent_messages",
            "message_data",
            f"SELECT rowid FROM agent_messages WHERE session_id = '{session_id}'"  # noqa: S608
            " ORDER BY id LIMIT 1 OFFSET 2",
        )


if __name__ == "__main__":
    main(OpenAIAgents)
