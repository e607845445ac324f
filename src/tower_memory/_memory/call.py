"""The values that one call of a service with memory reads from its request.

All ids are checked here, before the session is locked, loaded or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard, final

from tower_memory._arguments import check_text, shown
from tower_memory._turn import check_revision

if TYPE_CHECKING:
    from tower_memory._memory.layer import MemoryLayer


@final
class Replacement(NamedTuple):
    """The turn that a call replaces.

    Attributes:
        turn_id: The id of the turn.
        revision: The revision of the session that the user saw; None accepts any revision.
    """

    turn_id: str
    revision: int | None


@final
class Call(NamedTuple):
    """The values of one call.

    Attributes:
        request: The caller's request.
        session_id: The session of the request.
        turn_id: The id of the turn, or None for a new id.
        replaces: The turn to replace, or None.
    """

    request: Any
    session_id: str
    turn_id: str | None
    replaces: Replacement | None


def read_call(layer: MemoryLayer, request: Any) -> Call:
    """Read the values of a call from *request* with the functions of *layer*.

    Raises:
        TypeError: A function returned a value of the wrong type.
        ValueError: A function returned an id or a revision that is not accepted.
    """
    session_id = layer.session_id
    if callable(session_id):
        session_id = session_id(request)
        check_text("the result of session_id(request)", session_id)

    turn_id = replaces = None
    if layer.turn_id is not None:
        turn_id = layer.turn_id(request)
        check_text("the result of turn_id(request)", turn_id)
    if layer.replaces is not None:
        replaces = _read_replacement(layer.replaces(request), turn_id)
    return Call(request, session_id, turn_id, replaces)


def _read_replacement(value: object, turn_id: str | None) -> Replacement | None:
    """Return the result *value* of a layer's function *replaces*; *turn_id* is the call's own."""
    name = "the result of replaces(request)"
    match value:
        case None:
            return None
        case str():
            replacement = Replacement(value, None)
        case (str() as replaced, int() as revision):
            check_revision(f"the revision in {name}", revision)
            replacement = Replacement(replaced, revision)
        case _:
            kind = f"({', '.join(map(shown, value))})" if _is_pair(value) else shown(value)
            msg = f"{name} must be a turn id, a pair (turn id, revision) or None, got {kind}"
            raise TypeError(msg)

    check_text(f"the turn id in {name}", replacement.turn_id)
    if replacement.turn_id == turn_id:
        msg = f"{name} must be another turn than turn_id(request), got {turn_id!r} for both"
        raise ValueError(msg)
    return replacement


def _is_pair(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (tuple, list)) and len(value) == 2  # noqa: PLR2004
