"""age: one session, a turn at a time: what a turn costs as the session grows.

A turn loads the history and adds a user's message and the answer. Each round is five turns of each
side, one of them with a tool's call. Of 10 or 100 items each round has a session of its own, loaded
once before the clock starts; a longer one is the same in all rounds, and grows by the turns taken.
The floor is measured in its one thread, and from an event loop, which has to go to a thread for the
load and for the save: so much the way alone costs.

Then the same with a window: the newest 40 items are loaded. And the first load of a session by a
store that has just been opened, when nothing of it is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Measure, Series, alternate, least, ratios
from benchmarks.reporting import Report, Target, absolutes, relatives
from benchmarks.sides import FLOORS, AsyncFloor, Floor, Side, TowerMemory
from benchmarks.transcripts import ChatTurn, Transcript

AGES = (10, 100, 1_000, 10_000)
WINDOWED_AGES = (100, 1_000, 10_000, 100_000)
COLD_AGES = (100, 1_000)
WINDOW = 40
TURNS = 5
OLD = 1_000
"""Items from which on one session is used in all rounds: so many turns change little."""

ROUNDS = {10: 24, 100: 24, 1_000: 12, 10_000: 8}
WINDOWED_ROUNDS = 24
COLD_ROUNDS = 24

OURS, FLOOR = TowerMemory.name, Floor.name


def run(bench: Bench) -> Report:
    """Measure, and compare with the floor and the peers."""
    whole = [each for age in AGES for each in anyio.run(_turns, bench, age)]
    windowed = anyio.run(_windowed, bench)
    cold = [each for age in COLD_AGES for each in anyio.run(_cold, bench, age)]
    shipped = [each for each in whole if not each.side.endswith("WAL")]
    durable = [each for each in whole if each.side != "LangChain SQLChatMessageHistory"]
    tables = [
        absolutes("A turn in a session of so many items, ms", whole),
        relatives("The time of tower-memory, as a multiple of each; as shipped", shipped, OURS),
        relatives("The same; all with a write-ahead log and synchronous=FULL", durable, OURS),
        absolutes(f"A turn with a window of the last {WINDOW}, ms", windowed),
        relatives("The time of tower-memory, as a multiple of each", windowed, OURS),
        absolutes("A first load, ms", cold),
        relatives("The time of tower-memory, as a multiple of each", cold, OURS),
    ]
    return Report([*whole, *windowed, *cold], tables, _targets(whole, windowed, cold))


def _targets(
    whole: Sequence[Series], windowed: Sequence[Series], cold: Sequence[Series]
) -> list[Target]:
    targets: list[Target] = []
    ours = _rounds(whole, OURS, case_of(100))
    if peers := [
        each for each in whole if each.case == case_of(100) and each.side not in (OURS, *FLOORS)
    ]:
        fastest = least(peers)
        what = f"a turn at 100 items ÷ {fastest.side}, the fastest peer"
        targets.append(Target(what, ratios(ours, fastest.rounds), 0.45))
    for age, bound in ((100, 1.3), (1_000, 0.6), (10_000, 0.35)):
        times = ratios(_rounds(whole, OURS, case_of(age)), _rounds(whole, FLOOR, case_of(age)))
        targets.append(Target(f"a turn at {age:,} items ÷ {FLOOR}", times, bound))
    times = ratios(_rounds(cold, OURS, _cold_case(100)), _rounds(cold, FLOOR, _cold_case(100)))
    targets.append(Target(f"a first load of 100 items ÷ {FLOOR}", times, 1.6))
    young, *_, old = (_rounds(windowed, OURS, _windowed_case(age)) for age in WINDOWED_AGES)
    what = f"a turn with a window of {WINDOW}, at {WINDOWED_AGES[-1]:,} ÷ at {WINDOWED_AGES[0]}"
    return [*targets, Target(what, ratios(old, young), 1.2)]


def case_of(age: int) -> str:
    """How a turn at that age is called."""
    return f"{age:,} items"


def _windowed_case(age: int) -> str:
    return f"{WINDOW} of {age:,} items"


def _cold_case(age: int) -> str:
    return f"first load of {age:,}"


def _rounds(series: Sequence[Series], side: str, case: str) -> Sequence[float]:
    return next(each.rounds for each in series if each.side == side and each.case == case)


async def _turns(bench: Bench, age: int) -> list[Series]:
    compared: list[type[Side]] = [Floor, AsyncFloor, TowerMemory, *bench.peers]
    kinds = [kind for kind in compared if kind.largest >= age]
    old = _old(age)
    async with bench.opened(kinds) as sides:
        rounds = bench.rounds(ROUNDS[age])
        measures = {name: await _in_a_session(side, age, old) for name, side in sides.items()}
        told = bench.telling(f"turns at {age:,} items", rounds)
        times = await alternate(measures, rounds, told)
    return [Series(case_of(age), name, "ms", found) for name, found in times.items()]


def _old(age: int) -> list[ChatTurn]:
    """The turns of a session that is one for all rounds; none where each has its own."""
    return list(Transcript(-age).filling(age)) if age >= OLD else []


async def _in_a_session(side: Side, age: int, old: Sequence[ChatTurn]) -> Measure:
    """What takes turns in a session of that *age*, and tells how many ms one took.

    Args:
        side: In which the session is.
        age: Its items.
        old: The turns that it has, where it is one for all rounds.
    """
    transcript = Transcript(age)
    if old:
        await side.fill(session_id(0), old)

    async def measure(number: int) -> float:
        session = session_id(0)
        if not old:
            session = session_id(number)
            await side.fill(session, list(transcript.filling(age)))
        await side.load(session)
        turns = [side.prepared(turn) for turn in transcript.turns(TURNS)]
        start = perf_counter()
        for new in turns:
            await side.turn(session, new)
        return 1_000 * (perf_counter() - start) / TURNS

    return measure


async def _windowed(bench: Bench) -> list[Series]:
    """All ages in each round, so that they can be compared with each other."""
    peers = [peer for peer in bench.peers if peer.has_limit]
    measures: dict[tuple[str, int], Measure] = {}
    rounds = bench.rounds(WINDOWED_ROUNDS)
    async with AsyncExitStack() as stack:
        for age in WINDOWED_AGES:
            bench.progress.tell(f"filling sessions of {age:,} items", 0, rounds)
            kinds = [Floor, TowerMemory, *(peer for peer in peers if peer.largest >= age)]
            sides = await stack.enter_async_context(bench.opened(kinds, limit=WINDOW))
            old = _old(age)
            for name, side in sides.items():
                measures[name, age] = await _in_a_session(side, age, old)
        told = bench.telling(f"turns with a window of {WINDOW}", rounds)
        times = await alternate(measures, rounds, told)
    return [Series(_windowed_case(age), name, "ms", found) for (name, age), found in times.items()]


async def _cold(bench: Bench, age: int) -> list[Series]:
    turns = list(Transcript(age).filling(age))
    rounds = bench.rounds(COLD_ROUNDS)
    with TemporaryDirectory(dir=bench.folder) as folder:
        measures: dict[str, Measure] = {}
        for kind in (Floor, TowerMemory):
            path = Path(folder) / kind.name
            async with kind(path) as side:
                await side.fill(session_id(1), turns)
            measures[kind.name] = partial(_first_load, kind, path)
        told = bench.telling(f"first loads of {age:,} items", rounds)
        times = await alternate(measures, rounds, told)
    return [Series(_cold_case(age), name, "ms", found) for name, found in times.items()]


async def _first_load(kind: type[Side], path: Path, _: int) -> float:
    """How many ms a load takes after another session, an empty one, was loaded."""
    async with kind(path) as side:
        await side.load(session_id(0))
        start = perf_counter()
        await side.load(session_id(1))
        return 1_000 * (perf_counter() - start)
