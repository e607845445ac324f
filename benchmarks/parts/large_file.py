"""Opening, first load and append in a file of a gigabyte, compared with a small file.

The large file holds 100,000 sessions of equal size, the small one a hundred of them. Each round
opens a store on both files, loads a session that no round has loaded before, and appends a turn to
another one. The files are in the page cache of the system. ``--gigabytes`` sets another size; the
number of sessions grows with it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, ratios
from benchmarks.harness.reporting import Report, Target, ratios_table, values_table
from benchmarks.harness.sessions import session_id
from benchmarks.transcripts import ChatTurn, Message, Transcript
from tower_memory import SqliteSessionStore, Turn

SESSIONS_PER_GIGABYTE = 100_000
FEW_SESSIONS = 100
BYTES = 10_000
"""Bytes of a session's texts."""

ITEMS = 16
APPENDS = 5
ROUNDS = 24
BOUND = 1.5

LARGE, SMALL = "large file", "small file"
STEPS = ("opening", "first load", "append")
_SIMULTANEOUS_APPENDS = 1_000


def run(bench: Bench) -> Report:
    """Write the files, measure both, and compare them."""
    gigabytes = bench.gigabytes / 10 if bench.quick else bench.gigabytes
    sessions = max(FEW_SESSIONS, round(gigabytes * SESSIONS_PER_GIGABYTE))
    times = anyio.run(_measure, bench, sessions)

    series = [Series(step, file, "ms", values) for (file, step), values in times.items()]
    title = f"A store on a file of {gigabytes:g} GB with {sessions:,} sessions, ms"
    targets = [
        Target(
            f"{step}, {sessions:,} sessions ÷ {FEW_SESSIONS}",
            ratios(times[LARGE, step], times[SMALL, step]),
            BOUND,
        )
        for step in STEPS
    ]
    tables = [
        values_table(title, series),
        ratios_table("Time on the large file ÷ time on the small file", series, LARGE),
    ]
    return Report(series, tables, targets)


async def _measure(bench: Bench, sessions: int) -> dict[tuple[str, str], list[float]]:
    """Return the milliseconds of each step on each file."""
    found: dict[tuple[str, str], list[float]] = {}

    with bench.temporary_folder() as folder:
        measures: dict[str, Measure] = {}
        for name, count in ((LARGE, sessions), (SMALL, FEW_SESSIONS)):
            bench.progress.show(f"writing {count:,} sessions", 0, bench.rounds(ROUNDS))
            path = folder / f"{name}.db"
            await _write(path, count)
            measures[name] = partial(_round, path, name, count, found)
        await bench.alternate("rounds", measures, ROUNDS)

    return {key: values[1:] for key, values in found.items()}  # the first is the warm-up's


async def _write(path: Path, sessions: int) -> None:
    """Write *sessions* sessions of one turn."""
    items: list[Message] = [
        {"role": "assistant" if number % 2 else "user", "content": "x" * (BYTES // ITEMS)}
        for number in range(ITEMS)
    ]
    async with SqliteSessionStore[Any](path, synchronous="normal", hot_bytes=0) as store:
        for first in range(0, sessions, _SIMULTANEOUS_APPENDS):
            async with anyio.create_task_group() as tasks:
                for number in range(first, min(sessions, first + _SIMULTANEOUS_APPENDS)):
                    tasks.start_soon(store.append, Turn(session_id(number), items))


async def _round(
    path: Path, name: str, sessions: int, found: dict[tuple[str, str], list[float]], number: int
) -> float:
    """Measure all steps once, on sessions that are far apart, and add the times to *found*."""
    loaded, appended = (session_id((number * 2 + each) * 7_919 % sessions) for each in (0, 1))
    turns: list[ChatTurn] = Transcript(number).turns(APPENDS)

    store = SqliteSessionStore[Any](path)
    start = perf_counter()
    await store.load("none")
    opened = perf_counter()
    await store.load(loaded)
    first_loaded = perf_counter()
    for turn in turns:
        await store.append(Turn(appended, turn.items))
    end = perf_counter()
    await store.aclose()

    times = (opened - start, first_loaded - opened, (end - first_loaded) / APPENDS)
    for step, seconds in zip(STEPS, times, strict=True):
        found.setdefault((name, step), []).append(1_000 * seconds)
    return 0  # the results are in found
