"""The stop of a call: the decision of the task that reads a stream to close it.

This task must cancel its own pending read before it can close the stream, and a cancelled read may
finish the stream at once (rule 5 of `_memory/stream_recorder`). Without a mark, the recorder would
take such a stream for a failed one. The mark is a context variable, so it passes through streams
that wrap streams.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import final


@final
class Stop:
    """The decision to stop one call.

    Attributes:
        is_requested: Whether the call is to stop. If so, a cancelled read is no failure.
    """

    __slots__ = ("is_requested",)

    def __init__(self) -> None:
        self.is_requested = False


current_stop: ContextVar[Stop | None] = ContextVar("tower_memory_stop", default=None)
"""The stop of the call that the running task serves; None if its readers cannot stop it."""


def is_stopping() -> bool:
    """Return True if the call that the running task serves is to stop."""
    stop = current_stop.get()
    return stop is not None and stop.is_requested
