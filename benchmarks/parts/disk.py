"""Size of the closed files per byte of transcript, and the size of the write-ahead log.

The size of a transcript is the size of its items' JSON. One session, with a UUID as its id, is
saved turn by turn; all files that the side leaves behind count. There are three transcripts, so the
spread is that of the texts, not of the machine. LangGraph and LangChain are left out at 1,000
items, because 400 turns take them too long.

Then 64 sessions load and commit turns at once, and the size of tower-memory's log is read after
each round.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Series, items_case, rounds_of
from benchmarks.harness.reporting import Report, Target, values_table
from benchmarks.harness.sessions import fill_sessions, time_turns
from benchmarks.sides import OURS, RawSqlite, Side, TowerMemory
from benchmarks.transcripts import Transcript, json_bytes

LENGTHS = (100, 1_000)
TRANSCRIPTS = 3

SESSIONS = 64
SESSION_ITEMS = 20
TURNS = 8
LOG_ROUNDS = 20
LOG_BOUND = 8
"""Megabytes: SQLite copies the log to the file at 4 MiB, unless a load is reading just then."""


def run(bench: Bench) -> Report:
    """Measure the files of all sides."""
    series = [each for items in LENGTHS for each in anyio.run(_measure, bench, items)]
    ours = rounds_of(series, OURS, items_case(1_000))
    case = f"after each {SESSIONS * TURNS} turns"
    log = Series(case, f"{OURS}, log", "MB", anyio.run(_log_sizes, bench))

    targets = [
        Target("files of 1,000 items, once closed ÷ their transcript", ours, 1.3),
        Target("largest write-ahead log", [max(log.rounds)], LOG_BOUND, unit="MB"),
    ]
    tables = [
        values_table("Bytes on disk per byte of transcript", series),
        values_table("Size of the write-ahead log, MB", [log]),
    ]
    return Report([*series, log], tables, targets)


async def _measure(bench: Bench, items: int) -> list[Series]:
    kinds: list[type[Side]] = [RawSqlite, TowerMemory, *bench.peers]
    seeds = range(1 if bench.quick else TRANSCRIPTS)
    series: list[Series] = []

    for number, kind in enumerate(kinds, 1):
        bench.progress.show(f"{items:,} items", number, len(kinds))
        if kind.is_slow and items > LENGTHS[0]:
            continue
        shares = [await _relative_size(bench, kind, items, seed) for seed in seeds]
        series.append(Series(items_case(items), kind.name, "", shares))

    return series


async def _relative_size(bench: Bench, kind: type[Side], items: int, seed: int) -> float:
    """Return the size of the files divided by the size of the transcript."""
    turns = list(Transcript(seed).turns_until(items))
    session_id = str(UUID(int=seed, version=4))

    with bench.temporary_folder() as folder:
        async with kind(folder / "sessions.db") as side:
            for turn in turns:
                await side.run_turn(session_id, side.prepare(turn))
        return _bytes_in(folder) / json_bytes(turns)


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def _log_sizes(bench: Bench) -> list[float]:
    """Return the megabytes of the log after each round of turns."""
    sizes: list[float] = []
    rounds = bench.rounds(LOG_ROUNDS)

    with bench.temporary_folder() as folder:
        async with TowerMemory(folder / "sessions.db") as side:
            transcripts = await fill_sessions(side, SESSIONS, SESSION_ITEMS)
            for number in range(1, rounds + 1):
                bench.progress.show("write-ahead log", number, rounds)
                await time_turns(side, transcripts, TURNS)
                sizes.append((folder / "sessions.db-wal").stat().st_size / 1e6)
    return sizes
