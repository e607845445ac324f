"""Saving the turn of a reply.

1. The save runs to its end even if its caller is cancelled. It ends at most *grace* seconds after
   the caller's deadline, or after its own start if the caller's time was over before.
2. Every failure is raised with the response, and with the turn that was not saved.
3. If the same request may be made again, it has the same turn id. Two such calls may overlap and
   both reach the store, which keeps one turn. After its save, a call therefore looks at the stored
   turn: if it is another reply's, the call raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, final

from anyio import CancelScope, current_effective_deadline, current_time
from msgspec import json

from tower_memory._errors import SaveError, SessionConflict, TurnExists
from tower_memory._history import History
from tower_memory._service import Service
from tower_memory._store import SessionStore
from tower_memory._turn import Turn


@final
@dataclass(frozen=True, slots=True)
class TurnSaver:
    """Saves the turns of a layer.

    Attributes:
        save: Service from `Turn` to revision.
        load: Service from session id to `History`.
        store: The store behind *save*, or None if it is not known.
        grace: Seconds that a save may run past its caller's deadline or cancellation.
        is_repeatable: Whether the same request has the same turn id (rule 3).
    """

    save: Service[Turn[Any], int]
    load: Service[str, History[Any]]
    store: SessionStore[Any] | None
    grace: float
    is_repeatable: bool

    async def __call__(self, turn: Turn[Any], revision: int, response: object) -> None:
        """Save *turn*, which *response* completed and which began at *revision* of its session.

        Raises:
            SessionConflict: The session is not at the revision that the turn expects.
            TurnExists: Another reply to the same request was saved.
            SaveError: The turn may not be saved.
        """
        try:
            after, held = await self._save_shielded(turn)
            if not self.is_repeatable or not turn.items:
                return
            # Without a visible turn, a changed revision tells that the save wrote this turn.
            is_own = after != revision if held is None else _begins_with(turn.items, held)
        except SessionConflict as conflict:
            raise SessionConflict(
                turn.session_id,
                expected=conflict.expected,
                actual=conflict.actual,
                response=response,
                turn=turn,
            ) from conflict
        except Exception as error:
            raise save_error(turn.session_id, error, response, turn) from error

        if not is_own:
            raise TurnExists(turn.session_id, turn_id=turn.turn_id, items=held, response=response)

    async def _save_shielded(self, turn: Turn[Any]) -> tuple[int, Sequence[Any] | None]:
        """Return the revision after the save and, if rule 3 applies, the held turn's items."""
        with CancelScope(deadline=_latest_end(self.grace), shield=True):
            revision = await self.save(turn)
            needs_held = self.is_repeatable and turn.items
            return revision, await self._held_items(turn) if needs_held else None
        raise TimeoutError  # the scope's own deadline cancelled the save

    async def _held_items(self, turn: Turn[Any]) -> Sequence[Any] | None:
        """Return the items that the session holds under the turn's id; None if out of sight."""
        if self.store is None:
            return (await self.load(turn.session_id)).turn(turn.turn_id)
        for limit in (len(turn.items), None):  # usually this turn is still the newest
            history: History[Any] = await self.store.load(turn.session_id, limit=limit)
            if (held := history.turn(turn.turn_id)) is not None:
                return held
        return None


def save_error(session_id: str, error: Exception, response: object, turn: object) -> SaveError:
    """Return the error that tells that *error* prevented the save of *turn*."""
    return SaveError(session_id, _reason(error), response=response, turn=turn)


def _begins_with(items: Sequence[Any], held: Sequence[Any]) -> bool:
    """Return True if *held* is the beginning of *items*, of which others may have popped some."""
    start, all_held = (json.decode(json.encode(each)) for each in (items[: len(held)], held))
    return bool(start == all_held)


def _reason(error: Exception) -> str:
    """Return the text of *error*, or its name if it has no text or fails to give one."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the error itself is chained
        return type(error).__name__


def _latest_end(grace: float) -> float:
    """Return the time at which a save that starts now must end.

    It is infinite if the caller has no deadline. A cancelled caller has the deadline -inf.
    """
    deadline = current_effective_deadline()
    return deadline if deadline == inf else max(deadline, current_time()) + grace
