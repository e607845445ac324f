"""A clock that measures waiting times."""

from __future__ import annotations

from time import CLOCK_MONOTONIC, clock_gettime


def now() -> float:
    """Return the seconds of a clock that never goes back.

    Test tools that freeze the time replace ``time.monotonic``. With a frozen clock, a wait for a
    lock would never end.
    """
    return clock_gettime(CLOCK_MONOTONIC)
