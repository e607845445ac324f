"""The progress of a long migration, in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Final

from tower_memory._stores.sqlite.copy_turns import Report

_logger: Final = logging.getLogger("tower_memory")

_LOG_INTERVAL: Final = 1.0
"""Seconds before the first line, and between two lines."""


def log_progress(name: str, clock: Callable[[], float] = monotonic) -> Report:
    """Return a function that logs the progress of the migration of the file *name*.

    It logs at INFO on the logger ``tower_memory``, at most once a second, and nothing in the first
    second. Each record has the attribute ``migrated``, the share of the rows that are copied, from
    0.0 to 1.0.
    """
    logged_at = clock()

    def report(done: int, total: int) -> None:
        nonlocal logged_at
        now = clock()
        if now < logged_at + _LOG_INTERVAL:
            return

        logged_at = now
        _logger.info(
            "%s: migrating to schema 2: %d %%",
            *(name, 100 * done // total),
            extra={"migrated": done / total},
        )

    return report
