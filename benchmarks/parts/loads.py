"""The 99th percentile of load times while turns are being committed.

Eight writers add turns to sessions of their own. Each adds a turn every 50 ms, or later if the side
cannot keep up. Meanwhile one reader loads another session, of 100 items, every few milliseconds.
Then the same with writers that add turns as fast as they can: the faster a side writes, the more
commits its loads compete with. A round is half a second of each side, a quarter in a quick run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from time import perf_counter

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, percentile
from benchmarks.harness.reporting import (
    Report,
    Table,
    fastest_peer_targets,
    format_number,
    ratios_table,
    values_table,
)
from benchmarks.harness.sessions import session_id
from benchmarks.sides import OURS, Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

WRITERS = 8
ITEMS = 100
SECONDS = 0.5
WRITE_INTERVAL = 0.05
LOAD_INTERVAL = 0.002
SHARE = 0.99
ROUNDS = 8

TURNS = 40
"""Number of different turns of each writer; after the last it starts again with the first."""

PACED, UNPACED = "a turn every 50 ms", "as fast as they can"


def run(bench: Bench) -> Report:
    """Measure the load times, and compare with the peers."""
    series: list[Series] = []
    rows: list[list[str]] = []
    for case, interval in ((PACED, WRITE_INTERVAL), (UNPACED, 0.0)):
        found, rates = anyio.run(_measure, bench, case, interval)
        series += found
        rows += [[name, case, format_number(rate)] for name, rate in rates.items()]

    title = f"A load of {ITEMS} items while {WRITERS} writers commit: 99th percentile, ms"
    tables = [
        values_table(title, series),
        ratios_table("Time of tower-memory ÷ time of each side", series, OURS),
        Table("Turns written per second meanwhile", ["", "writers", "turns/s"], rows),
    ]
    targets = [
        target
        for case in (PACED, UNPACED)
        for target in fastest_peer_targets(
            f"99th percentile of loads, writers {case}", series, case, 0.35
        )
    ]
    return Report(series, tables, targets)


async def _measure(
    bench: Bench, case: str, interval: float
) -> tuple[list[Series], dict[str, float]]:
    """Return the load times, and the mean number of turns per second that each side wrote."""
    seconds = SECONDS / 2 if bench.quick else SECONDS
    turns = [Transcript(each).turns(TURNS) for each in range(WRITERS)]
    rates: dict[str, list[float]] = {}

    async with bench.open_sides([TowerMemory, *bench.peers]) as sides:
        measures: dict[str, Measure] = {}
        for name, side in sides.items():
            await side.fill(session_id(0), list(Transcript(0).turns_until(ITEMS)))
            side_rates = rates.setdefault(name, [])
            measures[name] = partial(_round, side, turns, interval, side_rates, seconds=seconds)

        times = await bench.alternate(f"writers, {case}", measures, ROUNDS)

    series = [Series(case, name, "ms", values) for name, values in times.items()]
    return series, {name: fmean(side_rates) for name, side_rates in rates.items()}


async def _round(
    side: Side,
    turns: Sequence[Sequence[ChatTurn]],
    interval: float,
    rates: list[float],
    number: int,
    *,
    seconds: float,
) -> float:
    """Return the 99th percentile of one round's load times, in milliseconds.

    Append the turns written per second to *rates*.
    """
    writers = [_Writer(side, f"{session_id(number)}-{each}") for each in range(len(turns))]
    loads: list[float] = []
    start = perf_counter()
    end = start + seconds

    async with anyio.create_task_group() as tasks:
        for writer, writer_turns in zip(writers, turns, strict=True):
            tasks.start_soon(writer.write, writer_turns, interval, end)
        await _read(side, loads, end)

    rates.append(sum(writer.written for writer in writers) / (perf_counter() - start))
    return 1_000 * percentile(loads, SHARE)


async def _read(side: Side, loads: list[float], end: float) -> None:
    """Load the session until *end*, and append the seconds of each load to *loads*."""
    while (start := perf_counter()) < end:
        await side.load(session_id(0))
        loads.append(perf_counter() - start)
        await anyio.sleep(LOAD_INTERVAL)


class _Writer:
    """Adds turns to one session and counts them."""

    def __init__(self, side: Side, name: str) -> None:
        self._side = side
        self._session_id = name
        self.written = 0

    async def write(self, turns: Sequence[ChatTurn], interval: float, end: float) -> None:
        """Add a turn every *interval* seconds until *end*."""
        due = now = perf_counter()
        while now < end:
            await self._side.fill(self._session_id, [turns[self.written % len(turns)]])
            self.written += 1

            now = perf_counter()
            due = max(due + interval, now)
            await anyio.sleep(due - now)
