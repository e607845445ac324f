"""The journal of a file: turns that have begun and are not saved yet."""

from __future__ import annotations

from functools import partial

from tower_memory._capabilities.journal import PendingTurn, check_begin, check_owner, check_pending
from tower_memory._items import Item
from tower_memory._store import check_session_id
from tower_memory._stores.sqlite import journal
from tower_memory._stores.sqlite.file_store import FileStore
from tower_memory._stores.turn_encoding import encoded
from tower_memory._turn import Turn


class Journaling(FileStore[Item]):
    """The methods of `TurnJournal`."""

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        check_begin(turn, lease, owner)
        new = await encoded(turn, self._reader)

        begin = partial(journal.begin, turn=turn, encoded=new, lease=lease, owner=owner)
        file = await self._open_file()
        await file.write(turn.session_id, begin, self.busy_timeout)

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        check_pending(session_id, turn_id)
        check_owner(owner)
        fail = partial(journal.fail, session_id=session_id, turn_id=turn_id, owner=owner)
        file = await self._open_file()
        await file.write(session_id, fail, self.busy_timeout)

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        check_session_id(session_id)
        pending = partial(journal.pending, session_id=session_id, codec=self._codec)
        file = await self._open_file()
        return await file.read(pending, self.busy_timeout, session_id)

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        check_pending(session_id, turn_id)
        forget = partial(journal.forget, session_id=session_id, turn_id=turn_id)
        file = await self._open_file()
        await file.write(session_id, forget, self.busy_timeout)
