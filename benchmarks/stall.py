"""stall: how long a load of 10,000 items keeps the event loop from anything else.

Every turn of the session calls a tool. A task asks to be woken after one ms, over and over, while
the session is loaded and looked at: the stall is how much later than that it was, at worst. Cold is
the first load of a store that was just opened, hot the worse of the next two. Garbage collection is
off meanwhile; how long it stops the loop, where it is on, is a measurement of its own. Nothing is
what the machine does by itself for as long.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Series, alternate
from benchmarks.reporting import Report, Target, absolutes
from benchmarks.sides import Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

ITEMS = 10_000
TICK = 0.001
ROUNDS = 12
IDLE = 0.05
BOUND = 4
"""Milliseconds that the longest stall may be."""

COLD, HOT, COLLECTING = "cold", "hot", "longest collection while cold"


def run(bench: Bench) -> Report:
    """Measure, for the targets and beside the peers that can load so much."""
    series = anyio.run(_measure, bench)
    ours = {each.case: each.rounds for each in series if each.side == TowerMemory.name}
    targets = [
        Target(
            f"longest stall while {ITEMS:,} items are loaded, {case}", ours[case], BOUND, unit="ms"
        )
        for case in (COLD, HOT)
    ]
    return Report(series, [absolutes(f"While {ITEMS:,} items are loaded, ms", series)], targets)


async def _measure(bench: Bench) -> list[Series]:
    kinds: list[type[Side]] = [
        TowerMemory,
        *(peer for peer in bench.peers if peer.largest >= ITEMS),
    ]
    turns = list(Transcript(0, tools_every=1).filling(ITEMS))
    rounds = bench.rounds(ROUNDS)
    found: dict[tuple[str, str], list[float]] = {}
    with TemporaryDirectory(dir=bench.folder) as folder:
        measures = {
            kind.name: await _loading(kind, Path(folder) / kind.name, turns, found)
            for kind in kinds
        }
        await alternate(measures, rounds, bench.telling("loads", rounds))
    idle = [1_000 * await _longest(lambda: anyio.sleep(IDLE)) for _ in range(rounds)]
    series = [Series(case, side, "ms", values[1:]) for (side, case), values in found.items()]
    return [*series, *(Series(case, "nothing", "ms", idle) for case in (COLD, HOT))]


async def _loading(
    kind: type[Side],
    path: Path,
    turns: Sequence[ChatTurn],
    found: dict[tuple[str, str], list[float]],
) -> Callable[[int], Awaitable[float]]:
    """What opens the side anew, loads the session, and notes what was *found* of it."""
    async with kind(path) as side:
        await side.fill(session_id(1), turns)

    async def measure(_: int) -> float:
        with _without_collection():
            async with kind(path) as side:
                await side.load(session_id(0))
                cold, *hot = [await _longest(lambda: side.load(session_id(1))) for _ in range(3)]
                for case, stall in ((COLD, cold), (HOT, max(hot))):
                    found.setdefault((kind.name, case), []).append(1_000 * stall)
        async with kind(path) as side:
            with _collections() as pauses:
                await side.load(session_id(1))
        found.setdefault((kind.name, COLLECTING), []).append(1_000 * max(pauses, default=0))
        return 0

    return measure


async def _longest(do: Callable[[], Awaitable[Any]]) -> float:
    """How late a task was woken at worst, in seconds, while something was done."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            start = perf_counter()
            try:
                await anyio.sleep(TICK)
            finally:
                late.append(perf_counter() - start - TICK)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await checkpoint()
        await do()
        tasks.cancel_scope.cancel()
    return max(late)


@contextmanager
def _without_collection() -> Generator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _collections() -> Generator[list[float]]:
    """How long each garbage collection took meanwhile, in seconds."""
    pauses: list[float] = []
    begun = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = perf_counter()
        else:
            pauses.append(perf_counter() - begun)

    gc.callbacks.append(note)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(note)
