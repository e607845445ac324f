"""The errors of the command."""

from __future__ import annotations


class CommandError(Exception):
    """Raised for a problem that the user can fix; its message becomes the line that is printed."""


class Fault(ValueError):
    """Raised for a part of a file that cannot be imported; the message is the reason."""


def no_session(session_id: str) -> CommandError:
    """Return the error for a session that does not exist."""
    return CommandError(f"there is no session {session_id}; `tower-memory sessions` lists them")
