"""Saving the turn of a reply.

1. The save runs to its end even if its caller is cancelled. It ends at most *grace* seconds after
   the caller's deadline, or after its own start if the deadline has passed before.
2. Every failure is raised with the response, so that it is not lost. The error also carries the
   turn or, if another call has saved the turn, the stored items.
3. With `turn_id=`, two calls of the same request have the same turn id. They may overlap and both
   reach the store, which keeps one turn. With a journal, another process may answer a pending turn
   whose lease has ended. After its save, a call therefore reads the stored turn. If that turn has
   the reply of another call, it raises `TurnExists`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, final

from anyio import CancelScope, current_effective_deadline, current_time
from msgspec import json

from tower_memory import _log
from tower_memory._calls import call_service
from tower_memory._errors import (
    SaveError,
    SessionCleared,
    SessionConflict,
    TurnExists,
    TurnMissing,
)
from tower_memory._history import History
from tower_memory._reasons import reason_of
from tower_memory._service import Service
from tower_memory._store import SessionStore
from tower_memory._turn import Turn
from tower_memory._turn_report import report_saved


@final
@dataclass(frozen=True, slots=True)
class TurnSaver:
    """Saves the turns of a layer.

    Attributes:
        save: Service from `Turn` to revision.
        load: Service from session id to `History`.
        store: The store behind *save*, or None if it is not known.
        grace: Seconds that a save may run past its caller's deadline or cancellation.
        is_repeatable: True if others can save a turn of the same id (rule 3).
    """

    save: Service[Turn[Any], int]
    load: Service[str, History[Any]]
    store: SessionStore[Any] | None
    grace: float
    is_repeatable: bool

    async def __call__(self, turn: Turn[Any], response: object) -> None:
        """Save *turn*, to which *response* is the reply.

        Raises:
            SessionCleared: The session was cleared or erased after the history was loaded.
            SessionConflict: The session is not at the revision that the turn expects, or turns were
                replaced after the history was loaded.
            TurnMissing: The session does not hold the turn to replace.
            TurnExists: Another reply to the same request was saved.
            SaveError: The turn is perhaps not saved.
        """
        held = None
        try:
            with CancelScope(deadline=_latest_end(self.grace), shield=True) as scope:
                since = monotonic()
                revision = await call_service(self.save, turn)
                _log.turn_saved(
                    *(turn.session_id, turn.turn_id),
                    items=len(turn.items),
                    revision=revision,
                    since=since,
                )
                report_saved(self, turn, revision)
                if not self.is_repeatable or not turn.items:
                    return

                held = await self._held_items(turn)
                if held is None:
                    # The load does not show the turn. Then a changed revision is the only sign that
                    # this save wrote it; another turn may have changed the revision as well.
                    if revision != turn.since:
                        return
                elif _begins_with(turn.items, held):
                    return

            if scope.cancelled_caught:  # by its own deadline
                raise TimeoutError  # noqa: TRY301 - it is a failed save like any other

        except (SessionCleared, SessionConflict, TurnMissing) as refusal:
            paid = copy(refusal)  # the same text: the reason is in no attribute
            paid.response, paid.turn = response, turn
            raise paid from refusal
        except Exception as error:
            raise save_error(turn.session_id, error, response, turn) from error

        raise TurnExists(turn.session_id, turn_id=turn.turn_id, items=held, response=response)

    async def _held_items(self, turn: Turn[Any]) -> Sequence[Any] | None:
        """Return the items stored under the turn's id; None if the load does not show them."""
        if self.store is None:
            return (await call_service(self.load, turn.session_id)).turn(turn.turn_id)

        # Usually this turn is still the newest. Otherwise, load the whole session.
        for limit in (len(turn.items), None):
            history: History[Any] = await self.store.load(turn.session_id, limit=limit)
            if (held := history.turn(turn.turn_id)) is not None:
                return held
        return None


def save_error(session_id: str, error: Exception, response: object, turn: object) -> SaveError:
    """Return the `SaveError` that carries *response* and *turn*, with *error* as its reason."""
    return SaveError(session_id, reason_of(error), response=response, turn=turn)


def _begins_with(items: Sequence[Any], held: Sequence[Any]) -> bool:
    """Return True if the stored items *held* are the beginning of *items*.

    Other callers may have popped the last stored items. Both are compared as JSON values, because
    a store may return other types than it was given.
    """
    start, all_held = (json.decode(json.encode(each)) for each in (items[: len(held)], held))
    return bool(start == all_held)


def _latest_end(grace: float) -> float:
    """Return the time at which a save that starts now must end.

    It is infinite if the caller has no deadline. A cancelled caller has the deadline -inf.
    """
    deadline = current_effective_deadline()
    return deadline if deadline == inf else max(deadline, current_time()) + grace
