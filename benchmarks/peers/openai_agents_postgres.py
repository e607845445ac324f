"""The session of openai-agents on Postgres: ``SQLAlchemySession``, on asyncpg.

A turn is ``get_items`` and one ``add_items``, as in `openai_agents`. All sessions share one engine
with SQLAlchemy's default pool. A session object belongs to one session; it is created once, because
that is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.sides.postgres import PostgresSide
from benchmarks.transcripts import ChatTurn, items_of


class PooledSessions(PostgresSide):
    """One row per item, and a row for the session that each turn updates."""

    name = "openai-agents SQLAlchemySession"
    supports_limit = True

    async def __aenter__(self) -> Self:
        url = self.conninfo.replace("postgresql:", "postgresql+asyncpg:")
        self._engine = create_async_engine(url)
        self._sessions: dict[str, SQLAlchemySession] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    def _session(self, session_id: str) -> SQLAlchemySession:
        if session_id not in self._sessions:
            self._sessions[session_id] = SQLAlchemySession(
                session_id, engine=self._engine, create_tables=True
            )
        return self._sessions[session_id]

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        items: list[Any] = items_of(turns)
        await self._session(session_id).add_items(items)

    async def run_turn(self, session_id: str, prepared: list[Any]) -> None:
        """See `Side.run_turn`."""
        session = self._session(session_id)
        await session.get_items(self.limit)
        await session.add_items(prepared)

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len(await self._session(session_id).get_items(self.limit))


SIDES = [PooledSessions]
