"""The cost of a turn in one session as its history grows.

A turn loads the history and adds a user's message and the answer. A round runs five turns on each
side; one of them contains a tool call. With 10 or 100 items each round has its own session, which
is loaded once before the clock starts. A longer session is the same in all rounds and grows by the
turns that are run. The baseline is measured in its one thread, and from an event loop, which has to
switch to a thread for the load and for the save. The difference is the cost of the switches.

Two more measurements follow: the same turns with a window of the newest 40 items, and the first
load of a session through a store that has just been opened, with nothing in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import perf_counter

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, items_case, ratios, rounds_of
from benchmarks.harness.reporting import (
    Report,
    Target,
    fastest_peer_targets,
    ratio_target,
    ratios_table,
    values_table,
)
from benchmarks.harness.sessions import session_id
from benchmarks.sides import OURS, RawSqlite, RawSqliteFromAsyncio, Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

LENGTHS = (10, 100, 1_000, 10_000)
WINDOWED_LENGTHS = (100, 1_000, 10_000, 100_000)
FIRST_LOAD_LENGTHS = (100, 1_000)
WINDOW = 40
TURNS = 5

SHARED_FROM = 1_000
"""Items from which on all rounds share one session; the added turns hardly change its length."""

ROUNDS = {10: 24, 100: 24, 1_000: 12, 10_000: 8}
WINDOWED_ROUNDS = 24
FIRST_LOAD_ROUNDS = 24


def run(bench: Bench) -> Report:
    """Measure the turns and first loads, and compare with the baseline and the peers."""
    whole = [each for items in LENGTHS for each in anyio.run(_turns, bench, items)]
    windowed = anyio.run(_windowed_turns, bench)
    first = [each for items in FIRST_LOAD_LENGTHS for each in anyio.run(_first_loads, bench, items)]

    # LangChain is measured with its default rollback journal and with a write-ahead log.
    default = [each for each in whole if not each.side.endswith("WAL")]
    durable = [each for each in whole if each.side != "LangChain SQLChatMessageHistory"]

    divided = "Time of tower-memory ÷ time of each side"
    tables = [
        values_table("A turn by length of the history, ms", whole),
        ratios_table(f"{divided}; default settings", default, OURS),
        ratios_table(f"{divided}; all with a write-ahead log and synchronous=FULL", durable, OURS),
        values_table(f"A turn with a window of the last {WINDOW} items, ms", windowed),
        ratios_table(divided, windowed, OURS),
        values_table("A first load, ms", first),
        ratios_table(divided, first, OURS),
    ]
    return Report([*whole, *windowed, *first], tables, _targets(whole, windowed, first))


def _targets(
    whole: Sequence[Series], windowed: Sequence[Series], first: Sequence[Series]
) -> list[Target]:
    targets = fastest_peer_targets("a turn at 100 items", whole, items_case(100), 0.45)

    description = f"a turn at {items_case(100)}"
    targets.append(
        ratio_target(description, whole, items_case(100), RawSqliteFromAsyncio.name, bound=1.1)
    )
    for items, bound in ((100, 1.3), (1_000, 0.6), (10_000, 0.35)):
        case = items_case(items)
        targets.append(ratio_target(f"a turn at {case}", whole, case, RawSqlite.name, bound))

    case = _first_load_case(100)
    targets.append(
        ratio_target("a first load of 100 items", first, case, RawSqlite.name, bound=1.6)
    )

    short, long = WINDOWED_LENGTHS[0], WINDOWED_LENGTHS[-1]
    growth = ratios(
        rounds_of(windowed, OURS, _windowed_case(long)),
        rounds_of(windowed, OURS, _windowed_case(short)),
    )
    description = f"a turn with a window of {WINDOW}, at {long:,} ÷ at {short}"
    return [*targets, Target(description, growth, bound=1.2)]


def _windowed_case(items: int) -> str:
    return f"{WINDOW} of {items:,} items"


def _first_load_case(items: int) -> str:
    return f"first load of {items:,}"


async def _turns(bench: Bench, items: int) -> list[Series]:
    compared: list[type[Side]] = [RawSqlite, RawSqliteFromAsyncio, TowerMemory, *bench.peers]
    kinds = [kind for kind in compared if kind.max_items >= items]
    shared = _shared_turns(items)

    async with bench.open_sides(kinds) as sides:
        measures = {name: await _turn_measure(side, items, shared) for name, side in sides.items()}
        times = await bench.alternate(f"turns at {items:,} items", measures, ROUNDS[items])

    return [Series(items_case(items), name, "ms", values) for name, values in times.items()]


def _shared_turns(items: int) -> list[ChatTurn]:
    """Return the turns of the session that all rounds share, or none if each round has its own."""
    return list(Transcript(-items).turns_until(items)) if items >= SHARED_FROM else []


async def _turn_measure(side: Side, items: int, shared: Sequence[ChatTurn]) -> Measure:
    """Return a measure that runs turns in a session and returns the milliseconds of one turn.

    Args:
        side: Side that keeps the session.
        items: Length of the session.
        shared: Turns of the session that all rounds share; empty if each round has its own.
    """
    transcript = Transcript(items)
    if shared:
        await side.fill(session_id(0), shared)

    async def measure(number: int) -> float:
        name = session_id(0)
        if not shared:
            name = session_id(number)
            await side.fill(name, list(transcript.turns_until(items)))
        await side.load(name)
        prepared = [side.prepare(turn) for turn in transcript.turns(TURNS)]

        start = perf_counter()
        for turn in prepared:
            await side.run_turn(name, turn)
        return 1_000 * (perf_counter() - start) / TURNS

    return measure


async def _windowed_turns(bench: Bench) -> list[Series]:
    """Measure all lengths in each round, so that they can be compared with each other."""
    peers = [peer for peer in bench.peers if peer.supports_limit]
    measures: dict[tuple[str, int], Measure] = {}

    async with AsyncExitStack() as stack:
        for items in WINDOWED_LENGTHS:
            filling = f"filling sessions of {items:,} items"
            bench.progress.show(filling, 0, bench.rounds(WINDOWED_ROUNDS))
            kinds = [RawSqlite, TowerMemory, *(peer for peer in peers if peer.max_items >= items)]
            sides = await stack.enter_async_context(bench.open_sides(kinds, limit=WINDOW))

            shared = _shared_turns(items)
            for name, side in sides.items():
                measures[name, items] = await _turn_measure(side, items, shared)

        turns = f"turns with a window of {WINDOW}"
        times = await bench.alternate(turns, measures, WINDOWED_ROUNDS)

    return [
        Series(_windowed_case(items), name, "ms", values) for (name, items), values in times.items()
    ]


async def _first_loads(bench: Bench, items: int) -> list[Series]:
    turns = list(Transcript(items).turns_until(items))

    with bench.temporary_folder() as folder:
        measures: dict[str, Measure] = {}
        for kind in (RawSqlite, TowerMemory):
            path = folder / kind.name
            async with kind(path) as side:
                await side.fill(session_id(1), turns)
            measures[kind.name] = partial(_first_load, kind, path)

        loads = f"first loads of {items:,} items"
        times = await bench.alternate(loads, measures, FIRST_LOAD_ROUNDS)

    return [Series(_first_load_case(items), name, "ms", values) for name, values in times.items()]


async def _first_load(kind: type[Side], path: Path, _: int) -> float:
    """Return the milliseconds of a load after the load of another session, which is empty."""
    async with kind(path) as side:
        await side.load(session_id(0))

        start = perf_counter()
        await side.load(session_id(1))
        return 1_000 * (perf_counter() - start)
