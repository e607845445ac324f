"""Erasing the sessions of a store in memory."""

from __future__ import annotations

from datetime import datetime

from anyio.lowlevel import checkpoint

from tower_memory._capabilities.erasure import Erasure, check_erase, must_erase
from tower_memory._items import Item
from tower_memory._stores.in_memory.memory_store import MemoryStore
from tower_memory._stores.records import to_datetime


class Erasing(MemoryStore[Item]):
    """The methods of `SessionErasure`."""

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions for good, and return their numbers (`SessionErasure.erase`)."""
        check_erase(session_id, prefix, inactive_since, expected_revision)
        await checkpoint()

        named = [str(session_id)] if prefix is None else self._sessions.ids_with(prefix)
        sessions = turns = items = 0
        for each in named:
            session = self._sessions.get(each)
            if inactive_since is not None and not (
                session and to_datetime(session.updated_at) < inactive_since
            ):
                continue

            revision = session.revision if session else self._sessions.tombstone_number(each)
            exists = session is not None
            if not must_erase(each, exists=exists, revision=revision, expected=expected_revision):
                continue

            self._sessions.erase(each)
            if session is not None:
                sessions += 1
                turns += len(session.content.turns)
                items += session.content.end
        return Erasure(sessions, turns, items)

    async def scrub(self) -> None:
        """Do nothing: a store in memory has no files (`SessionErasure.scrub`)."""
        await checkpoint()
