"""A page of sessions and a description, in stores with few and with many sessions.

The large stores hold 100,000 sessions of 20 items, the small ones 1,000. Each thousand sessions
belong to one user, whose name begins their ids; the users take turns, so the sessions of one user
lie far apart. A round lists the first page, a page in the middle of a walk and a page of one user,
and describes a session. A quick run has 10,000 sessions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any, Final

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, ratios
from benchmarks.harness.reporting import Report, Target, ratios_table, values_table
from tower_memory import InMemorySessionStore, SqliteSessionStore, Turn

SESSIONS, FEW_SESSIONS = 100_000, 1_000
SESSIONS_OF_A_USER = 1_000
ITEMS: Final = ["x" * 40] * 20
ROUNDS = 24
CALLS = 10
BOUND = 2

LARGE, SMALL = "many sessions", "few sessions"
KINDS = ("sqlite", "in memory")
STEPS = ("first page", "page in the middle", "page of a user", "describe")

_SIMULTANEOUS_APPENDS = 1_000

Store = SqliteSessionStore[Any] | InMemorySessionStore[Any]


def run(bench: Bench) -> Report:
    """Fill the stores, measure each step in all of them, and compare."""
    sessions = SESSIONS // 10 if bench.quick else SESSIONS
    times = anyio.run(_measure, bench, sessions)

    series = [
        Series(f"{step}, {kind}", size, "ms", values)
        for (kind, size, step), values in times.items()
    ]
    targets = [
        Target(
            f"{step}, {kind}, {sessions:,} sessions ÷ {FEW_SESSIONS:,}",
            ratios(times[kind, LARGE, step], times[kind, SMALL, step]),
            BOUND,
        )
        for kind in KINDS
        for step in STEPS
    ]
    title = f"Calls with {FEW_SESSIONS:,} and with {sessions:,} sessions, ms"
    tables = [
        values_table(title, series),
        ratios_table("Time with many sessions ÷ time with few sessions", series, LARGE),
    ]
    return Report(series, tables, targets)


async def _measure(bench: Bench, sessions: int) -> dict[tuple[str, str, str], list[float]]:
    """Return the milliseconds of each step in each store."""
    with bench.temporary_folder() as folder:
        measures: dict[tuple[str, str, str], Measure] = {}
        opened: list[SqliteSessionStore[Any]] = []
        for size, number in ((LARGE, sessions), (SMALL, FEW_SESSIONS)):
            file = SqliteSessionStore[Any](folder / f"{size}.db", synchronous="normal", hot_bytes=0)
            opened.append(file)
            stores: tuple[Store, ...] = (file, InMemorySessionStore[Any]())
            for kind, store in zip(KINDS, stores, strict=True):
                bench.progress.show(f"writing {number:,} sessions", 0, bench.rounds(ROUNDS))
                await _fill(store, number)
                steps = await _steps(store, number)
                for step, call in zip(STEPS, steps, strict=True):
                    measures[kind, size, step] = partial(_time, call)

        # Both sizes of a step are measured directly after one another.
        ordered = dict(sorted(measures.items(), key=lambda each: (each[0][0], each[0][2])))
        times = await bench.alternate("rounds", ordered, ROUNDS)
        for file in opened:
            await file.aclose()
    return {key: times[key] for key in measures}


def _session_id(number: int, sessions: int) -> str:
    users = sessions // SESSIONS_OF_A_USER
    return f"user {number % users:04d}/{number:032x}"


async def _fill(store: Store, sessions: int) -> None:
    for first in range(0, sessions, _SIMULTANEOUS_APPENDS):
        async with anyio.create_task_group() as tasks:
            for number in range(first, min(sessions, first + _SIMULTANEOUS_APPENDS)):
                tasks.start_soon(store.append, Turn(_session_id(number, sessions), ITEMS))


async def _steps(store: Store, sessions: int) -> tuple[Callable[[], Awaitable[object]], ...]:
    """Return a function for each of the steps."""
    middle = await store.sessions(limit=sessions // 2)
    numbers = count(7_919, 7_919)

    def describe() -> Awaitable[object]:
        return store.describe(_session_id(next(numbers) % sessions, sessions))

    return (
        store.sessions,
        partial(store.sessions, after=middle.next),
        partial(store.sessions, prefix="user 0000/"),
        describe,
    )


async def _time(call: Callable[[], Awaitable[object]], _: int) -> float:
    """Return the milliseconds of one of several calls."""
    start = perf_counter()
    for _number in range(CALLS):
        await call()
    return 1_000 * (perf_counter() - start) / CALLS
