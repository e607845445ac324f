"""A search for a word that occurs in 1,000 of many sessions, with an index and through a scope.

The file holds 100,000 sessions of 20 items. A quick run has 10,000 sessions. A further word occurs
in every session: its search reads the place of every turn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series
from benchmarks.harness.reporting import Report, Target, values_table
from tower_memory import ScopedStore, SqliteSessionStore, Turn

SESSIONS = 100_000
SESSIONS_WITH_WORD = 1_000
ITEMS: Final = [{"role": "user", "content": "words of a usual sentence"}] * 19
ROUNDS = 24
BOUND_MS = 50.0
STORE, SCOPE, EVERYWHERE = "the store", "a scope", "the store, a word of every session"

_SIMULTANEOUS_APPENDS = 1_000


def run(bench: Bench) -> Report:
    """Fill a file with an index, and measure the searches."""
    sessions = SESSIONS // 10 if bench.quick else SESSIONS
    times = anyio.run(_measure, bench, sessions)
    series = [Series("search", side, "ms", values) for side, values in times.items()]
    label = f"a word in {SESSIONS_WITH_WORD:,} of {sessions:,} sessions, ms"
    targets = [Target(f"{label}, {side}", times[side], BOUND_MS) for side in (STORE, SCOPE)]
    return Report(series, [values_table(f"Search in {sessions:,} sessions, ms", series)], targets)


async def _measure(bench: Bench, sessions: int) -> dict[str, list[float]]:
    """Return the milliseconds of each search."""
    with bench.temporary_folder() as folder:
        async with SqliteSessionStore(
            folder / "search.db", synchronous="normal", search_index=True
        ) as store:
            scope = ScopedStore(store, "tenant")
            bench.progress.show(f"writing {sessions:,} sessions", 0, bench.rounds(ROUNDS))
            await _fill(scope, sessions)
            measures: dict[str, Measure] = {
                STORE: partial(_time, partial(store.search, "needle")),
                SCOPE: partial(_time, partial(scope.search, "needle")),
                EVERYWHERE: partial(_time, partial(store.search, "sentence")),
            }
            return await bench.alternate("rounds", measures, ROUNDS)


async def _fill(store: ScopedStore[Any], sessions: int) -> None:
    every = sessions // SESSIONS_WITH_WORD
    for first in range(0, sessions, _SIMULTANEOUS_APPENDS):
        async with anyio.create_task_group() as tasks:
            for number in range(first, min(sessions, first + _SIMULTANEOUS_APPENDS)):
                word = "needle" if number % every == 0 else "hay"
                last = {"role": "assistant", "content": f"{word} {number}"}
                tasks.start_soon(store.append, Turn(f"{number:032x}", [*ITEMS, last]))


async def _time(search: Callable[[], Awaitable[object]], _: int) -> float:
    """Return the milliseconds of one search."""
    start = perf_counter()
    await search()
    return 1_000 * (perf_counter() - start)
