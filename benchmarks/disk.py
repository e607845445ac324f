"""disk: how large the files are once closed, for each byte of transcript.

A transcript's size is that of its items' JSON. One session with a uuid as its id, saved turn by
turn; all files that the side leaves behind count. Three transcripts, so the spread is that of
texts, not of the machine. LangGraph and LangChain are left out at 1,000 items, as 400 turns take
them too long.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import anyio

from benchmarks.bench import Bench
from benchmarks.measuring import Series
from benchmarks.reporting import Report, Target, absolutes
from benchmarks.sides import Floor, Side, TowerMemory
from benchmarks.transcripts import Transcript, size

AGES = (100, 1_000)
TRANSCRIPTS = 3


def run(bench: Bench) -> Report:
    """Measure."""
    series = [each for age in AGES for each in anyio.run(_measure, bench, age)]
    ours = [each for each in series if each.side == TowerMemory.name]
    what = "files of 1,000 items, once closed ÷ their transcript"
    title = "Bytes on disk for each byte of transcript"
    return Report(series, [absolutes(title, series)], [Target(what, ours[-1].rounds, 1.3)])


async def _measure(bench: Bench, age: int) -> list[Series]:
    series: list[Series] = []
    kinds: list[type[Side]] = [Floor, TowerMemory, *bench.peers]
    for number, kind in enumerate(kinds, 1):
        bench.progress.tell(f"{age:,} items", number, len(kinds))
        if kind.is_slow and age > AGES[0]:
            continue
        seeds = range(1 if bench.quick else TRANSCRIPTS)
        found = [await _share(bench, kind, age, seed) for seed in seeds]
        series.append(Series(f"{age:,} items", kind.name, "", found))
    return series


async def _share(bench: Bench, kind: type[Side], age: int, seed: int) -> float:
    turns = list(Transcript(seed).filling(age))
    session = str(UUID(int=seed, version=4))
    with TemporaryDirectory(dir=bench.folder) as folder:
        async with kind(Path(folder) / "sessions.db") as side:
            for turn in turns:
                await side.turn(session, side.prepared(turn))
        return _bytes_in(Path(folder)) / size(turns)


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
