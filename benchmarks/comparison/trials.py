"""One trial: a folder of its own, a session that already holds one turn, and a scripted model.

1. A second probe, with a connection of its own, reads the stored messages. A store in memory is
   read through the probe itself.
2. If the model answered at once, writes from before the model call could still be under way.
   Therefore the model of a timed trial takes 20 ms.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.comparison.outcomes import reply_to, tally, turn_state
from benchmarks.comparison.probe import Message, Probe

SESSION: Final = "session-1"
MODEL_SECONDS: Final = 0.02
"""Seconds of a model call, for the end of the writes that began before it (rule 2)."""

_LOCK_WAIT: Final = 2.0
"""Seconds after which another connection counts as locked out."""


async def answer(texts: list[str]) -> str:
    """Reply to the last of *texts*."""
    return reply_to(texts[-1])


@asynccontextmanager
async def opened(probe_class: type[Probe], folder: Path | None = None) -> AsyncGenerator[Probe]:
    """Open a probe in *folder*, or in a new one that holds a session with one turn."""
    if folder is not None:
        probe = probe_class(folder)
        await probe.open()
        try:
            yield probe
        finally:
            await probe.close()
        return

    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        async with opened(probe_class, Path(name)) as probe:
            await probe.turn(SESSION, "first", answer)
            yield probe


async def stored(probe: Probe) -> list[Message]:
    """Load the session as another process sees it (rule 1)."""
    if probe.stores == "memory":
        return await probe.stored(SESSION)
    async with opened(type(probe), probe.folder) as other:
        return await other.stored(SESSION)


def run_trials(trial: Callable[[], Coroutine[Any, Any, str]], times: int) -> dict[str, int]:
    """Run the *trial* several times, each in an event loop of its own; count its outcomes."""
    return tally(asyncio.run(trial()) for _ in range(times))


async def usable(probe: Probe) -> str:
    """Return "usable" if another connection can write and the probe can run a turn.

    Return a description of the fault otherwise.
    """
    if probe.stores == "sqlite":
        try:
            await asyncio.to_thread(_write, probe.path)
        except sqlite3.OperationalError as error:
            return f"other connections: {error}"

    try:
        await asyncio.wait_for(probe.turn(SESSION, "next", answer), 15)
    except Exception as error:  # noqa: BLE001 - as each library reports it
        return f"next turn raises {type(error).__name__}"
    return "usable" if turn_state(await stored(probe), "next") == "whole" else "next turn is lost"


def _write(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=_LOCK_WAIT, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
