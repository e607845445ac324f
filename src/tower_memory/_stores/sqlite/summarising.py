"""The summaries of the sessions of a file."""

from __future__ import annotations

from functools import partial

from tower_memory._capabilities.summaries import Summary, check_load_summary, check_save_summary
from tower_memory._items import Item
from tower_memory._stores.sqlite import summaries
from tower_memory._stores.sqlite.file_store import FileStore


class Summarising(FileStore[Item]):
    """The methods of `SessionSummaries`."""

    async def load_summary(self, session_id: str, *, name: str = "summary") -> Summary | None:
        """Return a summary of a session, or None (`SessionSummaries.load_summary`)."""
        check_load_summary(session_id, name)
        find = partial(summaries.find, session_id=session_id, name=name)
        file = await self._open_file()
        return await file.read(find, self.busy_timeout, session_id)

    async def save_summary(
        self, session_id: str, text: str, *, turn_id: str, since: int, name: str = "summary"
    ) -> Summary | None:
        """Store a summary of the turns up to *turn_id* (`SessionSummaries.save_summary`)."""
        check_save_summary(session_id, text, turn_id, since, name)

        save = partial(
            summaries.save,
            session_id=session_id,
            text=text,
            turn_id=turn_id,
            since=since,
            name=name,
        )

        file = await self._open_file()
        return await file.write(session_id, save, self.busy_timeout)
