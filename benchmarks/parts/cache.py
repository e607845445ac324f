"""Memory of the session cache, compared with its bound ``hot_bytes``.

Many more sessions than the cache has room for are loaded through one store, each once or three
times in a row, and the histories are dropped. The result is the memory that tracemalloc counts
afterwards, less the memory that it counts with ``hot_bytes=0``. There are three kinds of sessions:
transcripts, sessions in which every turn contains a tool call, and a large number of sessions of
two short items, in which a cache entry needs more memory than its items.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Series
from benchmarks.harness.reporting import Report, Target, values_table
from benchmarks.harness.sessions import session_id
from benchmarks.transcripts import ChatTurn, Transcript
from tower_memory import SqliteSessionStore, Turn

MIB = 2**20
HOT_BYTES = MIB
ITEMS = 100
SESSIONS = 60
SHORT_SESSIONS = 1_000
LOADS = {"loaded once": 1, "loaded three times": 3}


def run(bench: Bench) -> Report:
    """Measure the cache with sessions of each kind."""
    kinds = {
        "transcripts": [list(Transcript(each).turns_until(ITEMS)) for each in range(SESSIONS)],
        "tool calls": [
            list(Transcript(each, tools_every=1).turns_until(ITEMS)) for each in range(SESSIONS)
        ],
        "two short items": [[_short_turn(each)] for each in range(SHORT_SESSIONS)],
    }

    series: list[Series] = []
    for number, (kind, sessions) in enumerate(kinds.items(), 1):
        bench.progress.show(kind, number, len(kinds))
        shares = anyio.run(_shares, bench, sessions)
        series += [Series(case, kind, "", [share]) for case, share in shares.items()]

    title = f"Memory of the session cache ÷ hot_bytes, which is {HOT_BYTES // MIB} MiB"
    worst = max(each.rounds[0] for each in series)
    target = Target("memory of the session cache, worst kind of session ÷ hot_bytes", [worst], 1)
    return Report(series, [values_table(title, series)], [target])


def _short_turn(number: int) -> ChatTurn:
    user_message = {"role": "user", "content": f"Hi {number}"}
    return ChatTurn(user_message, [{"role": "assistant", "content": "Hello."}])


async def _shares(bench: Bench, sessions: Sequence[Sequence[ChatTurn]]) -> dict[str, float]:
    """Return the cache's memory divided by its bound, by the number of loads."""
    shares: dict[str, float] = {}

    with bench.temporary_folder() as folder:
        path = folder / "sessions.db"
        async with SqliteSessionStore[Any](path) as store, anyio.create_task_group() as tasks:
            for number, turns in enumerate(sessions):
                tasks.start_soon(_fill, store, number, turns)

        for case, loads in LOADS.items():
            without = await _allocated(path, len(sessions), loads, hot_bytes=0)
            with_cache = await _allocated(path, len(sessions), loads, hot_bytes=HOT_BYTES)
            shares[case] = (with_cache - without) / HOT_BYTES

    return shares


async def _fill(store: SqliteSessionStore[Any], number: int, turns: Sequence[ChatTurn]) -> None:
    for turn in turns:
        await store.append(Turn(session_id(number), turn.items))


async def _allocated(path: Path, sessions: int, loads: int, *, hot_bytes: int) -> int:
    """Return the bytes that stay allocated after each session was loaded *loads* times."""
    async with SqliteSessionStore[Any](path, hot_bytes=hot_bytes) as store:
        await store.load(session_id(0))
        gc.collect()

        tracemalloc.start()
        try:
            for number in range(sessions):
                for _ in range(loads):
                    await store.load(session_id(number))
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
