"""The progress of long work on a store, in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeAlias

Report: TypeAlias = Callable[[int, int], object]
"""Function of the part of the work that is done and of all of it; it reports the progress."""

_logger: Final = logging.getLogger("tower_memory")

_LOG_INTERVAL: Final = 1.0
"""Seconds before the first line, and between two lines."""


def log_progress(name: str, work: str, clock: Callable[[], float] = monotonic) -> Report:
    """Return a function that logs the progress of *work*, such as a migration, on the store *name*.

    It logs at INFO on the logger ``tower_memory``, at most once a second, and nothing in the first
    second. Each record has the attribute ``progress``, the share that is done, from 0.0 to 1.0.
    """
    logged_at = clock()

    def report(done: int, total: int) -> None:
        nonlocal logged_at
        now = clock()
        if now < logged_at + _LOG_INTERVAL:
            return

        logged_at = now
        _logger.info(
            "%s: %s: %d %%",
            *(name, work, 100 * done // total),
            extra={"progress": done / total},
        )

    return report
