"""The decision whether a turn may be appended, for every store.

The checks come in the order that `SessionStore.append` states.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, final

from tower_memory._errors import SessionCleared, SessionConflict, TurnMissing
from tower_memory._turn import Turn

NO_SESSION: Final = 2**63
"""The first number of a session that does not exist: above all revisions."""


@final
class SessionState(NamedTuple):
    """The state of a session that decides about an append.

    Attributes:
        revision: Number of the last change; for a session that does not exist, the number of its
            tombstone, or 0.
        first_number: Lower bound of the numbers that the session has got since it was created;
            `NO_SESSION` if it does not exist. A smaller revision belongs to an erased session of
            the same id.
        cleared: Number of the last clear. For a session that was not cleared since it was created,
            the number of the tombstone that it then had; for a session that does not exist, that of
            its tombstone. 0 for none.
        replaced: Number of the last change that replaced turns; 0 for none.
        holds_turn: True if the session holds the id of the turn.
        holds_replaced: True if the session holds the turn that is to be replaced.
    """

    revision: int
    first_number: int
    cleared: int
    replaced: int
    holds_turn: bool
    holds_replaced: bool


def absent_session(tombstone: int) -> SessionState:
    """Return the state of a session that does not exist; *tombstone* is its number, or 0."""
    return SessionState(
        revision=tombstone,
        first_number=NO_SESSION,
        cleared=tombstone,
        replaced=0,
        holds_turn=False,
        holds_replaced=False,
    )


def must_write(state: SessionState, turn: Turn[Any]) -> bool:
    """Return True if *turn* must be written, False if there is nothing to write.

    Raises:
        SessionCleared: The session was cleared or erased after ``turn.since``.
        SessionConflict: Turns were replaced after ``turn.since``, or the session is not at
            ``turn.expected_revision``.
        TurnMissing: The session does not hold ``turn.replaces``.
    """
    if state.holds_turn:
        return False

    since, expected = turn.since, turn.expected_revision
    if since is not None:
        # A revision between the last clear and the first number belongs to an erased session.
        if since < state.cleared or state.cleared < since < state.first_number:
            raise SessionCleared(turn.session_id)
        if since < state.replaced:
            raise SessionConflict(
                turn.session_id,
                reason=f"turns were replaced after revision {since}, which was loaded",
            )

    if expected is not None and expected != state.revision:
        raise SessionConflict(turn.session_id, expected=expected, actual=state.revision)
    if turn.replaces is not None and not state.holds_replaced:
        raise TurnMissing(turn.session_id, turn_id=turn.replaces)
    return bool(turn.items) or turn.replaces is not None
