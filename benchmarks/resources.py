"""resources: threads and open files, from one session to 10,000.

A turn is taken in each of so many sessions, 64 at a time, through one side that stays open; then
the threads and the open files of the process are counted, less those before it was opened. A quick
run leaves the peers out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Series
from benchmarks.reporting import Report, Target, absolutes
from benchmarks.sides import Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

COUNTS = (1, 100, 10_000)
OF_PEERS = 100
"""Sessions up to which peers are counted: some open a thread and files for each."""

AT_ONCE = 64
_OPEN_FILES = Path("/dev/fd")


def run(bench: Bench) -> Report:
    """Count, on both runtimes; of the peers as far as they go."""
    series: list[Series] = []
    for runtime in ("asyncio", "trio"):
        name = f"{TowerMemory.name}, {runtime}"
        found = anyio.run(partial(_count, bench, TowerMemory, COUNTS), backend=runtime)
        series += _series(name, found)
    ours = list(series)
    for peer in () if bench.quick else bench.peers:
        few = [count for count in COUNTS if count <= OF_PEERS]
        series += _series(peer.name, anyio.run(_count, bench, peer, few))
    grown = [
        max(each.rounds[0] for each in ours if each.side == side and each.unit == unit)
        - min(each.rounds[0] for each in ours if each.side == side and each.unit == unit)
        for side in dict.fromkeys(each.side for each in ours)
        for unit in ("threads", "files")
    ]
    what = f"threads and open files: growth from 1 to {COUNTS[-1]:,} sessions"
    title = "Threads and open files with so many sessions"
    return Report(series, [absolutes(title, series)], [Target(what, [max(grown)], 0)])


def _series(side: str, found: dict[int, tuple[int, int]]) -> list[Series]:
    return [
        Series(f"{unit}, {count:,}", side, unit, [counted[number]])
        for number, unit in enumerate(("threads", "files"))
        for count, counted in found.items()
    ]


async def _count(
    bench: Bench, kind: type[Side], counts: Sequence[int]
) -> dict[int, tuple[int, int]]:
    before = _used()
    found: dict[int, tuple[int, int]] = {}
    sessions = ((session_id(number), turn) for number, turn in enumerate(_endless()))
    taken = 0
    async with bench.opened([kind]) as sides:
        side = sides[kind.name]
        for step, count in enumerate(counts, 1):
            bench.progress.tell(f"{kind.name}, sessions: {count:,}", step, len(counts))
            while taken < count:
                some = list(islice(sessions, min(AT_ONCE, count - taken)))
                await side.at_once((session, [side.prepared(turn)]) for session, turn in some)
                taken += len(some)
            threads, files = _used()
            found[count] = threads - before[0], files - before[1]
    return found


def _endless() -> Iterator[ChatTurn]:
    transcript = Transcript(0)
    while True:
        yield transcript.turn()


def _used() -> tuple[int, int]:
    """Threads and open files of this process."""
    files = list(_OPEN_FILES.iterdir()) if _OPEN_FILES.exists() else []
    return threading.active_count(), len(files)
