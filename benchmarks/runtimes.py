"""runtimes: trio against asyncio: a durable turn in one session, and in 64 at once.

Each round opens a file of its own in a new event loop of each runtime, fills sessions of 100 items,
loads them, and then takes turns: twenty in one session, eight in each of 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Series, ratios
from benchmarks.reporting import Report, Target, absolutes, relatives
from benchmarks.sides import TowerMemory
from benchmarks.transcripts import Transcript

RUNTIMES = ("asyncio", "trio")
AGE = 100
TURNS = {1: 20, 64: 8}
BOUNDS = {1: 2.5, 64: 1.6}
ROUNDS = 12


def run(bench: Bench) -> Report:
    """Measure, and compare the runtimes."""
    series: list[Series] = []
    targets: list[Target] = []
    for count, turns in TURNS.items():
        times: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
        rounds = bench.rounds(ROUNDS)
        for number in range(rounds + 1):
            bench.progress.tell(_case(count), number, rounds)
            for runtime in RUNTIMES:
                time = anyio.run(partial(_turns, bench, count, turns), backend=runtime)
                times[runtime] += [time] if number else []
        series += [Series(_case(count), side, "ms", found) for side, found in times.items()]
        what = f"a turn on trio, {_case(count)} ÷ on asyncio"
        targets.append(Target(what, ratios(times["trio"], times["asyncio"]), BOUNDS[count]))
    tables = [
        absolutes("A turn, ms", series),
        relatives("The time of trio, as a multiple", series, "trio"),
    ]
    return Report(series, tables, targets)


def _case(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"


async def _turns(bench: Bench, count: int, turns: int) -> float:
    """How many ms a turn took."""
    async with bench.opened([TowerMemory]) as sides:
        side = sides[TowerMemory.name]
        new: list[tuple[str, Sequence[object]]] = []
        for number in range(count):
            transcript = Transcript(number)
            await side.fill(session_id(number), list(transcript.filling(AGE)))
            await side.load(session_id(number))
            ready = [side.prepared(turn) for turn in transcript.turns(turns)]
            new.append((session_id(number), ready))
        start = perf_counter()
        await side.at_once(new)
        return 1_000 * (perf_counter() - start) / (turns * count)
