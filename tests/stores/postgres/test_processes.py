"""Several processes on one database, while connections are ended and the server is killed.

No returned turn is lost, no turn is torn or doubled, and no error reaches a caller.
"""

from __future__ import annotations

import os
import random
from contextlib import ExitStack
from functools import partial

import anyio
import anyio.to_thread
import pytest

from helpers.postgres import ISOLATION_LEVELS, check_heads, isolated
from helpers.processes import start_python, unmeasured
from helpers.runtimes import on_one_runtime
from tower_memory.postgres import PostgresSessionStore

in_its_processes = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""Mark of a test whose processes use both runtimes."""

GROUPS = 4
SESSIONS = ["a", "b", "c"]

WRITER = """
import sys
import anyio
from tower_memory import Turn
from tower_memory.postgres import PostgresSessionStore

url, backend, count, *groups = sys.argv[1:]

async def main():
    async with PostgresSessionStore(url, patience=60) as store:
        async def write(session, group):
            last = 0
            for n in range(int(count)):
                turn = Turn(session, [f"{group} {n}", "reply"][: n % 3], turn_id=f"{group} {n}")
                if n % 2:
                    await store.begin(turn)
                revision = await store.append(turn)
                assert revision >= last
                last = revision
                print("appended", flush=True)

        async with anyio.create_task_group() as tasks:
            for session in "abc":
                for group in groups:
                    tasks.start_soon(write, session, group)

anyio.run(main, backend=backend)
"""
"""A program that appends turns; its tasks append those of each session and group in order."""

COUNTER = """
import sys
import anyio
from tower_memory import SessionConflict, Turn
from tower_memory.postgres import PostgresSessionStore

url, backend, count, name = sys.argv[1:]

async def main():
    async with PostgresSessionStore(url, patience=60) as store:
        saved = 0
        while saved < int(count):
            seen = await store.load("s")
            turn = Turn("s", [len(seen)], expected_revision=seen.revision, metadata={"by": name})
            try:
                await store.append(turn)
            except SessionConflict as error:
                assert error.actual > seen.revision
                continue
            saved += 1
            print("appended", flush=True)

anyio.run(main, backend=backend)
"""
"""A program that appends turns, each with the number of turns that it has seen."""


def run_at_once(source, url, *arguments_of_each, after_line):
    """Run four processes of *source* to their end; call *after_line(count)* with each line said.

    They use different event loops and isolation levels.
    """
    reading, writing = os.pipe()
    with ExitStack() as opened:
        processes = [
            opened.enter_context(
                start_python(
                    source,
                    isolated(url, ISOLATION_LEVELS[place % len(ISOLATION_LEVELS)]),
                    ("asyncio", "trio")[place % 2],
                    *arguments,
                    stdin=None,
                    stdout=writing,
                    env=unmeasured(),
                )
            )
            for place, arguments in enumerate(arguments_of_each)
        ]
        os.close(writing)
        with os.fdopen(reading) as lines:
            for count, _ in enumerate(lines, start=1):
                after_line(count)
        assert [process.wait() for process in processes] == [0] * len(processes)


class Chaos:
    """Ends connections at random moments, and kills the server once.

    Args:
        tables: The tables in use.
        most: Maximum number of lines until the next connections are ended.
        kill_at: Number of the line at which the server is killed; 0 for never.
        seed: Number that decides the moments.
    """

    def __init__(self, tables, *, most, kill_at, seed):
        self.ended = 0
        self._tables = tables
        self._most = most
        self._kill_at = kill_at
        self._chance = random.Random(seed)
        self._next = self._chance.randint(1, most)

    def __call__(self, line):
        """Perhaps end some connections after a line."""
        if line == self._kill_at:
            self._tables.server.kill()
            self._tables.server.start()
        if line < self._next:
            return

        self._next = line + self._chance.randint(1, self._most)
        pids = self._tables.server.backends(self._tables.url)
        chosen = self._chance.sample(pids, self._chance.randint(0, len(pids)))
        for pid in chosen:
            self._tables.query("SELECT pg_terminate_backend(%s)", pid)
        self.ended += len(chosen)


@pytest.mark.parametrize(
    ("count", "most"), [(8, 12), pytest.param(100, 40, marks=pytest.mark.long)]
)
@in_its_processes
async def test_each_turn_that_two_of_four_processes_append_in_a_storm_is_there_once(
    postgres_tables, tables_url, count, most
):
    lines = 4 * len(SESSIONS) * 2 * count
    chaos = Chaos(postgres_tables, most=most, kill_at=lines // 2, seed=count)
    pairs = [(count, place, (place + 1) % GROUPS) for place in range(GROUPS)]
    run_at_once(WRITER, tables_url, *pairs, after_line=chaos)
    assert chaos.ended > 4

    stored = [n for n in range(count) if n % 3]  # a turn without items is not stored
    async with PostgresSessionStore(tables_url) as store:
        for session in SESSIONS:
            history = await store.load(session)
            for turn in history.turns:
                n = int(turn.turn_id.split()[1])
                assert history.turn(turn.turn_id) == (turn.turn_id, "reply")[: n % 3]

            ids = [turn.turn_id.split() for turn in history.turns]
            for group in range(GROUPS):
                assert [int(n) for mine, n in ids if mine == f"{group}"] == stored
            assert len(ids) == GROUPS * len(stored)
            assert await store.pending(session) == []
    check_heads(postgres_tables)


@pytest.mark.parametrize(
    ("count", "most"), [(8, 12), pytest.param(100, 30, marks=pytest.mark.long)]
)
@in_its_processes
async def test_of_processes_that_expect_a_revision_one_succeeds_at_each(
    postgres_tables, tables_url, count, most
):
    chaos = Chaos(postgres_tables, most=most, kill_at=0, seed=count)
    counters = [(count, f"{place}") for place in range(4)]
    run_at_once(COUNTER, tables_url, *counters, after_line=chaos)
    assert chaos.ended > 0

    async with PostgresSessionStore(tables_url) as store:
        history = await store.load("s")
    assert history == [*range(4 * count)]
    saved = [turn.metadata["by"] for turn in history.turns]
    assert [saved.count(f"{place}") for place in range(4)] == [count] * 4
    check_heads(postgres_tables)


CHANGER = """
import random, sys
import anyio
from helpers.store_calls import make_call
from tower_memory.postgres import PostgresSessionStore

url, backend, count, seed = sys.argv[1:]
chance = random.Random(seed)

def draw_call(ids):
    name = chance.choice([*["append"] * 6, "pop", "pop", "replace", "clear", "erase"])
    if name == "append" or name == "replace":
        arguments = {"turn_id": chance.choice("tuvwxyz"), "items": [chance.random()] * 2}
        if name == "replace" and ids:
            arguments["replaces"] = chance.choice([*ids - {arguments["turn_id"]}] or [None])
        return "append", arguments
    return name, {}

async def main():
    async with PostgresSessionStore(url, patience=60) as store:
        for _ in range(int(count)):
            session = chance.choice("ab")
            ids = {turn.turn_id for turn in (await store.load(session)).turns}
            name, arguments = draw_call(ids)
            await make_call(store, name, session_id=session, **arguments)
            print(name, flush=True)

anyio.run(main, backend=backend)
"""
"""A program that changes two sessions, and gives the same turn ids again and again."""


class Contents:
    """What loads have shown: each revision of a session has one content."""

    def __init__(self):
        self._found = {}
        self.seen_by = {}

    def check(self, kind, session, history):
        """Check a whole history that a store of *kind* has loaded."""
        turns = [(turn.turn_id, turn.position, turn.created_at) for turn in history.turns]
        key, content = (session, history.revision), (list(history), turns)
        assert self._found.setdefault(key, content) == content
        self.seen_by.setdefault(key, set()).add(kind)

    def check_newest(self, session, history):
        """Check a history of two items, if its whole content is known."""
        if (session, history.revision) in self._found:
            items, _ = self._found[session, history.revision]
            assert list(history) == items[-2:]


@pytest.mark.parametrize("count", [25, pytest.param(1500, marks=pytest.mark.long)])
@on_one_runtime
async def test_each_load_from_a_cache_shows_a_state_that_other_processes_have_committed(
    postgres_tables, tables_url, count
):
    contents = Contents()
    async with (
        PostgresSessionStore(tables_url, patience=60) as cached,
        PostgresSessionStore(tables_url, patience=60, hot_bytes=0) as uncached,
        anyio.create_task_group() as tasks,
    ):
        over = anyio.Event()

        async def read(session):
            while not over.is_set():
                contents.check("cached", session, await cached.load(session))
                contents.check_newest(session, await cached.load(session, limit=2))
                contents.check("uncached", session, await uncached.load(session))

        async def change():
            changers = [(count, place) for place in range(3)]
            run = partial(run_at_once, CHANGER, tables_url, *changers, after_line=do_nothing)
            await anyio.to_thread.run_sync(run)
            over.set()

        for session in "ab":
            tasks.start_soon(read, session)
        tasks.start_soon(change)

    seen_by_both = [each for each in contents.seen_by.values() if len(each) == 2]
    assert len(seen_by_both) > 10
    check_heads(postgres_tables)


def do_nothing(_line):
    """Leave the processes alone."""
