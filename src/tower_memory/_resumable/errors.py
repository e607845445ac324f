"""The errors of resumable calls.

Each is a `SessionError`, so a handler for the errors of the memory layer also handles these.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import final

from tower_memory._errors import SessionError


@final
class CallStopped(SessionError):
    """Raised to the callers of a call that was stopped before its inner service had returned.

    The readers of a stream that was stopped get the end of the stream instead.

    Attributes:
        key: The key of the call.
    """

    def __init__(self, key: Hashable) -> None:
        super().__init__(f"the call {key!r} was stopped before its service had returned")
        self.key = key


@final
class ReplyMissing(SessionError):
    """Raised if a reply cannot be joined, or read further, because its chunks are not kept here.

    The session has the reply if it was saved. With ``MemoryLayer(journal=True)``, the pending turns
    of the session show whether another process still works on it.

    Attributes:
        key: The key of the call.
    """

    def __init__(self, key: Hashable, reason: str) -> None:
        super().__init__(f"the reply of the call {key!r} {reason}; load its session")
        self.key = key


@final
class TooManyCalls(SessionError):
    """Raised if a new call would exceed the number of simultaneous calls. It was not made.

    Attributes:
        max_calls: The maximum number of simultaneous calls.
    """

    def __init__(self, max_calls: int) -> None:
        super().__init__(f"{max_calls} calls are running, which is max_calls; try again later")
        self.max_calls = max_calls
