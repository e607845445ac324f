"""The progress of long work on a file, in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from tower_memory._stores.sqlite.copy_turns import Report

_logger: Final = logging.getLogger("tower_memory")

_LOG_INTERVAL: Final = 1.0
"""Seconds before the first line, and between two lines."""


def log_progress(name: str, work: str, clock: Callable[[], float] = monotonic) -> Report:
    """Return a function that logs the progress of *work*, such as a migration, on the file *name*.

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
