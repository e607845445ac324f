"""Threads, files and memory of an open store are bounded, and its process always ends."""

from __future__ import annotations

import json
import signal
import subprocess
from statistics import median

import pytest

from helpers.processes import run_python, start_python, unmeasured
from helpers.sqlite import query

# Ten turns a session, and a hundred sessions at the same time, which therefore share commits.
SESSIONS = """
import gc, json, os, sys, threading
import anyio
from helpers.layers import memory_over
from helpers.locks import count_locks
from tower_memory import SqliteSession, SqliteSessionStore

path, backend, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
ITEMS = [{"role": "user", "content": "Hi" * 100}, {"role": "assistant", "content": "Oh" * 100}]
threads, files, blocks, resident = set(), set(), [], []

async def model(messages):
    return ITEMS[1]["content"]

async def through_a_stack_for_each_request(session_id):
    await memory_over(store, session_id)(model)(ITEMS[:1])

async def on_a_handle_of_the_store(session_id):
    await store.session(session_id).add_items(ITEMS)

async def on_a_handle_that_is_closed(session_id):
    async with SqliteSession(session_id, path) as session:
        await session.add_items(ITEMS)
        await session.get_items(limit=2)

async def on_a_handle_that_is_dropped(session_id):
    await SqliteSession(session_id, path).add_items(ITEMS)

WAYS = [
    through_a_stack_for_each_request,
    on_a_handle_of_the_store,
    on_a_handle_that_is_closed,
    on_a_handle_that_is_dropped,
]

async def converse(sessions):
    for number in sessions:
        for _ in range(10):
            await WAYS[number % len(WAYS)](f"session {number}")
        threads.add(threading.active_count())
        files.add(len(os.listdir("/proc/self/fd")))

store = SqliteSessionStore(path, hot_bytes=50_000)  # full before the first tenth is over

async def main():
    async with store:
        for tenth in range(10):
            sessions = iter(range(tenth * count // 10, (tenth + 1) * count // 10))
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(converse, sessions)
            gc.collect()
            blocks.append(sys.getallocatedblocks())
            with open("/proc/self/statm") as statm:
                resident.append(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        locks = count_locks()
    taken = {"threads": [*threads], "files": [*files], "blocks": blocks, "bytes": resident}
    print(json.dumps({**taken, "locks": locks}))

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_any_number_of_sessions_turns_and_handles_takes_the_same_threads_files_and_memory(
    path, anyio_backend, count
):
    done = run_python(SESSIONS, path, anyio_backend, count, timeout=1200, env=unmeasured())
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert query(path, "SELECT sum(items) FROM memory_head") == [(count * 10 * 2,)]
    assert taken["threads"] == [4]  # the main thread, and ours
    assert len(taken["files"]) == 1
    assert taken["locks"] == 0
    # Not even one Python object is left for each session: the later tenths would then have half as
    # many more as there are sessions. The cache's sessions differ, so single tenths differ, too.
    earlier, later = median(taken["blocks"][:5]), median(taken["blocks"][5:])
    assert later - earlier < count / 4
    assert taken["bytes"][-1] - taken["bytes"][0] < 4 * 2**20


ENDING = """
import asyncio, os, signal, sqlite3, sys
import anyio, trio
from tower_memory import SqliteSessionStore, Turn

path, backend, how = sys.argv[1:]
store = SqliteSessionStore(path)

def save():
    return store.append(Turn("s", ["later"]))

async def main():
    await store.append(Turn("s", ["returned"]))
    print("returned", flush=True)
    await globals()[how]()

async def return_from_main():
    pass

async def return_while_a_task_saves():
    other.execute("BEGIN IMMEDIATE")  # so that it cannot be done first
    if backend == "asyncio":
        tasks.add(asyncio.create_task(save()))
    else:
        trio.lowlevel.spawn_system_task(save)
    await anyio.lowlevel.checkpoint()

async def exit_from_main():
    sys.exit(3)

async def exit_at_once():
    os._exit(4)

async def fail():
    raise ValueError("on purpose")

async def interrupt_itself():
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep_forever()

async def idle():
    await anyio.sleep_forever()

async def go_on_saving():
    while True:
        await save()

async def wait_for_a_lock():
    other.execute("BEGIN IMMEDIATE")
    await save()

tasks = set()
other = sqlite3.connect(path, isolation_level=None)
anyio.run(main, backend=backend)
"""


ENDS = [
    ("return_from_main", None, 0),
    ("return_while_a_task_saves", None, 0),
    ("exit_from_main", None, 3),
    ("exit_at_once", None, 4),
    ("fail", None, 1),
    ("interrupt_itself", None, -signal.SIGINT),
    ("idle", signal.SIGINT, -signal.SIGINT),
    ("go_on_saving", signal.SIGINT, -signal.SIGINT),
    ("wait_for_a_lock", signal.SIGINT, -signal.SIGINT),
    ("idle", signal.SIGTERM, -signal.SIGTERM),
    ("go_on_saving", signal.SIGTERM, -signal.SIGTERM),
    ("wait_for_a_lock", signal.SIGTERM, -signal.SIGTERM),
]


def ends():
    """Yield each end of a process, on both runtimes if they run code at the end."""
    for how, sent, status in ENDS:
        is_sudden = how == "exit_at_once" or sent == signal.SIGTERM
        marks = pytest.mark.long if is_sudden else ()
        yield pytest.param(how, sent, status, "asyncio")
        yield pytest.param(how, sent, status, "trio", marks=marks)


@pytest.mark.parametrize(("how", "sent", "status", "anyio_backend"), [*ends()])
def test_a_process_with_an_open_store_ends_as_it_would_without_it(
    path, anyio_backend, how, sent, status
):
    with start_python(
        ENDING, path, anyio_backend, how, stdin=None, stderr=subprocess.PIPE, env=unmeasured()
    ) as child:
        try:
            assert child.stdout.readline() == "returned\n"
            if sent is not None:
                child.send_signal(sent)
            _, errors = child.communicate(timeout=60)
        finally:
            child.kill()

    assert child.returncode == status, errors
    assert query(path, "SELECT items FROM memory_turn ORDER BY id LIMIT 1") == [('["returned"]',)]
