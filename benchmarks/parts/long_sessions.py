"""Turns that load the whole of a long session, and the step where a session leaves the cache.

Sessions of 1,000 to 100,000 items are loaded without a window. Those of 100,000 items are larger
than the session cache, so part of each load is read from the file. Two more sessions are a little
smaller, and a little larger, than the largest that the cache keeps whole: the time per item must
not rise steeply between them.

With ``--against`` another version of the library runs the same turns in alternation. Each version
has a process of its own, and each session a file and a process.
"""

from __future__ import annotations

from contextlib import ExitStack

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.library_process import (
    PREVIOUS,
    LibraryProcess,
    start_processes,
    versions,
)
from benchmarks.harness.measuring import Measure, Series, items_case, rounds_of
from benchmarks.harness.reporting import (
    Report,
    Target,
    ratio_target,
    ratios_table,
    values_table,
)
from benchmarks.harness.sessions import session_id
from benchmarks.sides import OURS

LENGTHS = (1_000, 10_000, 100_000)
BELOW, ABOVE = 16_000, 20_000
"""Lengths of the sessions below and above the share of the cache, which is three quarters of
``hot_bytes``."""

TURNS = {1_000: 10, 10_000: 5, BELOW: 3, ABOVE: 3, 100_000: 1}
ROUNDS = 10


def run(bench: Bench) -> Report:
    """Measure the turns, and compare them with those of the other version."""
    times = anyio.run(_times, bench)
    series = [
        Series(items_case(items), name, "ms", values) for (name, items), values in times.items()
    ]
    tables = [values_table("A turn by length of the session, ms", series)]

    below, above = (rounds_of(series, OURS, items_case(items)) for items in (BELOW, ABOVE))
    steps = [(after / ABOVE) / (before / BELOW) for before, after in zip(below, above, strict=True)]
    description = f"time per item of a turn, at {ABOVE:,} items ÷ at {BELOW:,}, which are cached"
    targets = [Target(description, steps, bound=2)]

    if bench.against is not None:
        tables.append(ratios_table("Time of tower-memory ÷ time of it", series, OURS))
        targets += [
            ratio_target(f"a turn at {case}", series, case, PREVIOUS, bound=1)
            for case in map(items_case, LENGTHS)
        ]
    return Report(series, tables, targets)


async def _times(bench: Bench) -> dict[tuple[str, int], list[float]]:
    rounds = bench.rounds(ROUNDS)
    times: dict[tuple[str, int], list[float]] = {}

    with bench.temporary_folder() as folder, ExitStack() as stack:
        measures: dict[tuple[str, int], Measure] = {}
        for name, sources in versions(bench.against).items():
            paths = [folder / f"{name} {items}.db" for items in TURNS]
            processes = stack.enter_context(start_processes(sources, paths))
            for items, process in zip(TURNS, processes, strict=True):
                bench.progress.show(f"filling a session of {items:,} items", 0, rounds)
                process.run("fill", session_id=session_id(0), items=items, seed=items)
                measures[name, items] = _measure(process, TURNS[items])

        # The versions take turns at each length.
        ordered = dict(sorted(measures.items(), key=lambda each: each[0][1]))
        times = await bench.alternate("turns", ordered, ROUNDS)

    return {key: times[key] for key in measures}


def _measure(process: LibraryProcess, turns: int) -> Measure:
    """Return a measure that runs turns in the session and returns the milliseconds of one."""

    async def measure(_: int) -> float:
        process.run("prepare", session_id=session_id(0), turns=turns)
        return process.run("run")

    return measure
