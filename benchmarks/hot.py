"""hot: what the sessions in use take in memory, against the bound that ``hot_bytes`` sets.

Many more sessions than there is room for are loaded through one store, each once, or each three
times in a row, and the histories let go of. What stays is what tracemalloc counts then, less what
stays with ``hot_bytes=0``. Sessions are of three kinds: those of the transcript, such with nothing
but tools' calls, and ever so many of two short items, where what keeps them is more than they are.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Series
from benchmarks.reporting import Report, Target, absolutes
from benchmarks.transcripts import ChatTurn, Transcript
from tower_memory import SqliteSessionStore, Turn

MIB = 2**20
BOUND = MIB
AGE = 100
SESSIONS = 60
SHORT_SESSIONS = 1_000
TIMES = {"loaded once": 1, "loaded three times": 3}


def run(bench: Bench) -> Report:
    """Measure, for sessions of each kind."""
    kinds = {
        "transcripts": [list(Transcript(each).filling(AGE)) for each in range(SESSIONS)],
        "tools' calls": [
            list(Transcript(each, tools_every=1).filling(AGE)) for each in range(SESSIONS)
        ],
        "two short items": [[_short(each)] for each in range(SHORT_SESSIONS)],
    }
    series: list[Series] = []
    for number, (kind, sessions) in enumerate(kinds.items(), 1):
        bench.progress.tell(kind, number, len(kinds))
        shares = anyio.run(_shares, bench, sessions)
        series += [Series(case, kind, "", [share]) for case, share in shares.items()]
    worst = max(each.rounds[0] for each in series)
    title = f"Memory kept, as a share of hot_bytes={BOUND // MIB} MiB"
    target = Target("memory of sessions in use, of the worst kind ÷ hot_bytes", [worst], 1)
    return Report(series, [absolutes(title, series)], [target])


def _short(number: int) -> ChatTurn:
    said = {"role": "user", "content": f"Hi {number}"}
    return ChatTurn(said, [{"role": "assistant", "content": "Hello."}])


async def _shares(bench: Bench, sessions: Sequence[Sequence[ChatTurn]]) -> dict[str, float]:
    with TemporaryDirectory(dir=bench.folder) as folder:
        path = Path(folder) / "sessions.db"
        async with SqliteSessionStore[Any](path) as store, anyio.create_task_group() as tasks:
            for number, turns in enumerate(sessions):
                tasks.start_soon(_fill, store, number, turns)
        shares: dict[str, float] = {}
        for case, times in TIMES.items():
            none, some = [await _kept(path, len(sessions), times, each) for each in (0, BOUND)]
            shares[case] = (some - none) / BOUND
    return shares


async def _fill(store: SqliteSessionStore[Any], number: int, turns: Sequence[ChatTurn]) -> None:
    for turn in turns:
        await store.append(Turn(session_id(number), turn.items))


async def _kept(path: Path, sessions: int, times: int, bound: int) -> int:
    """Bytes that stay once all sessions were loaded so many times."""
    async with SqliteSessionStore[Any](path, hot_bytes=bound) as store:
        await store.load(session_id(0))
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(sessions):
                for _ in range(times):
                    await store.load(session_id(number))
            gc.collect()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
