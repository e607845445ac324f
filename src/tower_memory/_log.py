"""The events of turns, calls and summaries that the logger ``tower_memory`` reports.

1. Each event is one function of this module. The section "Logging" of `tower_memory.products`
   lists the attributes of their records.
2. A record has ids, names of types and numbers, and never content.
3. The logger has no handler and no level of its own. Unless the program configures logging, Python
   prints warnings to stderr and drops all else.
4. An event of a disabled level costs a check of the level, and at most two readings of the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from time import monotonic
from typing import Final

_logger: Final = logging.getLogger("tower_memory")

_SLOW_SAVE_SECONDS = 1.0
"""Seconds from which a save is a warning.

A commit takes milliseconds, and the reply waits for it. A second means that the disk or a lock of
the database is overloaded, and it is well before the end of a ``busy_timeout`` of 5 seconds.
"""

_LONG_WAIT_SECONDS = 10.0
"""Seconds from which the wait for a session lock is a warning.

A turn may wait for one reply of a model, and few replies take longer. A turn that waits for a
stream that no task reads waits 30 seconds.
"""


def session_loaded(session_id: str, *, items: int, revision: int, since: float) -> None:
    """Report that *items* items of a session were loaded; *since* is the start of the load."""
    if _logger.isEnabledFor(logging.DEBUG):
        seconds = monotonic() - since
        _logger.debug(
            "session %r: loaded %d items at revision %s in %.1f ms",
            *(session_id, items, revision, seconds * 1000),
            extra={
                "event": "load",
                "session_id": session_id,
                "items": items,
                "revision": revision,
                "seconds": seconds,
            },
        )


def turn_saved(session_id: str, turn_id: str, *, items: int, revision: int, since: float) -> None:
    """Report that a turn of *items* items was saved; *since* is the start of the save."""
    seconds = monotonic() - since
    level = logging.WARNING if seconds >= _SLOW_SAVE_SECONDS else logging.DEBUG
    if _logger.isEnabledFor(level):
        _logger.log(
            level,
            "session %r: saved turn %r of %d items at revision %s in %.1f ms",
            *(session_id, turn_id, items, revision, seconds * 1000),
            extra={
                "event": "save",
                "session_id": session_id,
                "turn_id": turn_id,
                "items": items,
                "revision": revision,
                "seconds": seconds,
            },
        )


def turn_waited(session_id: str, *, since: float) -> None:
    """Report a long wait for a session lock, which began at *since*, even if it was in vain."""
    seconds = monotonic() - since
    if seconds >= _LONG_WAIT_SECONDS:
        _logger.warning(
            "session %r: a turn waited %.1f s for other turns of its session",
            *(session_id, seconds),
            extra={"event": "wait", "session_id": session_id, "seconds": seconds},
        )


def stream_lost(session_id: str, *, kind: str, chunks: int) -> None:
    """Report that a stream of the type *kind* cannot be saved, so *chunks* chunks are lost.

    A finalizer may call this in any thread.
    """
    _logger.warning(
        "session %r: %s was dropped or closed without 'await', so its received chunks (%d) are "
        "lost; read it in an 'async with'",
        *(session_id, kind, chunks),
        extra={
            "event": "lost_stream",
            "session_id": session_id,
            "stream": kind,
            "chunks": chunks,
        },
    )


def turn_not_failed(session_id: str, turn_id: str, *, reason: str) -> None:
    """Report that a pending turn, whose call has failed, could not be marked as failed."""
    _logger.warning(
        "session %r: the pending turn %r could not be marked as failed: %s",
        *(session_id, turn_id, reason),
        extra={"event": "unmarked", "session_id": session_id, "turn_id": turn_id},
    )


def failure_unread(key: Hashable, *, reason: str) -> None:
    """Report that the resumable call *key* has failed, and that no caller has got its error.

    A finalizer may call this in any thread.
    """
    _logger.warning(
        "the call %r has failed, and no caller was there to get its error: %s",
        *(key, reason),
        extra={"event": "unread", "key": key},
    )


def lease_not_renewed(session_id: str, turn_id: str, *, reason: str) -> None:
    """Report that the lease of a turn in progress could not be renewed, once for each turn."""
    _logger.warning(
        "session %r: the lease of the pending turn %r could not be renewed: %s",
        *(session_id, turn_id, reason),
        extra={"event": "unrenewed", "session_id": session_id, "turn_id": turn_id},
    )


def summary_stored(session_id: str, *, items: int, since: float) -> None:
    """Report that a summary of the first *items* items is stored; its call began at *since*."""
    if _logger.isEnabledFor(logging.DEBUG):
        seconds = monotonic() - since
        _logger.debug(
            "session %r: summarised the first %d items in %.1f ms",
            *(session_id, items, seconds * 1000),
            extra={
                "event": "summary",
                "session_id": session_id,
                "items": items,
                "seconds": seconds,
            },
        )


def no_summary(session_id: str, *, reason: str) -> None:
    """Report that a summary could not be made or stored."""
    _logger.warning(
        "session %r: the summary was not renewed or not stored: %s",
        *(session_id, reason),
        extra={"event": "no_summary", "session_id": session_id},
    )


def operation_untraced(name: str, *, reason: str) -> None:
    """Report that OpenTelemetry has raised an error, so the operation *name* lacks its span.

    A finalizer may call this in any thread.
    """
    _logger.warning(
        "the operation %r is not traced: OpenTelemetry has raised %s",
        *(name, reason),
        extra={"event": "untraced", "operation": name},
    )
