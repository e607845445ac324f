"""The sessions of openai-agents: a turn is ``get_items`` and one ``add_items``.

An agent's run adds the user's message and the answer with two calls, two commits; here both
sessions are given the turn in one, which is faster. Both write a write-ahead log, and leave
``synchronous`` as SQLite has it, FULL. They are objects of one session each, made once and kept
open, as is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from agents.extensions.memory import AsyncSQLiteSession
from agents.memory import SQLiteSession

from benchmarks.sides import Side
from benchmarks.transcripts import ChatTurn


class _Sessions(Side):
    has_limit = True
    kind: ClassVar[type[Any]]

    async def __aenter__(self) -> Any:
        self._sessions: dict[str, Any] = {}
        return self

    def _session(self, session: str) -> Any:
        if session not in self._sessions:
            self._sessions[session] = self.kind(session, self.path)
        return self._sessions[session]

    async def fill(self, session: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        await self._session(session).add_items([item for turn in turns for item in turn.items])

    async def turn(self, session: str, new: list[Any]) -> None:
        """See `Side.turn`."""
        opened = self._session(session)
        await opened.get_items(self.limit)
        await opened.add_items(new)

    async def load(self, session: str) -> int:
        """See `Side.load`."""
        return len(await self._session(session).get_items(self.limit))


class Threaded(_Sessions):
    """sqlite3 in the event loop's pool of threads, with a lock for the file."""

    name = "openai-agents SQLiteSession"
    kind = SQLiteSession

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            session.close()


class Async(_Sessions):
    """aiosqlite: each session has a connection and its thread."""

    name = "openai-agents AsyncSQLiteSession"
    kind = AsyncSQLiteSession

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()


SIDES = [Threaded, Async]
