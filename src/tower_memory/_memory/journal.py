"""The journal of a layer: its turns are pending from before the model call until their save.

1. A turn begins after its history is loaded, with the checks of its save. A turn that is refused,
   or that another process runs, therefore calls no model. The save ends the pending turn.
2. If a call ends without a save, its turn stays pending, and its state is set to ``"failed"``, even
   if the caller is cancelled. This takes at most *grace* seconds. Native asyncio cancellation
   passes every shield; the state is then set anew. If this fails, the log has a warning, because
   the caller gets the error that ended the call.
3. The lease keeper renews the lease of a turn until the turn is saved or has failed, however long
   the call takes. So a lease that expires means that the process died, hangs or cannot write to the
   store, or that it dropped a stream (rule 4).
4. A stream that is garbage-collected before its end stays ``"running"`` until its lease expires: a
   finalizer cannot await. The same is true of a call that is finalized.
5. The renewals end if the turn is no longer pending, if it has another owner, or if its session
   would refuse to save it.
6. A renewal looks for the turn, and then begins it again. If the turn is forgotten between these
   two calls, this creates a new pending turn, with another time. The renewal sees the other time,
   and forgets the turn again.
7. The owner of all turns of a process is the process. So a retry in the same process begins its
   turn again at once, and another process only after the turn has failed or its lease has expired.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import inf
from secrets import token_hex
from typing import Any, Self, final

from anyio import (
    current_effective_deadline,
    fail_after,
    get_cancelled_exc_class,
    move_on_after,
)

from tower_memory import _log
from tower_memory._capabilities.journal import PendingTurn, TurnJournal
from tower_memory._errors import SessionCleared, SessionConflict, TurnMissing
from tower_memory._memory.lease_keeper import KeptLease
from tower_memory._reasons import reason_of
from tower_memory._turn import Turn

_LEASE = 60.0
"""Seconds of a lease: the longest time that the question of a process that died is blocked."""

_RENEW_WITHIN = 10.0
"""Seconds that a renewal may take; less than the 20 seconds between two renewals."""

_owners: list[str] = []
"""The random name of this process; empty until the name is needed."""

os.register_at_fork(after_in_child=_owners.clear)  # a child is another owner than its parent


def process_owner() -> str:
    """Return the random name under which this process owns pending turns."""
    if not _owners:
        _owners.append(token_hex(16))
    return _owners[0]


@final
@dataclass(slots=True, eq=False)
class JournalledTurn:
    """The turn of one call in the journal of its store.

    As a context manager, it marks the turn as failed if the block raises. If the block does not
    raise, the turn stays in progress until `end` or `fail`: a stream may still be open.

    Attributes:
        store: The store of the turn.
        grace: Maximum number of seconds to mark the turn.
        turn: The turn as it begins.
    """

    store: TurnJournal[Any]
    grace: float
    turn: Turn[Any]
    _lease: KeptLease = field(init=False, default_factory=KeptLease)
    _is_reported: bool = field(init=False, default=False)

    async def begin(self) -> None:
        """Make the turn a pending turn of this process, and renew its lease until its end.

        Raises:
            SessionError: See `TurnJournal.begin`.
        """
        try:
            await self.store.begin(self.turn, lease=_LEASE, owner=process_owner())
        except get_cancelled_exc_class():
            await self.fail()  # the turn may have begun
            raise
        self._lease.start(self._renew)

    def end(self) -> None:
        """Stop the renewals, because the turn is saved."""
        self._lease.end()

    def detach(self) -> None:
        """Stop the renewals soon (rule 4). Finalizers may call this in any thread."""
        self._lease.end_soon()

    async def fail(self) -> None:
        """Set the state of the turn to ``"failed"``, unless it was saved (rule 2)."""
        self.end()
        turn, failure = self.turn, None
        with move_on_after(self.grace, shield=True) as scope:
            try:
                await self._lease.wait_until_idle()  # a renewal would set the state to "running"
                await self.store.fail(turn.session_id, turn.turn_id, owner=process_owner())
            except get_cancelled_exc_class():
                if not scope.cancel_called:  # a native cancellation, perhaps before the write
                    await self.fail()
                raise
            except Exception as error:  # noqa: BLE001 - the log shows it
                failure = error

        if scope.cancelled_caught:
            failure = TimeoutError()
        if failure is not None:
            _log.turn_not_failed(turn.session_id, turn.turn_id, reason=reason_of(failure))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is GeneratorExit:  # the caller is finalized and cannot await
            self.detach()
        elif kind is not None:
            await self.fail()

    async def _renew(self) -> bool:
        """Renew the lease; return False if the renewals should end (rule 5)."""
        try:
            with fail_after(_RENEW_WITHIN):
                return await self._renew_if_pending()
        except (SessionCleared, SessionConflict, TurnMissing):
            return False  # the caller will get the same error from the save
        except get_cancelled_exc_class() as error:
            if current_effective_deadline() == -inf:  # the task is cancelled
                raise
            failure: BaseException = error  # the store has raised it by itself
        except Exception as error:  # noqa: BLE001 - the log shows it
            failure = error

        if not self._is_reported:
            self._is_reported = True
            turn, reason = self.turn, reason_of(failure)
            _log.lease_not_renewed(turn.session_id, turn.turn_id, reason=reason)
        return True

    async def _renew_if_pending(self) -> bool:
        """Renew the lease, if the turn is pending and has not failed; otherwise return False."""
        turn = self.turn
        present = await self._find()
        if present is None or present.state == "failed":
            return False

        await self.store.begin(turn, lease=_LEASE, owner=process_owner())
        renewed = await self._find()
        if renewed is None or renewed.created_at == present.created_at:
            return True
        await self.store.forget(turn.session_id, turn.turn_id)  # rule 6
        return False

    async def _find(self) -> PendingTurn[Any] | None:
        """Return the turn as the store has it; None if it is not pending."""
        turn = self.turn
        pending = await self.store.pending(turn.session_id)
        return next((each for each in pending if each.turn_id == turn.turn_id), None)
