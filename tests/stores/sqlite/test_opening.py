"""Opening and closing of a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading

import anyio
import anyio.to_thread
import pytest

from helpers.messages import ITEM
from helpers.processes import run_python, start_python
from helpers.sqlite import query
from helpers.sqlite_internals import is_open, is_opening
from tower_memory import SessionError, SqliteSessionStore, Turn


async def test_saved_items_are_there_when_the_store_is_opened_again(path):
    for expected in ([], [ITEM], [ITEM, ITEM]):
        async with SqliteSessionStore(path) as store:
            assert await store.load("s") == expected
            await store.append(Turn("s", [ITEM]))


async def test_a_store_opens_on_first_use_and_may_be_opened_again_once_closed(path):
    store = SqliteSessionStore(path)
    await store.aclose()  # closing a store that is not open is no error
    for expected in ([], [ITEM]):
        assert await store.load("s") == expected
        await store.append(Turn("s", [ITEM]))
        await store.aclose()
        await store.aclose()


def test_a_closed_store_may_be_opened_in_a_new_event_loop(path, anyio_backend):
    store = SqliteSessionStore(path)

    async def turn():
        async with store:
            await store.append(Turn("s", [ITEM]))
            return len(await store.load("s"))

    assert anyio.run(turn, backend=anyio_backend) == 1
    assert anyio.run(turn, backend="asyncio") == 2
    assert anyio.run(turn, backend="trio") == 3


async def test_the_file_and_its_side_files_are_readable_by_their_owner_only(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        files = list(path.parent.iterdir())
        assert {file.name for file in files} >= {"sessions.db", "sessions.db-wal"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_the_permissions_of_a_file_that_exists_stay_as_they_are(path):
    path.touch(mode=0o640)
    async with SqliteSessionStore(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_relative_path_means_the_folder_that_was_current_when_the_store_was_made(
    path, monkeypatch
):
    monkeypatch.chdir(path.parent)
    store = SqliteSessionStore("sessions.db")
    monkeypatch.chdir("/")
    async with store:
        assert path.exists()


async def test_a_path_that_cannot_be_opened_is_named_with_the_reason(path):
    with pytest.raises(SessionError, match=r"cannot open .*/missing/a\.db: No such file"):
        await SqliteSessionStore(path.parent / "missing" / "a.db").load("s")
    with pytest.raises(SessionError, match="unable to open database file"):
        await SqliteSessionStore(path.parent).load("s")


async def test_a_file_that_stays_locked_while_it_is_opened_is_an_error_and_then_opens(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = SqliteSessionStore(path, busy_timeout=0.1)
    with pytest.raises(SessionError, match=r"cannot open .*: database is locked"):
        await store.load("s")
    other.execute("ROLLBACK")
    other.close()
    async with store:
        assert await store.load("s") == []


async def test_a_cancelled_opening_of_a_locked_file_ends_at_once_and_leaves_nothing(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    store = SqliteSessionStore(path, busy_timeout=3600)

    with anyio.move_on_after(0.05) as scope:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(store.load, "s")

    assert scope.cancelled_caught

    other.execute("ROLLBACK")
    other.close()
    async with store:
        assert await store.load("s") == []


async def test_a_store_that_failed_to_open_opens_once_the_cause_is_removed(path):
    store = SqliteSessionStore(path.parent / "later" / "a.db")
    with pytest.raises(SessionError):
        await store.load("s")
    (path.parent / "later").mkdir()
    async with store:
        assert await store.load("s") == []


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"path": ""}, ValueError),
        ({"path": b"a.db"}, TypeError),
        ({"path": None}, TypeError),
        ({"path": "a\0b"}, ValueError),
        ({"busy_timeout": -1}, ValueError),
        ({"busy_timeout": float("nan")}, ValueError),
        ({"busy_timeout": "5"}, TypeError),
        ({"synchronous": "sometimes"}, ValueError),
        ({"synchronous": "off"}, ValueError),
    ],
)
def test_bad_parameters_are_refused_by_name(parameters, error):
    (name,) = parameters
    with pytest.raises(error, match="path" if name == "path" else f"{name} must be"):
        SqliteSessionStore(**{"path": "a.db", **parameters})


async def test_closing_a_store_that_is_being_opened_closes_it(path):
    store = SqliteSessionStore(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, Turn("s", [ITEM]))
        while not is_opening(store):
            await anyio.lowlevel.checkpoint()
        await store.aclose()
        assert not is_open(store)
    await store.aclose()
    async with store:
        assert await store.load("s") == [ITEM]


FEW_FILES = """
import os, resource, sys, anyio
from tower_memory import SessionError, SqliteSessionStore

async def main():
    open_files = len(os.listdir("/proc/self/fd"))
    failures = set()
    for spare in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + spare - 1, 4096))
        store = SqliteSessionStore(sys.argv[1])
        try:
            await store.load("s")
        except SessionError as error:
            failures.add(spare)
        await store.aclose()
    print(sorted(failures)[:1])

anyio.run(main, backend=sys.argv[2])
"""


def test_a_process_out_of_files_gets_an_error_and_then_works(path, anyio_backend):
    done = run_python(FEW_FILES, path, anyio_backend, timeout=60)
    # asyncio may print that a half-created event loop was not closed.
    assert (done.stdout, done.returncode) == ("[0]\n", 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only asyncio has it
async def test_a_natively_cancelled_closing_finishes_the_calls_before_it(path):
    async with SqliteSessionStore(path) as store:
        asked = [asyncio.create_task(store.append(Turn("s", [n]))) for n in range(3)]
        asked += [asyncio.create_task(store.load("s")) for n in range(3)]
        closing = asyncio.create_task(store.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.gather(*asked)
        assert len(await store.load("s")) == 3


async def test_many_tasks_may_open_one_store_at_once(path):
    before = threading.active_count()
    store = SqliteSessionStore(path)
    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(store.append, Turn("s", [n]))
    assert sorted(await store.load("s")) == list(range(10))
    await store.aclose()
    with anyio.fail_after(60):
        while threading.active_count() > before:  # a thread reports its end before it ends
            await anyio.lowlevel.checkpoint()


OPEN_AND_SAVE = """
import sys, anyio
from tower_memory import SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        await store.append(Turn("s", [int(sys.argv[2])]))

print("ready", flush=True)
input()
anyio.run(main)
"""


@pytest.mark.parametrize("count", [4, pytest.param(8, marks=pytest.mark.long)])
def test_several_processes_may_open_a_new_file_at_once(path, count):
    children = [start_python(OPEN_AND_SAVE, path, n) for n in range(count)]
    for child in children:
        child.stdout.readline()

    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()

    assert [child.wait() for child in children] == [0] * count

    for child in children:
        child.stdin.close()
        child.stdout.close()

    turns = query(path, "SELECT items FROM memory_turn")
    assert sorted(turns) == [(f"[{n}]",) for n in range(count)]
