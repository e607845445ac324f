"""Size of the closed files per byte of transcript.

The size of a transcript is the size of its items' JSON. One session, with a UUID as its id, is
saved turn by turn; all files that the side leaves behind count. There are three transcripts, so the
spread is that of the texts, not of the machine. LangGraph and LangChain are left out at 1,000
items, because 400 turns take them too long.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Series, items_case, rounds_of
from benchmarks.harness.reporting import Report, Target, values_table
from benchmarks.sides import OURS, RawSqlite, Side, TowerMemory
from benchmarks.transcripts import Transcript, json_bytes

LENGTHS = (100, 1_000)
TRANSCRIPTS = 3


def run(bench: Bench) -> Report:
    """Measure the files of all sides."""
    series = [each for items in LENGTHS for each in anyio.run(_measure, bench, items)]
    ours = rounds_of(series, OURS, items_case(1_000))
    target = Target("files of 1,000 items, once closed ÷ their transcript", ours, 1.3)
    return Report(series, [values_table("Bytes on disk per byte of transcript", series)], [target])


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
