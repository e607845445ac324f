"""google-adk: a `Runner` with a `SqliteSessionService`."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator
from typing import Any

warnings.simplefilter("ignore")  # of experimental features

from google.adk.agents import LlmAgent  # noqa: E402
from google.adk.models.base_llm import BaseLlm  # noqa: E402
from google.adk.models.llm_response import LlmResponse  # noqa: E402
from google.adk.runners import Runner  # noqa: E402
from google.adk.sessions.sqlite_session_service import SqliteSessionService  # noqa: E402
from google.genai import types  # noqa: E402

from benchmarks.comparison.probe import Message, Model, Probe  # noqa: E402
from benchmarks.comparison.running import main  # noqa: E402


class _Scripted(BaseLlm):
    answer: Any = None

    async def generate_content_async(
        self,
        llm_request: Any,
        stream: bool = False,  # noqa: FBT001, FBT002 - its interface
    ) -> AsyncGenerator[LlmResponse, None]:
        del stream
        texts = [_text(content) for content in llm_request.contents]
        part = types.Part(text=await self.answer(texts))
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def _text(content: Any) -> str:
    return "".join(part.text or "" for part in content.parts or ())


class GoogleADK(Probe):
    """`run_async` with sessions made on demand. It has no keys of requests."""

    name = "google-adk"
    distributions = ("google-adk", "google-genai")
    setup = "`Runner` with `SqliteSessionService`"
    stores = "sqlite"

    async def open(self) -> None:
        """See `Probe.open`."""
        self._service = SqliteSessionService(str(self.path))

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""
        del key
        agent = LlmAgent(name="assistant", model=_Scripted(model="scripted", answer=model))
        runner = Runner(
            app_name="probe",
            agent=agent,
            session_service=self._service,
            auto_create_session=True,
        )
        message = types.Content(role="user", parts=[types.Part(text=text)])

        reply = ""
        async for event in runner.run_async(
            user_id="user", session_id=session_id, new_message=message
        ):
            if event.error_code:
                raise RuntimeError(event.error_code)
            if event.content:
                reply = _text(event.content)
        return reply

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        session = await self._service.get_session(
            app_name="probe", user_id="user", session_id=session_id
        )
        events = session.events if session else []
        return [
            ("user" if event.author == "user" else "assistant", _text(event.content))
            for event in events
            if event.content
        ]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`."""
        await self._service.delete_session(app_name="probe", user_id="user", session_id=session_id)

    def damage(self, session_id: str) -> None:
        """See `Probe.damage`."""
        self.halve(
            "events",
            "event_data",
            f"SELECT rowid FROM events WHERE session_id = '{session_id}'"  # noqa: S608
            " ORDER BY rowid LIMIT 1 OFFSET 2",
        )


if __name__ == "__main__":
    main(GoogleADK)
