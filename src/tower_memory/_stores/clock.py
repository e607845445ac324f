"""A clock that measures waiting times."""

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
        return max(0.0, self._end - now())

    def has_passed(self) -> bool:
        """Return True if no time is left."""
        return self._end <= now()
