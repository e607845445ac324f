"""A SQLite file that several stores, event loops or processes use."""

from __future__ import annotations

import shutil
import threading

import anyio
import anyio.to_thread
import pytest

from helpers.messages import ITEM
from helpers.processes import environment, run_python
from tower_memory import SessionError, SqliteSessionStore, Turn


async def test_stores_on_one_file_see_each_others_turns_and_share_threads(path):
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path, busy_timeout=1) as two:
        before = threading.active_count()
        async with SqliteSessionStore(path) as three:
            await one.append(Turn("s", [ITEM]))
            assert await two.load("s") == await three.load("s") == [ITEM]
            assert threading.active_count() <= before  # a thread of an earlier test may end now
        assert await one.load("s") == [ITEM]  # closing a store leaves the others open
        assert one == two
        assert hash(one) == hash(two)
    assert one != SqliteSessionStore.in_memory()


async def test_a_file_that_is_open_is_not_opened_less_durably(path):
    async with SqliteSessionStore(path) as store:
        with pytest.raises(SessionError, match=r"synchronous='full', not 'normal'; use the same"):
            await SqliteSessionStore(path, synchronous="normal").load("s")
        await store.append(Turn("s", [ITEM]))
    async with SqliteSessionStore(path, synchronous="normal") as store:
        assert await store.load("s") == [ITEM]


async def test_stores_in_memory_are_separate():
    async with SqliteSessionStore.in_memory() as one, SqliteSessionStore(":memory:") as two:
        await one.append(Turn("s", [ITEM]))
        assert await two.load("s") == []
        assert one != two


async def test_a_store_open_in_one_event_loop_is_refused_in_another(path):
    async with SqliteSessionStore(path) as store:

        def elsewhere(backend):
            with pytest.raises(RuntimeError, match="is open in another event loop; close it there"):
                anyio.run(store.load, "s", backend=backend)
            with pytest.raises(RuntimeError, match="is open in another event loop"):
                anyio.run(store.aclose, backend=backend)

        for backend in ("asyncio", "trio"):
            await anyio.to_thread.run_sync(elsewhere, backend)
        assert await store.load("s") == []


FORK = """
import os, sys, threading, anyio
from tower_memory import SessionError, SqliteSessionStore, Turn

def open_anew():
    try:
        anyio.run(SqliteSessionStore(sys.argv[1]).load, "s", backend=sys.argv[2])
    except SessionError as error:
        print(error, flush=True)

async def main():
    store = SqliteSessionStore(sys.argv[1])
    await store.append(Turn("s", ["parent"]))
    if os.fork() == 0:
        try:
            await store.load("s")
        except RuntimeError as error:
            print(error, flush=True)
        anew = threading.Thread(target=open_anew)  # the event loop here is the parent's
        anew.start()
        anew.join()
        os._exit(0)  # event loops do not survive the orderly end of a forked child
    os.wait()
    print(list(await store.load("s")))
    await store.aclose()

anyio.run(main, backend=sys.argv[2])
if os.fork() == 0:
    anyio.run(SqliteSessionStore(sys.argv[1]).load, "s", backend=sys.argv[2])
    sys.exit()
sys.exit(os.wait()[1])
"""


def test_an_open_store_is_refused_in_a_forked_child_and_still_works_in_the_parent(
    path, anyio_backend
):
    variables = environment(PYTHONWARNINGS="ignore")
    done = run_python(FORK, path, anyio_backend, check=True, timeout=60, env=variables)
    child, own, parent = done.stdout.splitlines()

    assert child == (
        f"the store on {path} was opened in the parent process; "
        "fork before it is opened, or spawn the child"
    )
    assert own == (
        f"cannot open {path}: it was open when this process was forked; open it after, "
        "or spawn the process"
    )
    assert parent == "['parent']"


async def test_a_copy_of_the_file_made_after_closing_is_whole(path, tmp_path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
    copied = shutil.copy(path, tmp_path / "copy.db")
    async with SqliteSessionStore(copied) as store:
        assert await store.load("s") == [ITEM]
