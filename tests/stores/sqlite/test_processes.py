"""Several processes on one file, and processes that are killed.

No returned turn is lost, and no turn is torn or doubled.
"""

from __future__ import annotations

import json
import sqlite3

import pytest

from helpers.processes import KILL_CHILDREN, run_python, start_python, unmeasured

CHILD = """
import itertools, sys
import anyio
from helpers.layers import memory_over
from tower_memory import SqliteSessionStore

async def turns(path, name, sessions, count, report):
    async def model(messages):
        return messages[-1]["content"].upper()

    async with SqliteSessionStore(path) as store:
        async def run(session):
            memory = memory_over(store, session)
            for n in itertools.islice(itertools.count(), count):
                said = f"{name} {session} {n}"
                await memory(model)([{"role": "user", "content": said}])
                report(said)

        async with anyio.create_task_group() as tasks:
            for session in sessions:
                tasks.start_soon(run, session)
"""

WRITER = (
    CHILD
    + """
path, backend, name, count, *sessions = sys.argv[1:]
anyio.run(turns, path, name, sessions, int(count), lambda said: None, backend=backend)
"""
)

KILLER = (
    CHILD
    + KILL_CHILDREN
    + """
path, backend, kills, seed = sys.argv[1:]

def run(name, report):
    anyio.run(turns, path, name, ["a", "b"], None, report, backend=backend)

kill_children(run, int(kills), int(seed), most=6)
"""
)


def stored(path):
    """Return the contents of every session, after SQLite has found the file whole."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = connection.execute(
        "SELECT session_id, t.items FROM memory_turn t JOIN memory_head h ON t.session = h.id"
        " ORDER BY first, number"
    ).fetchall()
    connection.close()
    sessions = {}
    for session, items in rows:
        contents = [item["content"] for item in json.loads(items)]
        sessions.setdefault(session, []).extend(contents)
    return sessions


def turns_in(contents):
    """Return the questions in *contents*, after checking that each is followed by its reply."""
    said, replies = contents[::2], contents[1::2]
    assert replies == [text.upper() for text in said]
    assert len(said) == len(set(said))
    return said


@pytest.mark.parametrize("turns", [40, pytest.param(250, marks=pytest.mark.long)])
@pytest.mark.parametrize("sessions", [["one"], ["a", "b", "c", "d", "e"]], ids=["one", "many"])
def test_four_processes_on_one_file_save_every_turn(tmp_path, sessions, turns):
    path = tmp_path / "sessions.db"
    count = turns // len(sessions)
    writers = [
        start_python(
            WRITER,
            path,
            backend,
            f"{backend}{n}",
            count,
            *sessions,
            stdin=None,
            stdout=None,
            env=unmeasured(),
        )
        for backend in ("asyncio", "trio")
        for n in range(2)
    ]

    assert [writer.wait() for writer in writers] == [0] * 4

    contents = stored(path)
    assert sorted(contents) == sorted(sessions)

    for session in sessions:
        expected = {
            f"{backend}{number} {session} {n}"
            for backend in ("asyncio", "trio")
            for number in range(2)
            for n in range(count)
        }
        said = turns_in(contents[session])

        assert set(said) == expected

        # The turns of each writer are in order.
        for writer in ("asyncio0", "asyncio1", "trio0", "trio1"):
            mine = [int(text.split()[-1]) for text in said if text.startswith(writer)]
            assert mine == sorted(mine)


@pytest.mark.parametrize(
    ("kills", "seed"), [(15, 1), pytest.param(2000, 3, marks=pytest.mark.long)]
)
def test_a_process_killed_at_any_moment_loses_no_returned_turn_and_tears_none(
    tmp_path, anyio_backend, kills, seed
):
    path = tmp_path / "sessions.db"
    done = run_python(KILLER, path, anyio_backend, kills, seed, env=unmeasured())
    assert done.returncode == 0, done.stderr
    returned = json.loads(done.stdout)
    contents = stored(path)
    kept = [said for session in contents.values() for said in turns_in(session)]
    assert set(returned) <= set(kept)
    assert len(returned) > kills


SAME_REQUESTS = """
import sys
import anyio
from helpers.layers import memory_over
from tower_memory import SqliteSessionStore, TurnExists

async def model(messages):
    return messages[-1]["content"].upper()

async def main():
    answered = 0
    async with SqliteSessionStore(sys.argv[1]) as store:
        memory = memory_over(
            store, overlap=sys.argv[3], turn_id=lambda messages: messages[0]["content"]
        )
        async def ask(number):
            nonlocal answered
            said = f"request {number}"
            try:
                await memory(model)([{"role": "user", "content": said}])
            except TurnExists as error:
                contents = [item["content"] for item in error.items]
                assert contents == [said, said.upper()], contents
            answered += 1

        print("ready", flush=True)
        input()
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(ask, number)
                tasks.start_soon(ask, number)
    assert answered == 100

anyio.run(main, backend=sys.argv[2])
"""

ONE_AFTER_ANOTHER = """
import sys
import anyio
from helpers.layers import memory_over
from tower_memory import SessionConflict, SqliteSessionStore

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        async def model(messages):  # which counts the turns before
            return str(len(messages) // 2)

        memory = memory_over(store, overlap="reject")
        print("ready", flush=True)
        input()
        saved = 0
        while saved < 25:
            try:
                await memory(model)([{"role": "user", "content": "How many?"}])
                saved += 1
            except SessionConflict as error:
                assert error.response is not None
                assert error.turn is not None

anyio.run(main, backend=sys.argv[2])
"""


def run_at_once(source, *arguments_of_each):
    """Run *source* in a process for each of the arguments, all at the same time."""
    children = [
        start_python(source, *arguments, env=unmeasured()) for arguments in arguments_of_each
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.close()
    for child in children:
        with child:
            assert child.wait() == 0


@pytest.mark.parametrize("overlap", ["serialize", "append"])
def test_the_same_requests_in_two_processes_are_each_saved_once(tmp_path, overlap):
    path = tmp_path / "sessions.db"
    run_at_once(SAME_REQUESTS, (path, "asyncio", overlap), (path, "trio", overlap))
    said = turns_in(stored(path)["s"])
    assert sorted(said) == sorted(f"request {number}" for number in range(50))


def test_turns_that_reject_each_other_in_two_processes_each_saw_all_earlier_turns(tmp_path):
    path = tmp_path / "sessions.db"
    run_at_once(ONE_AFTER_ANOTHER, (path, "asyncio"), (path, "trio"))
    assert stored(path)["s"][1::2] == [str(number) for number in range(50)]
