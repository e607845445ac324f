"""The journal of an SQL store: turns that have begun and are not saved yet."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from tower_memory._capabilities.journal import PendingTurn, check_begin, check_owner, check_pending
from tower_memory._codec import ItemCodec
from tower_memory._items import Item
from tower_memory._store import check_session_id
from tower_memory._stores.records import EncodedTurn
from tower_memory._stores.sql.sql_store import SqlStore
from tower_memory._stores.turn_encoding import encoded
from tower_memory._turn import Turn


class JournalStatements(Protocol):
    """The statements of `TurnJournal`, as functions of a connection."""

    def begin(
        self,
        connection: Any,
        /,
        turn: Turn[Any],
        encoded: EncodedTurn,
        lease: float | None,
        owner: str | None,
    ) -> None:
        """Make *turn* a pending turn of its session, unless the session holds it.

        Raises:
            SessionCleared: See `SessionStore.append`.
            SessionConflict: See `TurnJournal.begin`.
            TurnMissing: See `SessionStore.append`.
        """
        ...

    def fail(self, connection: Any, /, session_id: str, turn_id: str, owner: str | None) -> None:
        """Set the state of a pending turn of *owner* to ``"failed"``."""
        ...

    def pending(
        self, connection: Any, /, session_id: str, codec: ItemCodec[Item]
    ) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first.

        Raises:
            CorruptSessionError: A pending turn cannot be decoded.
        """
        ...

    def forget(self, connection: Any, /, session_id: str, turn_id: str) -> None:
        """Remove a pending turn."""
        ...


class Journaling(SqlStore[Item]):
    """The methods of `TurnJournal`."""

    _journal: JournalStatements

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        check_begin(turn, lease, owner)
        new = await encoded(turn, self._reader)

        begin = partial(self._journal.begin, turn=turn, encoded=new, lease=lease, owner=owner)
        await self._write(begin, turn.session_id)

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        check_pending(session_id, turn_id)
        check_owner(owner)
        fail = partial(self._journal.fail, session_id=session_id, turn_id=turn_id, owner=owner)
        await self._write(fail, session_id)

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        check_session_id(session_id)
        pending = partial(self._journal.pending, session_id=session_id, codec=self._codec)
        return await self._read(pending, session_id)

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        check_pending(session_id, turn_id)
        forget = partial(self._journal.forget, session_id=session_id, turn_id=turn_id)
        await self._write(forget, session_id)
