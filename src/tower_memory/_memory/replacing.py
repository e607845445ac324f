"""The loads before the model call that replaces a turn.

1. The id of the new turn is looked up in the whole session first. A retry of a call that has
   already replaced its turn then finds the new turn, although the old turn is gone.
2. The history ends before the replaced turn. Its revision is that of the whole session, and the
   save expects this revision, so no turn that is newer than the history is removed.
3. If the caller gave the revision that the user saw, any other revision is a conflict. This is so
   even if the turn to replace is gone as well, as in `SessionStore.append`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tower_memory._errors import SessionConflict, TurnMissing
from tower_memory._history import History
from tower_memory._memory.call import Replacement
from tower_memory._memory.window_loading import load_history, load_part
from tower_memory._service import Service
from tower_memory._store import SessionStore
from tower_memory._tool_links import GetLinks
from tower_memory.windows import BoundedWindow

_FIRST_PAGE = 16
"""Number of items of the first page in which the end of a turn is searched."""


async def held_items(
    store: SessionStore[Any] | None,
    load: Service[str, History[Any]],
    session_id: str,
    turn_id: str,
) -> Sequence[Any] | None:
    """Return the items of the turn *turn_id* if the session holds it, otherwise None.

    The store loads no items of other turns, except those of one page. Without a store, *load* loads
    the whole history.

    Raises:
        TypeError: *load* did not return a `History`.
    """
    if store is None:
        return (await load_part(load, session_id, None, None)).turn(turn_id)

    try:
        start = (await store.load(session_id, limit=0, before=turn_id)).offset
    except TurnMissing:
        return None

    size = _FIRST_PAGE
    while True:
        page: History[Any] = await store.load(session_id, limit=size, before=start + size)
        is_last = page.offset + len(page) < start + size
        if is_last or page.turns[-1].turn_id != turn_id:
            return page.turn(turn_id) or ()  # no items: it only removed turns
        size *= 2


async def load_before(
    replaces: Replacement,
    window: BoundedWindow | None,
    load: Service[str, History[Any]],
    session_id: str,
    links: GetLinks,
) -> History[Any]:
    """Load as much of the history before the replaced turn as *window* needs (rules 2 and 3).

    Raises:
        SessionConflict: The session is not at the revision that the user saw.
        TurnMissing: The session does not hold the turn to replace.
        TypeError: *load* did not return a `History`.
    """
    try:
        history = await load_history(window, load, session_id, links, replaces.turn_id)
    except TurnMissing:
        if replaces.revision is not None:
            _check_revision(replaces, await load_part(load, session_id, 0, None), session_id)
        raise

    _check_revision(replaces, history, session_id)
    return history


def _check_revision(replaces: Replacement, history: History[Any], session_id: str) -> None:
    """Refuse a session that is not at the revision that the user saw."""
    expected, actual = replaces.revision, history.revision
    if expected is not None and expected != actual:
        raise SessionConflict(session_id, expected=expected, actual=actual)
