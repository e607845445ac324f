"""A turn with tracing layers: without an SDK of OpenTelemetry, and with spans that are recorded.

A `TracingLayer` stands around the load, around the save and around the service with memory, so a
turn has three spans. The turns run in sessions of 20 items, in a file with the default settings and
in memory, where the tracing is the largest part of the time. *Recorded* spans are dropped when they
end; the metrics are added up in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any

import anyio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.harness.bench import Bench
from benchmarks.harness.measuring import Measure, Series, ratios, rounds_of
from benchmarks.harness.reporting import Report, Target, ratios_table, values_table
from benchmarks.sides import request_for, scripted_reply
from benchmarks.transcripts import Transcript
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveSession,
    Service,
    SessionStore,
    SqliteSessionStore,
    Turn,
)
from tower_memory.tracing import TracingLayer

UNTRACED, NO_SDK, RECORDED = "no tracing", "tracing, no SDK", "tracing, recorded"
IN_FILE, IN_MEMORY = "in a file", "in memory"

ITEMS = 20
TURNS = 50
ROUNDS = 40
BOUND = 1.05
"""Time of a turn in a file without an SDK, divided by that without tracing."""

_Store = SessionStore[Any]
_Service = Service[dict[str, Any], dict[str, Any]]


def run(bench: Bench) -> Report:
    """Measure the turns, and compare them with untraced ones."""
    times = anyio.run(_measure, bench)
    series = [Series(case, side, "us", values) for (side, case), values in times.items()]
    added = [
        Series(each.case, each.side, "us", _added(each, series))
        for each in series
        if each.side != UNTRACED
    ]

    without_sdk = ratios(rounds_of(series, NO_SDK, IN_FILE), rounds_of(series, UNTRACED, IN_FILE))
    return Report(
        series,
        [
            values_table("One turn, us", series),
            values_table("Added to a turn, us", added),
            ratios_table(f"Time of a turn with {UNTRACED} ÷ with", series, UNTRACED),
        ],
        [Target("a turn in a file, traced without an SDK ÷ not traced", without_sdk, BOUND)],
    )


def _added(series: Series, all_series: list[Series]) -> list[float]:
    base = rounds_of(all_series, UNTRACED, series.case)
    return [value - other for value, other in zip(series.rounds, base, strict=True)]


async def _measure(bench: Bench) -> dict[tuple[str, str], list[float]]:
    recorded = TracingLayer(
        tracer_provider=TracerProvider(shutdown_on_exit=False),
        meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
    )
    sides: dict[str, Callable[[_Store], _Service]] = {
        UNTRACED: _untraced,
        NO_SDK: partial(_traced, TracingLayer()),
        RECORDED: partial(_traced, recorded),
    }

    measures: dict[tuple[str, str], Measure] = {}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(bench.temporary_folder())
        for number, (side, make) in enumerate(sides.items()):
            file: SqliteSessionStore[Any] = SqliteSessionStore(folder / f"{number}.db")
            await stack.enter_async_context(file)
            measures[side, IN_FILE] = _turn_measure(file, make)
            measures[side, IN_MEMORY] = _turn_measure(InMemorySessionStore[Any](), make)
        return await bench.alternate("tracing", measures, ROUNDS)


def _turn_measure(store: _Store, make: Callable[[_Store], _Service]) -> Measure:
    """Return a measure of the microseconds of a turn over *store*, in new sessions."""
    service = make(store)

    async def measure(number: int) -> float:
        transcript = Transcript(number)
        requests = []
        for each, turn in enumerate(transcript.turns(TURNS)):
            session_id = f"{number}/{each}"
            items = [item for old in transcript.turns_until(ITEMS) for item in old.items]
            await store.append(Turn(session_id, items))
            await store.load(session_id)
            requests.append({**request_for(turn), "session": session_id})

        start = perf_counter()
        for request in requests:
            await service(request)
        return 1e6 * (perf_counter() - start) / TURNS

    return measure


def _untraced(store: _Store) -> _Service:
    load, save = LoadSession(store), SaveSession(store)
    return MemoryLayer(load, save, session_id=lambda request: request["session"])(scripted_reply)


def _traced(tracing: TracingLayer, store: _Store) -> _Service:
    load, save = tracing(LoadSession(store)), tracing(SaveSession(store))
    memory = MemoryLayer(load, save, session_id=lambda request: request["session"])
    return tracing(memory(scripted_reply))
