"""Microseconds that each layer adds to a bare await, in memory and without I/O.

`MemoryLayer` stands over an `InMemorySessionStore`. A round runs one turn in each of fifty sessions
of 20 items (of 100 in a second case), each the first turn since the session was filled. Memory
written by hand (`MemoryByHand`), the minimum that any layer has to do, runs the same turns and so
shows a lower limit. `RetryLayer` and `TimeoutLayer` stand around the same service without memory.
The time of a bare await of that service is subtracted from all of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import sub
from time import perf_counter
from typing import Any

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, items_case, rounds_of
from benchmarks.harness.reporting import Report, Target, ratios_table, values_table
from benchmarks.harness.sessions import session_id
from benchmarks.sides import request_for, scripted_reply
from benchmarks.sides.by_hand import MemoryByHand
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

MEMORY_LAYER, BY_HAND = "MemoryLayer", "memory by hand"
BARE = "a bare await"
ANY_REQUEST = "any request"

SESSIONS = 50
ROUNDS = 60
BOUNDS = {20: 35, 100: 60}
"""Microseconds that a turn may take, by the items of the session."""

_Body = dict[str, Any]
_Service = Service[_Body, _Body]


def run(bench: Bench) -> Report:
    """Measure the calls, and subtract the bare await."""
    times = anyio.run(_measure, bench)

    bare = Series(ANY_REQUEST, BARE, "us", times.pop((BARE, ANY_REQUEST)))
    series = [
        Series(case, side, "us", list(map(sub, values, bare.rounds)))
        for (side, case), values in times.items()
    ]
    calls = [each for each in series if each.case == ANY_REQUEST]
    turns = [each for each in series if each.case != ANY_REQUEST]

    tables = [
        values_table("One call, us; for a layer, above a bare await", [bare, *calls]),
        values_table("One turn, us above a bare await", turns),
        ratios_table(f"Time of {MEMORY_LAYER} ÷ time of memory by hand", turns, MEMORY_LAYER),
    ]
    targets = [
        Target(
            f"a turn of {MEMORY_LAYER}, {items_case(items)}, in memory",
            rounds_of(turns, MEMORY_LAYER, items_case(items)),
            bound,
            unit="us",
        )
        for items, bound in BOUNDS.items()
    ]
    return Report([bare, *series], tables, targets)


async def _measure(bench: Bench) -> dict[tuple[str, str], list[float]]:
    retry = RetryLayer(on=ConnectionError)(scripted_reply)
    measures: dict[tuple[str, str], Measure] = {
        (BARE, ANY_REQUEST): _call_measure(lambda: _unchanged(scripted_reply)),
        ("RetryLayer", ANY_REQUEST): _call_measure(lambda: _unchanged(retry)),
        ("TimeoutLayer", ANY_REQUEST): _call_measure(
            lambda: _unchanged(TimeoutLayer(60)(scripted_reply))
        ),
    }

    for items in BOUNDS:
        case = items_case(items)
        measures[MEMORY_LAYER, case] = _call_measure(partial(_with_memory_layer, items))
        measures[BY_HAND, case] = _call_measure(partial(_with_memory_by_hand, items))

    return await bench.alternate("layers", measures, ROUNDS)


def _call_measure(make_service: Callable[[], Any]) -> Measure:
    """Return a measure that calls a new service and returns the microseconds of one call."""

    async def measure(number: int) -> float:
        service: _Service = await make_service()
        turns = Transcript(number).turns(SESSIONS)
        requests = [
            {**request_for(turn), "session": session_id(each)} for each, turn in enumerate(turns)
        ]
        return 1e6 * await _seconds(service, requests) / SESSIONS

    return measure


async def _seconds(service: _Service, requests: Sequence[_Body]) -> float:
    start = perf_counter()
    for request in requests:
        await service(request)
    return perf_counter() - start


async def _unchanged(service: _Service) -> _Service:
    """Return *service*: it has no sessions to fill."""
    return service


async def _with_memory_by_hand(items: int) -> _Service:
    memory = MemoryByHand(scripted_reply)
    for number in range(SESSIONS):
        for turn in Transcript(number).turns_until(items):
            memory.fill(session_id(number), turn.items)
    return memory


async def _with_memory_layer(items: int) -> _Service:
    store = InMemorySessionStore[Any]()
    for number in range(SESSIONS):
        for turn in Transcript(number).turns_until(items):
            await store.append(Turn(session_id(number), turn.items))

    memory = MemoryLayer(
        LoadSession(store), SaveSession(store), session_id=lambda request: request["session"]
    )
    return memory(scripted_reply)
