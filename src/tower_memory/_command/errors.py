"""The errors of the command."""

from __future__ import annotations

import re
from typing import Final

_PASSWORD: Final = re.compile(r"(postgres(?:ql)?://[^\s:@/]*:)\S*(?=@)|(?<=password=)[^\s&'\"]*")
"""The password of a URL: behind the user, or as the parameter ``password``."""


class CommandError(Exception):
    """Raised for a problem that the user can fix; its message becomes the line that is printed."""


class Fault(ValueError):
    """Raised for a part of a file that cannot be imported; the message is the reason."""


def no_session(session_id: str) -> CommandError:
    """Return the error for a session that does not exist."""
    return CommandError(f"there is no session {session_id}; `tower-memory sessions` lists them")


def without_password(text: str) -> str:
    """Return *text* without the passwords of the URLs in it.

    >>> from tower_memory._command.errors import without_password
    >>> without_password("unknown: postgresql://ann:secret@db/chat?password=other&port=1")
    'unknown: postgresql://ann:***@db/chat?password=***&port=1'
    """
    return _PASSWORD.sub(r"\1***", text)
