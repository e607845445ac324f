"""The longest time that large loads and many turns block the event loop, or other loads.

Every turn of the session contains a tool call. While the session is loaded and its items are
accessed, a task sleeps for 1 ms again and again. The stall is the longest delay of its wake-up.
"First load" is the first load through a store that has just been opened; "later loads" is the worse
of the next two, which hit the session cache if the side has a cache. Garbage collection is off
meanwhile; the longest pause that it causes in a first load is measured separately. "Idle" is the
delay on this machine without any load.

Then 1,000 turns begin at once, each in a new session, with tower-memory only. Last, a session of a
million short items is loaded, while a session of 100 items is loaded again and again: the result is
the longest of these loads, less their median without the long load.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, rounds_of
from benchmarks.harness.reporting import Report, Target, values_table
from benchmarks.harness.sessions import session_id
from benchmarks.sides import OURS, Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Message, Transcript
from tower_memory import SqliteSessionStore

ITEMS = 10_000
TICK = 0.001
ROUNDS = 12
IDLE_SECONDS = 0.05
BOUND = 4
"""Milliseconds that the longest stall may last."""

TURNS = 1_000
TURNS_BOUND = 40
"""Milliseconds that the longest stall may last while that many turns begin at once."""

LONG_ITEMS = 1_000_000
ITEMS_PER_TURN = 1_000
OTHER_ITEMS = 100
LONG_ROUNDS = 3
DELAY_BOUND = 50
"""Milliseconds that the load of so many items may delay loads of other sessions."""

FIRST, LATER = "first load", "later loads"
COLLECTION = "longest garbage collection, first load"


def run(bench: Bench) -> Report:
    """Measure the stalls of tower-memory and of the peers that can load so many items."""
    series = anyio.run(_measure, bench)
    at_once = Series(f"{TURNS:,} turns at once", OURS, "ms", anyio.run(_turns_at_once, bench))
    delays = Series("other loads", OURS, "ms", anyio.run(_delays_of_loads, bench))

    targets = [
        Target(
            f"longest stall while {ITEMS:,} items are loaded, {case}",
            rounds_of(series, OURS, case),
            BOUND,
            unit="ms",
        )
        for case in (FIRST, LATER)
    ]
    targets += [
        Target(f"longest stall, {at_once.case}", at_once.rounds, TURNS_BOUND, unit="ms"),
        Target(
            f"longest delay of a load while {LONG_ITEMS:,} items are loaded",
            delays.rounds,
            DELAY_BOUND,
            unit="ms",
        ),
    ]
    tables = [
        values_table(f"While {ITEMS:,} items are loaded, ms", series),
        values_table(f"While {TURNS:,} turns begin at once, ms", [at_once]),
        values_table(f"Delay of a load while {LONG_ITEMS:,} items are loaded, ms", [delays]),
    ]
    return Report([*series, at_once, delays], tables, targets)


async def _measure(bench: Bench) -> list[Series]:
    peers = [peer for peer in bench.peers if peer.max_items >= ITEMS]
    kinds: list[type[Side]] = [TowerMemory, *peers]
    turns = list(Transcript(0, tools_every=1).turns_until(ITEMS))
    found: dict[tuple[str, str], list[float]] = {}

    with bench.temporary_folder() as folder:
        measures = {
            kind.name: await _load_measure(kind, folder / kind.name, turns, found) for kind in kinds
        }
        await bench.alternate("loads", measures, ROUNDS)

    idle = [
        1_000 * await _longest_delay(lambda: anyio.sleep(IDLE_SECONDS))
        for _ in range(bench.rounds(ROUNDS))
    ]

    # The first value is the warm-up's.
    series = [Series(case, side, "ms", values[1:]) for (side, case), values in found.items()]
    return [*series, *(Series(case, "idle", "ms", idle) for case in (FIRST, LATER))]


async def _load_measure(
    kind: type[Side],
    path: Path,
    turns: Sequence[ChatTurn],
    found: dict[tuple[str, str], list[float]],
) -> Measure:
    """Return a measure that opens the side, loads the session, and adds its results to *found*."""
    async with kind(path) as side:
        await side.fill(session_id(1), turns)

    async def measure(_: int) -> float:
        with _without_collection():
            async with kind(path) as side:
                await side.load(session_id(0))
                first, *later = [
                    await _longest_delay(lambda: side.load(session_id(1))) for _ in range(3)
                ]
                for case, stall in ((FIRST, first), (LATER, max(later))):
                    found.setdefault((kind.name, case), []).append(1_000 * stall)

        async with kind(path) as side:
            with _collection_times() as times:
                await side.load(session_id(1))
        found.setdefault((kind.name, COLLECTION), []).append(1_000 * max(times, default=0))

        return 0  # the results are in found

    return measure


async def _turns_at_once(bench: Bench) -> list[float]:
    """Return the longest stall of each round, in milliseconds."""
    rounds = bench.rounds(ROUNDS)
    stalls: list[float] = []

    async with bench.open_sides([TowerMemory]) as sides:
        side = sides[OURS]
        for number in range(rounds + 1):
            bench.progress.show(f"{TURNS:,} turns at once", number, rounds)
            turns = [
                (session_id(number * TURNS + each), [side.prepare(turn)])
                for each, turn in enumerate(Transcript(number).turns(TURNS))
            ]
            gc.collect()
            with _without_collection():
                stalls.append(1_000 * await _longest_delay(partial(side.run_concurrently, turns)))
    return stalls[1:]


async def _delays_of_loads(bench: Bench) -> list[float]:
    """Return the longest delay of a load of another session in each round, in milliseconds."""
    rounds = bench.rounds(LONG_ROUNDS)
    delays: list[float] = []

    with bench.temporary_folder() as folder:
        async with TowerMemory(folder / "sessions.db") as side:
            bench.progress.show(f"filling a session of {LONG_ITEMS:,} items", 0, rounds)
            await side.fill(session_id(0), _short_turns())
            await side.fill(session_id(1), list(Transcript(1).turns_until(OTHER_ITEMS)))

            for number in range(1, rounds + 1):
                bench.progress.show(f"a load of {LONG_ITEMS:,} items", number, rounds)
                delays.append(1_000 * await _delay_of_loads(side.store))
    return delays


async def _delay_of_loads(store: SqliteSessionStore[Any]) -> float:
    """Return the longest delay of a load beside a long one, in seconds."""
    idle: list[float] = []
    with anyio.move_on_after(IDLE_SECONDS):
        await _load_repeatedly(store, idle)

    beside: list[float] = []
    gc.collect()
    with _without_collection():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_load_repeatedly, store, beside)
            history = await store.load(session_id(0))
            tasks.cancel_scope.cancel()
        del history  # not before: to free its items takes long
    return max(beside) - median(idle)


def _short_turns() -> list[ChatTurn]:
    """Return the turns of a session of short items."""
    answer: list[Message] = [
        {"role": "assistant", "content": f"Item {number}."} for number in range(ITEMS_PER_TURN - 1)
    ]
    return [ChatTurn({"role": "user", "content": "Go on."}, answer)] * (
        LONG_ITEMS // ITEMS_PER_TURN
    )


async def _load_repeatedly(store: SqliteSessionStore[Any], times: list[float]) -> None:
    """Load the session of 100 items for ever, and append the seconds of each load to *times*."""
    while True:
        start = perf_counter()
        try:
            await store.load(session_id(1))
        finally:
            times.append(perf_counter() - start)
        await anyio.sleep(TICK)


async def _longest_delay(work: Callable[[], Awaitable[Any]]) -> float:
    """Return the longest delay of a task's wake-up during *work*, in seconds."""
    delays: list[float] = []

    async def tick() -> None:
        while True:
            start = perf_counter()
            try:
                await anyio.sleep(TICK)
            finally:
                delays.append(perf_counter() - start - TICK)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await checkpoint()
        await work()
        tasks.cancel_scope.cancel()

    return max(delays)


@contextmanager
def _without_collection() -> Generator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _collection_times() -> Generator[list[float]]:
    """Yield a list that collects the duration of each garbage collection, in seconds."""
    times: list[float] = []
    start = 0.0

    def record(phase: str, _: dict[str, int]) -> None:
        nonlocal start
        if phase == "start":
            start = perf_counter()
        else:
            times.append(perf_counter() - start)

    gc.callbacks.append(record)
    try:
        yield times
    finally:
        gc.callbacks.remove(record)
