"""loads: how long loads take while commits are streaming: the 99th percentile.

Eight writers add turns to sessions of their own, each a turn every 50 ms, or later where it cannot
keep up; meanwhile one reader loads another session, of 100 items, every few ms. Then again with
writers that add as fast as they can: the faster a side is, the more its loads have beside them.
Each round is half a second of each side, or half of that in a quick run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from time import perf_counter

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Measure, Series, alternate, least, percentile, ratios
from benchmarks.reporting import Report, Table, Target, absolutes, number, relatives
from benchmarks.sides import Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

WRITERS = 8
AGE = 100
SECONDS = 0.5
EVERY = 0.05
BETWEEN_LOADS = 0.002
SHARE = 0.99
ROUNDS = 8
TURNS = 40
"""Turns that are made ready for each writer; it begins again with the first after the last."""

PACED, STREAMING = "a turn every 50 ms", "as fast as they can"


def run(bench: Bench) -> Report:
    """Measure, and compare with the peers."""
    series: list[Series] = []
    rows: list[list[str]] = []
    for case, every in ((PACED, EVERY), (STREAMING, 0.0)):
        found, written = anyio.run(_measure, bench, case, every)
        series += found
        rows += [[name, case, number(rate)] for name, rate in written.items()]
    title = f"A load of {AGE} items while {WRITERS} write: 99th percentile, ms"
    tables = [
        absolutes(title, series),
        relatives("That of tower-memory, as a multiple of each", series, TowerMemory.name),
        Table("Turns written per second meanwhile", ["", "writers", "turns/s"], rows),
    ]
    return Report(series, tables, _targets(series))


def _targets(series: Sequence[Series]) -> list[Target]:
    targets: list[Target] = []
    for case in (PACED, STREAMING):
        those = [each for each in series if each.case == case]
        ours = next(each for each in those if each.side == TowerMemory.name)
        if peers := [each for each in those if each is not ours]:
            best = least(peers)
            what = f"99th percentile of loads, writers {case} ÷ {best.side}, the fastest peer"
            targets.append(Target(what, ratios(ours.rounds, best.rounds), 0.5))
    return targets


async def _measure(bench: Bench, case: str, every: float) -> tuple[list[Series], dict[str, float]]:
    rounds = bench.rounds(ROUNDS)
    seconds = SECONDS / 2 if bench.quick else SECONDS
    written: dict[str, list[float]] = {}
    turns = [Transcript(each).turns(TURNS) for each in range(WRITERS)]
    async with bench.opened([TowerMemory, *bench.peers]) as sides:
        measures: dict[str, Measure] = {}
        for name, side in sides.items():
            await side.fill(session_id(0), list(Transcript(0).filling(AGE)))
            rates = written.setdefault(name, [])
            measures[name] = partial(_round, side, turns, every, rates, seconds=seconds)
        found = await alternate(measures, rounds, bench.telling(f"writers, {case}", rounds))
    series = [Series(case, name, "ms", times) for name, times in found.items()]
    return series, {name: fmean(rates) for name, rates in written.items()}


async def _round(
    side: Side,
    turns: Sequence[Sequence[ChatTurn]],
    every: float,
    rates: list[float],
    count: int,
    *,
    seconds: float,
) -> float:
    """The 99th percentile of the loads of one round, in ms."""
    writers = [_Writer(side, f"{session_id(count)}-{number}") for number in range(len(turns))]
    loads: list[float] = []
    start = perf_counter()
    end = start + seconds
    async with anyio.create_task_group() as tasks:
        for writer, several in zip(writers, turns, strict=True):
            tasks.start_soon(writer.write, several, every, end)
        await _read(side, loads, end)
    rates.append(sum(writer.written for writer in writers) / (perf_counter() - start))
    return 1_000 * percentile(loads, SHARE)


async def _read(side: Side, loads: list[float], end: float) -> None:
    while (start := perf_counter()) < end:
        await side.load(session_id(0))
        loads.append(perf_counter() - start)
        await anyio.sleep(BETWEEN_LOADS)


class _Writer:
    """Adds turns to one session."""

    def __init__(self, side: Side, session: str) -> None:
        self._side = side
        self._session = session
        self.written = 0

    async def write(self, turns: Sequence[ChatTurn], every: float, end: float) -> None:
        due = now = perf_counter()
        while now < end:
            await self._side.fill(self._session, [turns[self.written % len(turns)]])
            self.written += 1
            now = perf_counter()
            due = max(due + every, now)
            await anyio.sleep(due - now)
