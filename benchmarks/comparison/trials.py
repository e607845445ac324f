"""One trial: a folder of its own, a session that already holds one turn, and a scripted model.

1. What is stored is read by a second probe with a connection of its own. A store in memory is read
   through the probe itself.
2. If the model answers at once, writes from before the model call may still be under way. The
   model of a timed trial therefore takes 20 ms.
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
"""Seconds of a model call, in which writes end that began before it (rule 2)."""

_LOCK_WAIT: Final = 2.0
"""Seconds after which another connection counts as locked out."""


async def answer(texts: list[str]) -> str:
    """Reply to the last of *texts*."""
    return reply_to(texts[-1])


@asynccontextmanager
async def opened(probe: type[Probe], folder: Path | None = None) -> AsyncGenerator[Probe]:
    """Open a probe in *folder*, or in a new one that holds a session with one turn."""
    if folder is not None:
        one = probe(folder)
        await one.open()
        try:
            yield one
        finally:
            await one.close()
        return

    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        async with opened(probe, Path(name)) as one:
            await one.turn(SESSION, "first", answer)
            yield one


async def stored(one: Probe) -> list[Message]:
    """Load the session as another process sees it (rule 1)."""
    if one.stores == "memory":
        return await one.stored(SESSION)
    async with opened(type(one), one.folder) as other:
        return await other.stored(SESSION)


def run_trials(trial: Callable[[], Coroutine[Any, Any, str]], times: int) -> dict[str, int]:
    """Run the *trial* several times, each in an event loop of its own; count its outcomes."""
    return tally(asyncio.run(trial()) for _ in range(times))


async def usable(one: Probe) -> str:
    """Say if another connection can write, and if the same probe can run another turn."""
    if one.stores == "sqlite":
        try:
            await asyncio.to_thread(_write, one.path)
        except sqlite3.OperationalError as error:
            return f"other connections: {error}"

    try:
        await asyncio.wait_for(one.turn(SESSION, "next", answer), 15)
    except Exception as error:  # noqa: BLE001 - as each library reports it
        return f"next turn raises {type(error).__name__}"
    return "usable" if turn_state(await stored(one), "next") == "whole" else "next turn is lost"


def _write(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=_LOCK_WAIT, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
