"""layers: the layers alone, in memory, without I/O: microseconds of each above a bare await.

`MemoryLayer` over an `InMemorySessionStore`: each round takes one turn in each of fifty sessions of
20 items (of 100), none of which had one since it was filled. The least that any layer would have to
do, written by hand (`by_hand`), takes the same turns: it shows what bounds the other. `RetryLayer`
and `TimeoutLayer` stand around the same service without memory. The bare await of that service is
taken off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import sub
from time import perf_counter
from typing import Any

import anyio

from benchmarks.bench import Bench, session_id
from benchmarks.by_hand import MemoryByHand
from benchmarks.measuring import Measure, Series, alternate
from benchmarks.reporting import Report, Target, absolutes, relatives
from benchmarks.sides import reply, request
from benchmarks.transcripts import Transcript
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    Service,
    TimeoutLayer,
    Turn,
)

OURS, BY_HAND = "MemoryLayer", "memory by hand"
BARE = "a bare await"
CASE = "any request"

SESSIONS = 50
ROUNDS = 60
BOUNDS = {20: 35, 100: 60}
"""Microseconds that a turn of so many items may take."""

_Asked = dict[str, Any]


def run(bench: Bench) -> Report:
    """Measure, and take the bare await off."""
    found = anyio.run(_measure, bench)
    bare = Series(CASE, BARE, "us", found.pop((BARE, CASE)))
    series = [
        Series(case, side, "us", list(map(sub, values, bare.rounds)))
        for (side, case), values in found.items()
    ]
    calls = [each for each in series if each.case == CASE]
    turns = [each for each in series if each.case != CASE]
    tables = [
        absolutes("One call, us; of a layer, above a bare await", [bare, *calls]),
        absolutes("One turn, us above a bare await", turns),
        relatives(f"The time of {OURS}, as a multiple", turns, OURS),
    ]
    ours = {each.case: each.rounds for each in turns if each.side == OURS}
    targets = [
        Target(f"a turn of {OURS}, {_case(items)}, in memory", ours[_case(items)], bound, unit="us")
        for items, bound in BOUNDS.items()
    ]
    return Report([bare, *series], tables, targets)


def _case(items: int) -> str:
    return f"{items} items"


async def _measure(bench: Bench) -> dict[tuple[str, str], list[float]]:
    rounds = bench.rounds(ROUNDS)
    retry = RetryLayer(on=ConnectionError)(reply)
    measures: dict[tuple[str, str], Measure] = {
        (BARE, CASE): _calls(lambda: _nothing(reply)),
        ("RetryLayer", CASE): _calls(lambda: _nothing(retry)),
        ("TimeoutLayer", CASE): _calls(lambda: _nothing(TimeoutLayer(60)(reply))),
    }
    for items in BOUNDS:
        measures[OURS, _case(items)] = _calls(partial(_remembering, items))
        measures[BY_HAND, _case(items)] = _calls(partial(_by_hand, items))
    return await alternate(measures, rounds, bench.telling("layers", rounds))


def _calls(make: Callable[[], Any]) -> Measure:
    """What calls a service that is made anew, and tells how many microseconds a call took."""

    async def measure(number: int) -> float:
        service: Service[_Asked, _Asked] = await make()
        turns = Transcript(number).turns(SESSIONS)
        asked = [{**request(turn), "session": session_id(each)} for each, turn in enumerate(turns)]
        return 1e6 * await _time(service, asked) / SESSIONS

    return measure


async def _time(service: Service[_Asked, _Asked], asked: Sequence[_Asked]) -> float:
    start = perf_counter()
    for each in asked:
        await service(each)
    return perf_counter() - start


async def _nothing(service: Service[_Asked, _Asked]) -> Service[_Asked, _Asked]:
    """Nothing is to be filled."""
    return service


async def _by_hand(items: int) -> Service[_Asked, _Asked]:
    memory = MemoryByHand(reply)
    for number in range(SESSIONS):
        for turn in Transcript(number).filling(items):
            memory.fill(session_id(number), turn.items)
    return memory


async def _remembering(items: int) -> Service[_Asked, _Asked]:
    store = InMemorySessionStore[Any]()
    for number in range(SESSIONS):
        for turn in Transcript(number).filling(items):
            await store.append(Turn(session_id(number), turn.items))
    memory = MemoryLayer(
        LoadSession(store), SaveSession(store), session_id=lambda asked: asked["session"]
    )
    return memory(reply)
