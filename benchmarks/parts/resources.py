"""Threads and open files, from one session to 10,000.

One turn is run in each session, 64 sessions at a time, through one side that stays open. Then the
threads and the open files of the process are counted, less those before the side was opened. A
quick run leaves the peers out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Series
from benchmarks.harness.reporting import Report, Target, values_table
from benchmarks.harness.sessions import session_id
from benchmarks.sides import Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

COUNTS = (1, 100, 10_000)
MAX_PEER_SESSIONS = 100
"""Highest number of sessions for peers; some of them open a thread and files for each session."""

CONCURRENT_SESSIONS = 64
UNITS = ("threads", "files")

_OPEN_FILES = Path("/dev/fd")


def run(bench: Bench) -> Report:
    """Count for tower-memory on both runtimes, and for the peers up to their limit."""
    ours: list[Series] = []
    for runtime in ("asyncio", "trio"):
        counted = anyio.run(partial(_count, bench, TowerMemory, COUNTS), backend=runtime)
        ours += _series(f"{TowerMemory.name}, {runtime}", counted)

    series = list(ours)
    if not bench.quick:
        counts = [count for count in COUNTS if count <= MAX_PEER_SESSIONS]
        for peer in bench.peers:
            series += _series(peer.name, anyio.run(_count, bench, peer, counts))

    description = f"threads and open files: growth from 1 to {COUNTS[-1]:,} sessions"
    target = Target(description, [_largest_growth(ours)], 0)
    table = values_table("Threads and open files by number of sessions", series)
    return Report(series, [table], [target])


def _series(side: str, counted: dict[int, tuple[int, int]]) -> list[Series]:
    return [
        Series(f"{unit}, {sessions:,}", side, unit, [numbers[index]])
        for index, unit in enumerate(UNITS)
        for sessions, numbers in counted.items()
    ]


def _largest_growth(series: Sequence[Series]) -> float:
    """Return the largest difference between the counts of one side in one unit."""
    differences: list[float] = []
    for side in dict.fromkeys(each.side for each in series):
        for unit in UNITS:
            counts = [each.rounds[0] for each in series if each.side == side and each.unit == unit]
            differences.append(max(counts) - min(counts))
    return max(differences)


async def _count(
    bench: Bench, kind: type[Side], counts: Sequence[int]
) -> dict[int, tuple[int, int]]:
    """Return the threads and open files by the number of sessions."""
    threads_before, files_before = _used()
    counted: dict[int, tuple[int, int]] = {}
    sessions = ((session_id(number), turn) for number, turn in enumerate(_endless_turns()))
    done = 0

    async with bench.open_sides([kind]) as sides:
        side = sides[kind.name]
        for step, count in enumerate(counts, 1):
            bench.progress.show(f"{kind.name}, sessions: {count:,}", step, len(counts))

            while done < count:
                batch = list(islice(sessions, min(CONCURRENT_SESSIONS, count - done)))
                await side.run_concurrently((name, [side.prepare(turn)]) for name, turn in batch)
                done += len(batch)

            threads, files = _used()
            counted[count] = threads - threads_before, files - files_before

    return counted


def _endless_turns() -> Iterator[ChatTurn]:
    transcript = Transcript(0)
    while True:
        yield transcript.turn()


def _used() -> tuple[int, int]:
    """Return the numbers of threads and open files of this process."""
    files = list(_OPEN_FILES.iterdir()) if _OPEN_FILES.exists() else []
    return threading.active_count(), len(files)
