"""Turns per second of eight processes on one file.

Each process runs turns in a session of its own, of 20 items. The file is locked by one process at a
time, so the rate depends on how the processes wait for each other. With ``--against`` another
version of the library runs the same turns in alternation, with a file and processes of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from time import perf_counter

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.library_process import (
    PREVIOUS,
    LibraryProcess,
    start_processes,
    versions,
)
from benchmarks.harness.measuring import Measure, Series
from benchmarks.harness.reporting import Report, ratio_target, ratios_table, values_table
from benchmarks.harness.sessions import session_id
from benchmarks.sides import OURS

PROCESSES = 8
ITEMS = 20
TURNS = 40
ROUNDS = 12

_CASE = f"{PROCESSES} processes"


def run(bench: Bench) -> Report:
    """Measure the rate, and compare it with that of the other version."""
    rates = anyio.run(_rates, bench)
    series = [Series(_CASE, name, "turns/s", values) for name, values in rates.items()]
    tables = [values_table(f"Turns per second, {PROCESSES} processes on one file", series)]
    if bench.against is None:
        return Report(series, tables)

    tables.append(ratios_table("Turns per second of tower-memory ÷ those of it", series, OURS))
    description = f"turns/s, {_CASE} on one file"
    target = ratio_target(description, series, _CASE, PREVIOUS, 1, at_least=True)
    return Report(series, tables, [target])


async def _rates(bench: Bench) -> dict[str, list[float]]:
    measures: dict[str, Measure] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(bench.temporary_folder())
        for name, sources in versions(bench.against).items():
            paths = [folder / f"{name}.db"] * PROCESSES
            processes = stack.enter_context(start_processes(sources, paths))
            for number, process in enumerate(processes):
                process.run("fill", session_id=session_id(number), items=ITEMS, seed=number)
            measures[name] = _measure(processes)

        return await bench.alternate(_CASE, measures, ROUNDS)


def _measure(processes: Sequence[LibraryProcess]) -> Measure:
    """Return a measure that runs turns in all processes and returns the turns per second."""

    async def measure(_: int) -> float:
        for number, process in enumerate(processes):
            process.run("prepare", session_id=session_id(number), turns=TURNS)

        start = perf_counter()
        for process in processes:
            process.send("run")
        for process in processes:
            process.answer()
        return TURNS * PROCESSES / (perf_counter() - start)

    return measure
