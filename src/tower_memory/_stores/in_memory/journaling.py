"""The journal of a store in memory: turns that have begun and are not saved yet."""

from __future__ import annotations

from time import time_ns

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from tower_memory._capabilities.journal import PendingTurn, check_begin, check_owner, check_pending
from tower_memory._items import Item
from tower_memory._store import check_session_id
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.in_memory.memory_store import MemoryStore
from tower_memory._stores.pending_turns import begun, check_owner_may_begin
from tower_memory._stores.turn_encoding import encoded
from tower_memory._turn import Turn


class Journaling(MemoryStore[Item]):
    """The methods of `TurnJournal`."""

    async def begin(
        self, turn: Turn[Item], *, lease: float | None = None, owner: str | None = None
    ) -> None:
        """Make *turn* a pending turn of its session (`TurnJournal.begin`)."""
        check_begin(turn, lease, owner)
        new = await encoded(turn, self._reader)
        await checkpoint_if_cancelled()  # later, the turn is written

        state = self._sessions.state_before(turn)
        if state.holds_turn:
            return
        must_write(state, turn)  # makes the checks; a turn without items is written, too

        session, now = self._sessions.get(turn.session_id), time_ns()
        present = session.pending.get(turn.turn_id) if session else None
        check_owner_may_begin(turn, owner, present, now)

        session = session or self._sessions.create(turn.session_id)
        pending = begun(turn, new, lease, owner, now)
        if present is not None:
            pending = pending._replace(created_at=present.created_at)
        session.pending[turn.turn_id] = pending

    async def fail(self, session_id: str, turn_id: str, *, owner: str | None = None) -> None:
        """Set the state of a pending turn to ``"failed"`` (`TurnJournal.fail`)."""
        check_pending(session_id, turn_id)
        check_owner(owner)
        await checkpoint()

        session = self._sessions.get(session_id)
        pending = session.pending if session else {}
        if (present := pending.get(turn_id)) is not None and present.owner == owner:
            pending[turn_id] = present._replace(failed=True)

    async def pending(self, session_id: str) -> list[PendingTurn[Item]]:
        """Return the pending turns of a session, the oldest first (`TurnJournal.pending`)."""
        check_session_id(session_id)
        await checkpoint()

        session, now = self._sessions.get(session_id), time_ns()
        stored = session.pending.values() if session else ()
        return [each.read(session_id, self._codec, n, now) for n, each in enumerate(stored)]

    async def forget(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn of any owner (`TurnJournal.forget`)."""
        check_pending(session_id, turn_id)
        await checkpoint()
        self._sessions.end_pending(session_id, turn_id)
