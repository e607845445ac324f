"""The sessions of openai-agents: a turn is ``get_items`` and one ``add_items``.

A real agent run adds the user's message and the answer with two calls, which are two commits. Here
both sessions get the whole turn in one call, which is faster. Both use a write-ahead log and leave
``synchronous`` at SQLite's default, FULL. A session object belongs to one session; it is created
once and stays open, because that is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from agents.extensions.memory import AsyncSQLiteSession
from agents.memory import SQLiteSession

from benchmarks.sides import Side
from benchmarks.transcripts import ChatTurn, items_of


class _Sessions(Side):
    supports_limit = True
    session_type: ClassVar[type[Any]]

    async def __aenter__(self) -> Any:
        self._sessions: dict[str, Any] = {}
        return self

    def _session(self, session_id: str) -> Any:
        if session_id not in self._sessions:
            self._sessions[session_id] = self.session_type(session_id, self.path)
        return self._sessions[session_id]

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        await self._session(session_id).add_items(items_of(turns))

    async def run_turn(self, session_id: str, prepared: list[Any]) -> None:
        """See `Side.run_turn`."""
        session = self._session(session_id)
        await session.get_items(self.limit)
        await session.add_items(prepared)

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len(await self._session(session_id).get_items(self.limit))


class ThreadedSessions(_Sessions):
    """sqlite3 in the event loop's thread pool, with one lock per file."""

    name = "openai-agents SQLiteSession"
    session_type = SQLiteSession

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            session.close()


class AsyncSessions(_Sessions):
    """aiosqlite: each session has its own connection and thread."""

    name = "openai-agents AsyncSQLiteSession"
    session_type = AsyncSQLiteSession

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()


SIDES = [ThreadedSessions, AsyncSessions]
