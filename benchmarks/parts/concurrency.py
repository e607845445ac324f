"""Turns per second of many concurrent sessions, and of many tasks on one session.

Each task runs a few turns in a session of its own, one after another; all tasks start together. A
session begins with 100 items (20 in a second case) and grows by the turns that are run. The
baseline runs the same turns one by one. The batching baseline loads all sessions and then commits
one turn of each together. The same baseline from asyncio batches by hand: it commits together the
turns that wait for its thread, as tower-memory does.

Then 64 tasks run two turns each in one session with ``overlap="append"``. Each round has a new
session of 20 items. The batching baseline loads that session once per task. A table shows which
share of the added items the session contains in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series
from benchmarks.harness.reporting import (
    Report,
    Table,
    Target,
    fastest_peer_targets,
    ratio_target,
    ratios_table,
    values_table,
)
from benchmarks.harness.sessions import fill_sessions, session_id, time_turns
from benchmarks.sides import (
    OURS,
    RawSqlite,
    RawSqliteBatching,
    RawSqliteBatchingFromAsyncio,
    Side,
    TowerMemory,
    TowerMemoryAppending,
)
from benchmarks.transcripts import Transcript, items_of

SESSIONS = (1, 4, 16, 64)
MOST_SESSIONS = SESSIONS[-1]
ITEMS = 100
FEW_ITEMS = 20

TURNS = {1: 16, 4: 8, 16: 4, 64: 2}
"""Turns per task, by the number of tasks."""

TASKS = MOST_SESSIONS
TURNS_PER_TASK = 2
ROUNDS = {1: 6, 4: 6, 16: 5, 64: 5}

_ONE_SESSION = f"{TASKS} tasks"


def run(bench: Bench) -> Report:
    """Measure the rates, and compare with the baselines and the peers."""
    many = [each for count in SESSIONS for each in anyio.run(_many_sessions, bench, count, ITEMS)]
    if not bench.quick:
        many += anyio.run(_many_sessions, bench, MOST_SESSIONS, FEW_ITEMS)
    one, saved = anyio.run(_one_session, bench)

    divided = "Turns per second of tower-memory ÷ those of each side"
    tables = [
        values_table("Turns per second, one task per session", many),
        ratios_table(divided, many, OURS),
        values_table(f"Turns per second, {TASKS} tasks on one session", one),
        ratios_table(divided, one, OURS),
        saved,
    ]
    return Report([*many, *one], tables, _targets(many, one))


def case_of(sessions: int, items: int) -> str:
    """Return the name of the case of *sessions* concurrent sessions of *items* items each."""
    return f"{sessions} of {items} items"


def _targets(many: Sequence[Series], one: Sequence[Series]) -> list[Target]:
    case = case_of(MOST_SESSIONS, ITEMS)
    in_many = f"turns/s, {MOST_SESSIONS} sessions"
    in_one = f"turns/s, {TASKS} tasks on one session"
    return [
        *fastest_peer_targets(in_many, many, case, 10, at_least=True),
        *fastest_peer_targets(in_one, one, _ONE_SESSION, 10, at_least=True),
        ratio_target(in_many, many, case, RawSqliteBatching.name, 0.6, at_least=True),
        ratio_target(in_many, many, case, RawSqliteBatchingFromAsyncio.name, 0.95, at_least=True),
    ]


async def _many_sessions(bench: Bench, count: int, items: int) -> list[Series]:
    peers = [peer for peer in bench.peers if items == ITEMS or not peer.is_slow]
    kinds = [RawSqlite, RawSqliteBatching, RawSqliteBatchingFromAsyncio, TowerMemory, *peers]

    async with bench.open_sides(kinds) as sides:
        measures = {name: await _many_measure(side, count, items) for name, side in sides.items()}
        measurement = f"sessions of {items} items: {count}"
        rates = await bench.alternate(measurement, measures, ROUNDS[count])

    case = case_of(count, items)
    return [Series(case, name, "turns/s", values) for name, values in rates.items()]


async def _many_measure(side: Side, count: int, items: int) -> Measure:
    """Return a measure that runs turns in *count* sessions and returns the turns per second."""
    transcripts = await fill_sessions(side, count, items)

    async def measure(_: int) -> float:
        return TURNS[count] * count / await time_turns(side, transcripts, TURNS[count])

    return measure


async def _one_session(bench: Bench) -> tuple[list[Series], Table]:
    kinds: list[type[Side]] = [RawSqlite, RawSqliteBatching, TowerMemoryAppending, *bench.peers]
    saved: dict[str, list[float]] = {}

    async with bench.open_sides(kinds) as sides:
        measures = {
            name: _one_measure(side, saved.setdefault(name, [])) for name, side in sides.items()
        }
        measurement = f"{TASKS} tasks on one session"
        rates = await bench.alternate(measurement, measures, ROUNDS[TASKS])

    series = [Series(_ONE_SESSION, name, "turns/s", values) for name, values in rates.items()]
    rows = [[name, f"{100 * min(shares):.0f} %"] for name, shares in saved.items()]
    return series, Table("Share of the added items that the session contains", ["", "lowest"], rows)


def _one_measure(side: Side, saved: list[float]) -> Measure:
    """Return a measure that runs turns in one session and returns the turns per second.

    It appends the share of the added items that the session contains afterwards to *saved*.
    """

    async def measure(number: int) -> float:
        transcript = Transcript(number)
        name = session_id(number)
        await side.fill(name, list(transcript.turns_until(FEW_ITEMS)))
        await side.load(name)
        turns_by_task = [transcript.turns(TURNS_PER_TASK) for _ in range(TASKS)]
        prepared = [(name, [side.prepare(turn) for turn in turns]) for turns in turns_by_task]

        start = perf_counter()
        await side.run_concurrently(prepared)
        rate = TURNS_PER_TASK * TASKS / (perf_counter() - start)

        added = sum(len(items_of(turns)) for turns in turns_by_task)
        saved.append((await side.load(name) - FEW_ITEMS) / added)
        return rate

    return measure
