"""A clock that measures waiting times, deadlines, and the patience of a caller."""

from __future__ import annotations

from time import CLOCK_MONOTONIC, clock_gettime
from typing import final


def now() -> float:
    """Return the seconds of a clock that never goes back.

    Test tools that freeze the time replace ``time.monotonic``. With a frozen clock, a wait for a
    lock would never end.
    """
    return clock_gettime(CLOCK_MONOTONIC)


@final
class Deadline:
    """The end of a wait of *patience* seconds that begins now."""

    __slots__ = ("_end",)

    def __init__(self, patience: float) -> None:
        self._end = now() + patience

    def left(self) -> float:
        """Return the seconds until the end, at least 0."""
        return max(0.0, self.seconds())

    def seconds(self) -> float:
        """Return the seconds until the end; negative after it."""
        return self._end - now()

    def has_passed(self) -> bool:
        """Return True if no time is left."""
        return self._end <= now()


@final
class Patience:
    """The patience of a caller, which begins anew with each step of its operation.

    Args:
        seconds: Maximum number of seconds of a step.
        grace: Seconds that the caller waits beyond the deadline, so that it gets a better error.

    Attributes:
        deadline: The end of the present step.
    """

    __slots__ = ("_grace", "_seconds", "deadline")

    def __init__(self, seconds: float, grace: float) -> None:
        self._seconds = seconds
        self._grace = grace
        self.deadline = Deadline(seconds)

    def begin_step(self) -> Deadline:
        """Begin a step, and return its deadline."""
        self.deadline = Deadline(self._seconds)
        return self.deadline

    def left(self) -> float:
        """Return the seconds that the caller goes on waiting, at least 0."""
        return max(0.0, self.deadline.seconds() + self._grace)
