"""Opening, sharing, leaving and closing a store: its threads, processes and event loops."""

from __future__ import annotations

from threading import Barrier, Thread
from threading import enumerate as running_threads

import anyio
import pytest
from anyio import create_task_group, fail_after, to_thread

from helpers.postgres_faults import (
    CALLS,
    ITEMS,
    LONG,
    append_turns,
    assert_saved,
    assert_works,
    hold,
)
from helpers.postgres_server import wait_until
from helpers.processes import run_python
from helpers.waiting import until
from tower_memory import SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

pytestmark = pytest.mark.anyio

LEAVE_OPEN = """
import anyio, sys
from tower_memory import Turn
from tower_memory.postgres import PostgresSessionStore

async def main():
    store = PostgresSessionStore(sys.argv[1])
    await store.append(Turn("session", ["said"]))
    print("saved", flush=True)
    return store

store = anyio.run(main)
"""

FORK = """
import anyio, gc, os, sys
from tower_memory import Turn
from tower_memory.postgres import PostgresSessionStore

async def child(store):
    for call in (lambda: store.load("session"), lambda: store.append(Turn("session", ["x"])),
                 lambda: store.pop("session"), store.aclose):
        try:
            await call()
        except RuntimeError as error:
            print("fork before" in str(error), flush=True)

async def parent(store):
    print(list(await store.load("session")), flush=True)
    await store.append(Turn("session", ["again"]))
    await store.aclose()

async def main():
    store = PostgresSessionStore(sys.argv[1])
    await store.append(Turn("session", ["said"]))
    return store

store = anyio.run(main)
pid = os.fork()
if pid == 0:
    anyio.run(child, store)
    del store
    gc.collect()
    os._exit(0)
os.waitpid(pid, 0)
anyio.run(parent, store)
"""


def threads_of_stores():
    """Return the names of the running threads of stores."""
    return [thread.name for thread in running_threads() if thread.name.startswith("tower-memory")]


def test_a_forked_child_is_refused_and_the_parent_goes_on(postgres_url):
    ended = run_python(FORK, postgres_url)
    assert (ended.stdout.split("\n"), ended.stderr) == ([*["True"] * 4, "['said']", ""], "")


def test_a_process_that_does_not_close_its_store_exits_at_once(postgres_server, postgres_url):
    ended = run_python(LEAVE_OPEN, postgres_url, timeout=LONG)
    assert (ended.returncode, ended.stdout) == (0, "saved\n")


async def test_a_store_that_is_not_closed_warns_and_its_threads_end(postgres_url):
    store = PostgresSessionStore(postgres_url)
    await store.append(Turn("session", ITEMS))
    assert sorted(threads_of_stores()) == ["tower-memory reader", "tower-memory writer"]

    left = [store]
    del store
    with pytest.warns(ResourceWarning, match="was not closed: use `async with`"):
        left.clear()
    await until(lambda: not threads_of_stores())


async def test_a_store_has_no_thread_before_its_first_use_and_after_its_end(
    postgres_server, postgres_url
):
    store = PostgresSessionStore(postgres_url)
    assert not threads_of_stores()
    async with store:
        assert len(postgres_server.backends(postgres_url)) == 2
    await until(lambda: not threads_of_stores())
    await until(lambda: not postgres_server.backends(postgres_url))
    await store.aclose()


async def test_a_closed_store_opens_again(postgres_url):
    store = PostgresSessionStore(postgres_url)
    for count in range(1, 4):
        async with store:
            await store.append(Turn("session", ITEMS))
            assert len((await store.load("session")).turns) == count


async def test_operations_in_progress_end_before_the_store_closes(postgres_url):
    count, revisions = 20, {}

    async def append(number):
        revisions[number] = await store.append(Turn(f"session {number}", ITEMS))

    store = PostgresSessionStore(postgres_url, patience=LONG)
    async with create_task_group() as group, store:
        for number in range(count):
            group.start_soon(append, number)
        await until(lambda: revisions)
    await store.aclose()  # an append that began late has opened it again

    async with store:
        for number in range(count):
            assert (await store.load(f"session {number}")).revision == revisions[number]


async def test_a_write_that_waits_for_the_server_ends_when_the_store_closes(
    postgres_server, postgres_url
):
    store = PostgresSessionStore(postgres_url, patience=LONG)
    async with store:
        await hold(store)
        await to_thread.run_sync(postgres_server.stop)
        async with create_task_group() as group:
            for name in ("append", "clear"):
                group.start_soon(raises_closed, store, name)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            with fail_after(LONG / 2):
                await store.aclose()


async def raises_closed(store, name):
    with pytest.raises(SessionError, match="was closed before the operation could succeed"):
        await CALLS[name](store)


def test_two_event_loops_use_one_store_at_the_same_time(postgres_url):
    store = PostgresSessionStore(postgres_url, patience=LONG)
    barrier = Barrier(2)
    backends = ["asyncio", "trio"]

    async def use(backend):
        async with create_task_group() as group:
            for number in range(4):
                group.start_soon(append_turns, store, f"{backend} {number}", 10, [])
        await assert_saved(store, [f"{backend} {number}" for number in range(4)], 10)

    def run(backend):
        barrier.wait()
        anyio.run(use, backend, backend=backend)

    running = [Thread(target=run, args=[backend]) for backend in backends]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()

    async def check():
        async with store:
            for backend in backends:
                await assert_saved(store, [f"{backend} {number}" for number in range(4)], 10)

    anyio.run(check)
    wait_until(lambda: not threads_of_stores())


async def test_a_store_whose_threads_cannot_start_is_closed(monkeypatch, postgres_url):
    start = Thread.start

    def start_no_reader(thread):
        if thread.name == "tower-memory reader":
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    monkeypatch.setattr(Thread, "start", start_no_reader)
    store = PostgresSessionStore(postgres_url)
    with pytest.raises(SessionError, match="can't start new thread"):
        await store.load("session")
    await until(lambda: not threads_of_stores())

    monkeypatch.undo()
    async with store:
        await assert_works(store)
