"""A durable turn on trio and on asyncio: in one session, and in 64 concurrent sessions.

On each runtime, each round opens a new file in a new event loop, fills sessions of 100 items, loads
them, and then runs turns: twenty in one session, eight in each of 64 sessions.
"""

from __future__ import annotations

from functools import partial

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Series, ratios
from benchmarks.harness.reporting import Report, Target, ratios_table, values_table
from benchmarks.harness.sessions import fill_sessions, time_turns
from benchmarks.sides import TowerMemory

RUNTIMES = ("asyncio", "trio")
ITEMS = 100
TURNS = {1: 20, 64: 8}
BOUNDS = {1: 1.15, 64: 1.15}
ROUNDS = 12


def run(bench: Bench) -> Report:
    """Measure the turns, and compare the runtimes."""
    series: list[Series] = []
    targets: list[Target] = []

    for count, turns in TURNS.items():
        case = "1 session" if count == 1 else f"{count} sessions"
        times = _times(bench, case, count, turns)
        series += [Series(case, runtime, "ms", values) for runtime, values in times.items()]

        quotients = ratios(times["trio"], times["asyncio"])
        targets.append(Target(f"a turn on trio, {case} ÷ on asyncio", quotients, BOUNDS[count]))

    tables = [
        values_table("A turn, ms", series),
        ratios_table("Time on trio ÷ time on asyncio", series, "trio"),
    ]
    return Report(series, tables, targets)


def _times(bench: Bench, case: str, count: int, turns: int) -> dict[str, list[float]]:
    """Return the milliseconds of a turn by runtime, without the warm-up."""
    times: dict[str, list[float]] = {runtime: [] for runtime in RUNTIMES}
    rounds = bench.rounds(ROUNDS)

    for number in range(rounds + 1):
        bench.progress.show(case, number, rounds)
        for runtime in RUNTIMES:
            time = anyio.run(partial(_turn_time, bench, count, turns), backend=runtime)
            if number:
                times[runtime].append(time)

    return times


async def _turn_time(bench: Bench, count: int, turns: int) -> float:
    """Return the milliseconds of a turn."""
    async with bench.open_sides([TowerMemory]) as sides:
        side = sides[TowerMemory.name]
        transcripts = await fill_sessions(side, count, ITEMS)
        return 1_000 * await time_turns(side, transcripts, turns) / (turns * count)
