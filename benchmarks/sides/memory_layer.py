"""tower-memory with its default settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import anyio

from benchmarks.sides.base import Side
from benchmarks.transcripts import ChatTurn
from tower_memory import LoadSession, MemoryLayer, SaveSession, SqliteSessionStore, Turn

_SIMULTANEOUS_APPENDS = 500


class TowerMemory(Side):
    """A `MemoryLayer` over a `SqliteSessionStore`, around `scripted_reply`."""

    name = "tower-memory"

    def __init__(
        self,
        path: Path,
        *,
        limit: int | None = None,
        overlap: Literal["serialize", "append"] = "serialize",
    ) -> None:
        super().__init__(path, limit=limit)
        self.store: SqliteSessionStore[Any] = SqliteSessionStore(path)

        memory = MemoryLayer(
            LoadSession(self.store, limit=limit),
            SaveSession(self.store),
            session_id=lambda request: request["session"],
            overlap=overlap,
        )
        self._service = memory(scripted_reply)

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.aclose()

    def prepare(self, turn: ChatTurn) -> dict[str, Any]:
        """See `Side.prepare`."""
        return request_for(turn)

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """Append each turn; several turns are appended concurrently, so that they share commits."""
        if len(turns) == 1:
            await self.store.append(Turn(session_id, turns[0].items))
            return

        for first in range(0, len(turns), _SIMULTANEOUS_APPENDS):
            async with anyio.create_task_group() as tasks:
                for turn in turns[first : first + _SIMULTANEOUS_APPENDS]:
                    tasks.start_soon(self.store.append, Turn(session_id, turn.items))

    async def run_turn(self, session_id: str, prepared: dict[str, Any]) -> None:
        """See `Side.run_turn`."""
        await self._service({**prepared, "session": session_id})

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len([*await self.store.load(session_id, limit=self.limit)])


class TowerMemoryAppending(TowerMemory):
    """The same with ``overlap="append"``: turns of one session overlap."""

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        super().__init__(path, limit=limit, overlap="append")


def request_for(turn: ChatTurn) -> dict[str, Any]:
    """Return a request with the turn's new message, and with the reply for `scripted_reply`."""
    *tool_messages, answer = turn.answer
    reply = {"messages": turn.answer} if tool_messages else answer
    return {"messages": [turn.user_message], "reply": reply}


async def scripted_reply(request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply that *request* carries: one message, or several with a tool call."""
    reply: dict[str, Any] = request["reply"]
    return reply
