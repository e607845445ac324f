"""The summaries of the sessions of a store in memory."""

from __future__ import annotations

from time import time_ns

from anyio.lowlevel import checkpoint

from tower_memory._capabilities.summaries import Summary, check_load_summary, check_save_summary
from tower_memory._items import Item
from tower_memory._stores.in_memory.memory_store import MemoryStore
from tower_memory._stores.records import to_datetime


class Summarising(MemoryStore[Item]):
    """The methods of `SessionSummaries`."""

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        check_load_summary(session_id, name)
        await checkpoint()
        session = self._sessions.get(session_id)
        return session.summaries.get(name) if session else None

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        check_save_summary(session_id, text, turn_id, since, name)
        await checkpoint()

        session = self._sessions.get(session_id)
        number = session.held.get(turn_id) if session else None
        if session is None or number is None or number > since:
            return None

        index, present = session.index_of(turn_id), session.summaries.get(name)
        if present is None or session.index_of(present.turn_id) < index:
            created_at = to_datetime(time_ns())
            present = Summary(text, turn_id, session.end_of(index), created_at)
            session.summaries[name] = present
        return present
