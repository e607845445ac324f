"""concurrency: many sessions at once, and many tasks on one: turns per second.

Each task takes some turns, one after another, in a session of its own; all begin at once. A session
has 100 items at first (20 in a second case), and grows by the turns taken. The floor takes the same
turns one by one; the floor that batches loads all sessions, then commits one turn of each at once.

Then 64 tasks take two turns each in one session, of 20 items and another one each round, with
``overlap="append"``; the floor that batches loads that session for each of them. How much of it the
session has in the end is shown, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.measuring import Measure, Series, alternate, most, ratios
from benchmarks.reporting import Report, Table, Target, absolutes, relatives
from benchmarks.sides import FLOORS, Appending, BatchingFloor, Floor, Side, TowerMemory
from benchmarks.transcripts import Transcript

SESSIONS = (1, 4, 16, 64)
AGE = 100
YOUNG = 20
TURNS = {1: 16, 4: 8, 16: 4, 64: 2}
"""Turns of a task, by the number of tasks."""

TURNS_OF_ONE = 2
MANY = SESSIONS[-1]
ROUNDS = {1: 6, 4: 6, 16: 5, 64: 5}

OURS = TowerMemory.name


def run(bench: Bench) -> Report:
    """Measure, and compare with the floors and the peers."""
    aged = [each for count in SESSIONS for each in anyio.run(_sessions, bench, count, AGE)]
    young = [] if bench.quick else anyio.run(_sessions, bench, MANY, YOUNG)
    one, kept = anyio.run(_one_session, bench)
    many = [*aged, *young]
    unit = "turns of tower-memory per second, as a multiple of those of each"
    tables = [
        absolutes("Turns per second, each session in a task", many),
        relatives(f"The {unit}", many, OURS),
        absolutes(f"Turns per second, {MANY} tasks on one session", one),
        relatives(f"The {unit}", one, OURS),
        kept,
    ]
    return Report([*many, *one], tables, _targets(many, one))


def case_of(sessions: int, age: int) -> str:
    """How so many sessions of an age are called."""
    return f"{sessions} of {age} items"


def _targets(many: Sequence[Series], one: Sequence[Series]) -> list[Target]:
    targets: list[Target] = []
    cases = (
        (f"{MANY} sessions", [each for each in many if each.case == case_of(MANY, AGE)]),
        (f"{MANY} tasks on one session", list(one)),
    )
    for what, series in cases:
        ours = _of(series, OURS)
        peers = [each for each in series if each.side not in (OURS, *FLOORS)]
        if peers:
            fastest = most(peers)
            label = f"turns/s, {what} ÷ {fastest.side}, the fastest peer"
            times = ratios(ours, fastest.rounds)
            targets.append(Target(label, times, 10, at_least=True))
    batching = _of(cases[0][1], BatchingFloor.name)
    label = f"turns/s, {MANY} sessions ÷ {BatchingFloor.name}"
    times = ratios(_of(cases[0][1], OURS), batching)
    return [*targets, Target(label, times, 0.6, at_least=True)]


def _of(series: Sequence[Series], side: str) -> Sequence[float]:
    return next(each.rounds for each in series if each.side == side)


async def _sessions(bench: Bench, count: int, age: int) -> list[Series]:
    rounds = bench.rounds(ROUNDS[count])
    peers = [peer for peer in bench.peers if age == AGE or not peer.is_slow]
    kinds = [Floor, BatchingFloor, TowerMemory, *peers]
    async with bench.opened(kinds) as sides:
        told = bench.telling(f"sessions of {age} items: {count}", rounds)
        measures = {name: await _at_once(side, count, age) for name, side in sides.items()}
        rates = await alternate(measures, rounds, told)
    return [Series(case_of(count, age), name, "turns/s", found) for name, found in rates.items()]


async def _at_once(side: Side, count: int, age: int) -> Measure:
    """What takes turns in so many sessions, and tells how many a second."""
    transcripts = [Transcript(number) for number in range(count)]
    for number, transcript in enumerate(transcripts):
        await side.fill(session_id(number), list(transcript.filling(age)))
        await side.load(session_id(number))

    async def measure(_: int) -> float:
        turns = [
            (session_id(number), [side.prepared(turn) for turn in transcript.turns(TURNS[count])])
            for number, transcript in enumerate(transcripts)
        ]
        start = perf_counter()
        await side.at_once(turns)
        return TURNS[count] * count / (perf_counter() - start)

    return measure


async def _one_session(bench: Bench) -> tuple[list[Series], Table]:
    rounds = bench.rounds(ROUNDS[MANY])
    kept: dict[str, list[float]] = {}
    async with bench.opened([Floor, BatchingFloor, Appending, *bench.peers]) as sides:
        measures = {name: _on_one(side, kept.setdefault(name, [])) for name, side in sides.items()}
        told = bench.telling(f"{MANY} tasks on one session", rounds)
        rates = await alternate(measures, rounds, told)
    case = f"{MANY} tasks"
    rows = [[name, f"{100 * min(shares):.0f} %"] for name, shares in kept.items()]
    table = Table("Of what the tasks said, the session has", ["", "at least"], rows)
    return [Series(case, name, "turns/s", found) for name, found in rates.items()], table


def _on_one(side: Side, kept: list[float]) -> Measure:
    """What takes turns in one session from many tasks, and tells how many a second."""

    async def measure(number: int) -> float:
        transcript = Transcript(number)
        session = session_id(number)
        await side.fill(session, list(transcript.filling(YOUNG)))
        await side.load(session)
        told = [transcript.turns(TURNS_OF_ONE) for _ in range(MANY)]
        turns = [(session, [side.prepared(turn) for turn in turns]) for turns in told]
        start = perf_counter()
        await side.at_once(turns)
        rate = TURNS_OF_ONE * MANY / (perf_counter() - start)
        said = sum(len(turn.items) for turns in told for turn in turns)
        kept.append((await side.load(session) - YOUNG) / said)
        return rate

    return measure
