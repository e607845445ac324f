"""The journal of a layer: its turns are pending from before the model call until their save.

1. A turn begins after its history is loaded, with the checks of its save. A turn that is refused,
   or that another process runs, therefore calls no model. The save ends the pending turn.
2. If a call ends without a save, its turn stays pending, and its state is set to ``"failed"``, even
   if the caller is cancelled. This takes at most *grace* seconds. Native asyncio cancellation
   passes every shield, so it begins again then. If it fails, the log says so: the caller gets the
   error that ended the call.
3. A stream that is garbage-collected before its end stays ``"running"`` until its lease expires: a
   finalizer cannot await.
4. The owner of all turns of a process is the process. So a retry in the same process begins its
   turn again at once, and another process only after the turn has failed or its lease has expired.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Self, final

from anyio import get_cancelled_exc_class, move_on_after

from tower_memory import _log
from tower_memory._capabilities.journal import TurnJournal
from tower_memory._reasons import reason_of
from tower_memory._turn import Turn

LEASE: Final = 600.0
"""Seconds of a lease. By default, the official clients of OpenAI and Anthropic give up a request
after this time, so a call that has not ended by then has most likely died with its process."""

_owners: list[str] = []
"""The random name of this process; empty until the name is needed."""

os.register_at_fork(after_in_child=_owners.clear)  # a child is another owner than its parent


def process_owner() -> str:
    """Return the random name under which this process owns pending turns."""
    if not _owners:
        _owners.append(token_hex(16))
    return _owners[0]


@final
@dataclass(frozen=True, slots=True)
class JournalledTurn:
    """The turn of one call in the journal of its store.

    As a context manager, it marks the turn as failed if its block raises.

    Attributes:
        store: The store of the turn.
        grace: Maximum number of seconds to mark the turn.
        turn: The turn as it begins.
    """

    store: TurnJournal[Any]
    grace: float
    turn: Turn[Any]

    async def begin(self) -> None:
        """Make the turn a pending turn of this process.

        Raises:
            SessionError: See `TurnJournal.begin`.
        """
        try:
            await self.store.begin(self.turn, lease=LEASE, owner=process_owner())
        except get_cancelled_exc_class():
            await self.fail()  # the turn may have begun
            raise

    async def fail(self) -> None:
        """Set the state of the turn to ``"failed"``, unless it was saved (rule 2)."""
        turn, failure = self.turn, None
        with move_on_after(self.grace, shield=True) as scope:
            try:
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
        # After a GeneratorExit, the caller is finalized and cannot await.
        if kind is not None and kind is not GeneratorExit:
            await self.fail()
