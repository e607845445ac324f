"""From a reply to a saved turn.

1. The save runs to its end even if its caller is cancelled: at most the grace past the deadline.
2. Whatever fails is raised with the response and the turn, so that neither is lost.
3. Where a turn is the same request's, made again, it is seen afterwards whose turn was saved.
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
from tower_memory._service import Service, attribute, inner_of
from tower_memory._sessions import SessionStore, Turn


@final
@dataclass(frozen=True, slots=True)
class Saving:
    """How a layer saves its turns.

    Attributes:
        save: From `Turn` to revision.
        load: From session id to `History`.
        store: What is behind *save*: a store, where one can be seen.
        grace: Seconds that a save may run past its caller's deadline.
        repeatable: Whether the same turn may be made again, by its id.
    """

    save: Service[Turn[Any], int]
    load: Service[str, History[Any]]
    store: object
    grace: float
    repeatable: bool

    async def __call__(self, turn: Turn[Any], revision: int, response: object) -> None:
        """Save *turn*, which *response* completed, made when its session was at *revision*.

        Raises:
            SessionConflict: The session is not at the revision that the turn expects.
            TurnExists: Another reply to the same request was saved.
            SaveError: It may not be saved.
        """
        try:
            after, held = await self._saved(turn)
            if not self.repeatable or not turn.items:
                return
            # A turn of this id is held, now or until someone took it: ours, or the same
            # request's that was made at the same time?
            ours = after != revision if held is None else _begins_with(turn.items, held)
        except SessionConflict as conflict:
            raise SessionConflict(
                turn.session_id,
                expected=conflict.expected,
                actual=conflict.actual,
                response=response,
                turn=turn,
            ) from conflict
        except Exception as error:
            raise not_saved(turn.session_id, error, response, turn) from error
        if not ours:
            raise TurnExists(turn.session_id, turn_id=turn.turn_id, items=held, response=response)

    async def _saved(self, turn: Turn[Any]) -> tuple[int, Sequence[Any] | None]:
        """The revision, and what the session then holds under the turn's id if that matters."""
        with CancelScope(deadline=_latest_end(self.grace), shield=True):
            revision = await self.save(turn)
            return revision, await self._held(turn) if self.repeatable and turn.items else None
        raise TimeoutError

    async def _held(self, turn: Turn[Any]) -> Sequence[Any] | None:
        """The items that the session holds under the turn's id, or None where they are not seen."""
        store = self.store
        if not isinstance(store, SessionStore):
            return (await self.load(turn.session_id)).turn(turn.turn_id)
        for limit in (len(turn.items), None):  # most likely nobody was faster
            history: History[Any] = await store.load(turn.session_id, limit=limit)
            if (held := history.turn(turn.turn_id)) is not None:
                return held
        return None


def not_saved(session_id: str, error: Exception, response: object, turn: object) -> SaveError:
    """What to raise from *error*, which kept *turn* from being saved."""
    return SaveError(session_id, _reason(error), response=response, turn=turn)


def store_of(service: object) -> object:
    """The store behind *service*, through its layers and through stores that wrap another."""
    seen = {id(service)}
    while True:
        store = attribute(service, "store")
        inside = store if isinstance(store, SessionStore) else inner_of(service)
        if inside is None or id(inside) in seen:
            return service
        seen.add(id(inside))
        service = inside


def _begins_with(items: Sequence[Any], held: Sequence[Any]) -> bool:
    """Whether *held* is what is left of *items*, which others may have popped from."""
    begin, all_held = (json.decode(json.encode(each)) for each in (items[: len(held)], held))
    return bool(begin == all_held)


def _reason(error: Exception) -> str:
    """What *error* says, or its name where it says nothing, or fails to."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the error itself is chained
        return type(error).__name__


def _latest_end(grace: float) -> float:
    """When a save must end, at the latest; infinite where the caller has no deadline."""
    deadline = current_effective_deadline()
    return deadline if deadline == inf else max(deadline, current_time()) + grace
