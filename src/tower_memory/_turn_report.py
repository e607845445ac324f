"""The report of a memory layer on the turn of a call, for a tracing layer around it.

1. A tracing layer makes the report, and the memory layer fills it. So the tracing layer needs no
   second call of a user's function, such as ``session_id``.
2. The report is a context variable, so it passes through all layers in between, and through
   bridges, which give a call the context variables of its caller.
3. The outermost memory layer of a call fills the report. A memory layer inside the call leaves it
   alone, even if its session has the same id, in another store.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, final

from tower_memory._turn import Turn


@final
@dataclass(slots=True)
class TurnReport:
    """The turn of a call.

    Attributes:
        saver: The object that saves the turns of the memory layer; None before the layer is called.
        session_id: The session; None before the layer is called.
        turn_id: Id of the saved turn; None if no turn is saved.
        items: Number of items of the saved turn.
        revision: Revision of the session after the save.
    """

    saver: object = None
    session_id: str | None = None
    turn_id: str | None = None
    items: int = 0
    revision: int = 0


current_report: Final[ContextVar[TurnReport | None]] = ContextVar(
    "tower_memory_turn_report", default=None
)
"""The report of the call to which the running code belongs; None outside of such a call."""


def report_session(saver: object, session_id: str) -> None:
    """Report the session of a call of the memory layer whose turns *saver* saves."""
    report = current_report.get()
    if report is not None and report.saver is None:
        report.saver, report.session_id = saver, session_id


def report_saved(saver: object, turn: Turn[Any], revision: int) -> None:
    """Report that *saver* has saved *turn*, after which the session has *revision*."""
    report = current_report.get()
    if report is not None and report.saver is saver and report.session_id == turn.session_id:
        report.turn_id, report.items, report.revision = turn.turn_id, len(turn.items), revision
