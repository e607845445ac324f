"""The errors of a fork, which are the same in every store."""

from __future__ import annotations

from tower_memory._errors import SessionConflict, SessionError


def unknown_source(session_id: str) -> SessionError:
    """Return the error of a fork whose source does not exist."""
    msg = "it does not exist, so it cannot be forked; nothing was written"
    return SessionError(msg, session_id=session_id)


def existing_target(new_session_id: str) -> SessionConflict:
    """Return the error of a fork whose target exists."""
    return SessionConflict(
        new_session_id, reason="it exists already", remedy="choose another new_session_id"
    )
