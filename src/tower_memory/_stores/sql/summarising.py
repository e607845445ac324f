"""The summaries of the sessions of an SQL store."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from tower_memory._capabilities.summaries import Summary, check_load_summary, check_save_summary
from tower_memory._items import Item
from tower_memory._stores.sql.sql_store import SqlStore


class SummaryStatements(Protocol):
    """The statements of `SessionSummaries`, as functions of a connection."""

    def find(self, connection: Any, /, session_id: str, name: str) -> Summary | None:
        """Return the summary *name* of a session, or None.

        Raises:
            CorruptSessionError: The text cannot be decoded.
        """
        ...

    def save(
        self, connection: Any, /, session_id: str, text: str, *, turn_id: str, since: int, name: str
    ) -> Summary | None:
        """Store a summary, unless the present one covers as much; return the stored summary.

        Return None if the turns up to *turn_id* have changed after *since*, or are not there.

        Raises:
            CorruptSessionError: The text of the present summary cannot be decoded.
        """
        ...


class Summarising(SqlStore[Item]):
    """The methods of `SessionSummaries`."""

    _summaries: SummaryStatements

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        check_load_summary(session_id, name)
        find = partial(self._summaries.find, session_id=session_id, name=name)
        return await self._read(find, session_id)

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        check_save_summary(session_id, text, turn_id, since, name)

        save = partial(
            self._summaries.save,
            session_id=session_id,
            text=text,
            turn_id=turn_id,
            since=since,
            name=name,
        )
        return await self._write(save, session_id)
