"""A store in an event loop of its own, for every event loop, thread, and code without a loop."""

from __future__ import annotations

import asyncio
import signal
import threading
from functools import partial

import anyio
import anyio.to_thread
import pytest

from helpers.messages import ITEM
from helpers.processes import environment, run_python
from helpers.recording_store import PROTOCOL_METHODS, FullRecordingStore
from helpers.waiting import until
from tower_memory import (
    InMemorySessionStore,
    MemoryLayer,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
)
from tower_memory.bridges import ThreadedStore
from tower_memory.testing import check_session_store

KINDS = {
    "in memory": lambda path: InMemorySessionStore(),
    "sqlite file": SqliteSessionStore,
}


@pytest.fixture(params=KINDS)
def make_store(request, path):
    return lambda: ThreadedStore(KINDS[request.param](path))


@pytest.mark.parametrize("kind", ["in memory", pytest.param("sqlite file", marks=pytest.mark.long)])
async def test_it_keeps_the_contract_of_its_store(path, kind):
    """It passes every call on, so the rules that a store in memory keeps show all of its part."""
    report = await check_session_store(lambda: ThreadedStore(KINDS[kind](path)))
    assert {*report.groups} == {*PROTOCOL_METHODS}


def test_one_store_serves_event_loops_one_after_another_and_blocking_code(make_store):
    store = make_store()
    for backend in ("asyncio", "trio"):
        anyio.run(store.append, Turn("s", [ITEM]), backend=backend)
        assert len(store.blocking.load("s")) == len(anyio.run(store.load, "s", backend=backend))
    store.close()
    store.close()  # does nothing
    with store.blocking as blocking:  # a closed store can be used again
        blocking.append(Turn("t", [ITEM]))
        assert blocking.pop("t") == ITEM
    assert not [each for each in threading.enumerate() if each.name == "tower-memory store"]


def test_errors_of_the_store_reach_the_caller(make_store):
    with make_store().blocking as store, pytest.raises(SessionConflict, match="session 's'"):
        store.append(Turn("s", [ITEM], expected_revision=7))


def test_a_blocking_call_on_the_own_thread_is_refused_and_an_awaited_call_is_not(make_store):
    store = make_store()

    async def ask(messages):
        with pytest.raises(RuntimeError, match="would wait for itself"):
            store.blocking.load("s")
        with pytest.raises(RuntimeError, match="would wait for itself"):
            await store.aclose()
        return f"{len(messages)}"

    chat = MemoryLayer.over(store, session_id="s")(ask)
    assert [store.run(chat, [ITEM]), store.run(chat, [ITEM])] == ["1", "3"]
    store.close()


async def test_a_store_that_is_garbage_collected_open_warns_and_ends_its_thread(make_store):
    store = make_store()
    async with store:
        pass
    await store.append(Turn("s", [ITEM]))
    thread = store._thread
    with pytest.warns(ResourceWarning, match="was not closed"):
        del store
    await until(thread.ended.done)


TURN = Turn("s", [ITEM])
ERASE = {"session_id": "s", "prefix": None, "inactive_since": None, "expected_revision": 7}
PAGE = {"prefix": "p", "limit": 7, "after": "c"}
CALLS = [
    ("load", ("s",), {"limit": 3, "before": "t"}),
    ("append", (TURN,), {}),
    ("pop", ("s",), {}),
    ("clear", ("s",), {}),
    ("sessions", (), PAGE),
    ("describe", ("s",), {}),
    ("annotate", ("s", {"title": "Rome"}), {"create": True, "overwrite": False}),
    ("fork", ("s", "new"), {"before": "t"}),
    ("search", ("rome",), PAGE),
    ("erase", (), ERASE),
    ("scrub", (), {}),
    ("begin", (TURN,), {"lease": 3.0, "owner": "me"}),
    ("fail", ("s", "t"), {"owner": "me"}),
    ("pending", ("s",), {}),
    ("forget", ("s", "t"), {}),
    ("load_summary", ("s",), {"name": "n"}),
    ("save_summary", ("s", "text"), {"turn_id": "t", "since": 3, "name": "n"}),
]


async def test_every_method_passes_all_arguments_and_its_result_on():
    for name, args, kwargs in CALLS:
        base = FullRecordingStore(**{name: "result"})
        async with ThreadedStore(base) as store:
            awaited = await getattr(store, name)(*args, **kwargs)
            returned = await anyio.to_thread.run_sync(
                partial(getattr(store.blocking, name), *args, **kwargs)
            )
        assert base.calls == [(name, args, kwargs)] * 2
        gives_nothing = name in ("clear", "scrub", "begin", "fail", "forget")
        assert awaited == returned == (None if gives_nothing else "result")
    assert repr(store.blocking).endswith(".blocking")


class Slow(FullRecordingStore):
    """A store whose loads wait until *is_free* is set."""

    def __init__(self, *, shield=False):
        super().__init__()
        self.begun, self.free = threading.Event(), threading.Event()
        self.outcomes, self.shield = [], shield

    async def load(self, session_id, *, limit=None, before=None):
        self.begun.set()
        try:
            with anyio.CancelScope(shield=self.shield):
                await anyio.to_thread.run_sync(self.free.wait, abandon_on_cancel=True)
        except BaseException as error:
            self.outcomes.append(type(error).__name__)
            raise
        return "loaded"


async def test_cancelling_a_caller_cancels_its_call():
    base = Slow()
    async with ThreadedStore(base) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(store.load, "s")
        await anyio.to_thread.run_sync(base.begun.wait)
        tasks.cancel_scope.cancel()
    base.free.set()
    assert base.outcomes == ["CancelledError"]


async def test_a_shielded_call_gives_its_result_to_a_caller_whose_scope_was_cancelled():
    base = Slow(shield=True)
    results = []

    async def load():
        results.append(await store.load("s"))

    async with ThreadedStore(base) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        await anyio.to_thread.run_sync(base.begun.wait)
        tasks.cancel_scope.cancel()
        base.free.set()
    assert results == ["loaded"]


async def test_a_call_during_the_closing_waits_for_it_and_opens_the_store_again():
    base = Slow()
    store = ThreadedStore(base)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.load, "s")
        await anyio.to_thread.run_sync(base.begun.wait)
        first = store._thread
        tasks.start_soon(store.aclose)
        await until(lambda: first.is_stopping)
        tasks.start_soon(store.pop, "s")
        tasks.start_soon(anyio.to_thread.run_sync, store.blocking.clear, "s")
        base.free.set()
    assert [name for name, *_ in base.calls].count("pop") == 1
    assert store._thread is not first
    await store.aclose()


class FailsToOpenAndClose(FullRecordingStore):
    at_open, at_close = "cannot open", "cannot close"

    async def __aenter__(self):
        raise SessionError(self.at_open)

    async def aclose(self):
        raise SessionError(self.at_close)


async def test_errors_of_opening_and_closing_reach_the_caller_and_no_thread_stays():
    store = ThreadedStore(FailsToOpenAndClose())
    with pytest.raises(SessionError, match="cannot close") as caught:
        await store.__aenter__()
    assert str(caught.value.__context__) == "cannot open"
    assert store._thread.ended.done()
    await store.aclose()  # does nothing


async def test_a_thread_that_cannot_be_started_is_an_error_of_the_session(monkeypatch):
    def refuse(_self):
        raise RuntimeError(message)

    message = "can't start new thread"

    store = ThreadedStore(InMemorySessionStore())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(SessionError, match="can't start new thread"):
            await store.load("s")
    async with store:
        assert await store.load("s") == []


OPEN_AT_EXIT = """
import asyncio, os, sys
from tower_memory import SqliteSessionStore, Turn
from tower_memory.bridges import ThreadedStore

store = ThreadedStore(SqliteSessionStore(sys.argv[1]))
if os.fork() == 0:
    asyncio.run(store.append(Turn("s", ["child"])))
    os._exit(0)
os.wait()
print(list(store.blocking.load("s")), flush=True)
if os.fork() == 0:
    try:
        store.blocking.load("s")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(asyncio.run(store.append(Turn("s", ["parent"]))) > 0)
"""


def test_an_open_store_keeps_no_process_alive_and_hangs_in_no_forked_child(path):
    variables = environment(PYTHONWARNINGS="ignore")
    done = run_python(OPEN_AT_EXIT, path, check=True, timeout=60, env=variables)
    first, child, parent = done.stdout.splitlines()
    assert first == "['child']"
    assert "was opened in the parent process; fork before it is opened" in child
    assert parent == "True"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_caller_that_is_cancelled_natively_stays_cancelled(make_store):
    async with make_store() as store:
        task = asyncio.create_task(store.append(Turn("s", [ITEM])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(await store.load("s")) in (0, 1)


def test_a_sqlite_store_left_open_when_its_event_loop_ended_names_the_remedies(path):
    store = SqliteSessionStore(path)
    asyncio.run(store.append(Turn("s", [ITEM])))
    with pytest.raises(RuntimeError, match=r"aclose\(\), or wrap it in a .*ThreadedStore"):
        asyncio.run(store.load("s"))

    async def close_and_load():
        await store.aclose()
        async with store:
            return list(await store.load("s"))

    assert asyncio.run(close_and_load()) == [ITEM]


async def test_callers_of_many_threads_and_loops_share_one_thread(make_store):
    store = make_store()

    def call(n):
        if n % 3:
            anyio.run(store.append, Turn("s", [n]), backend=["asyncio", "trio"][n % 3 - 1])
        else:
            store.blocking.append(Turn("s", [n]))

    async with store, anyio.create_task_group() as tasks:
        for n in range(12):
            tasks.start_soon(anyio.to_thread.run_sync, call, n)
    async with store:
        assert sorted(await store.load("s")) == list(range(12))


async def test_a_call_cancelled_by_its_scope_before_it_began_changes_nothing(make_store):
    async with make_store() as store:
        await store.append(Turn("s", [ITEM]))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.pop("s")
        assert list(await store.load("s")) == [ITEM]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_native_cancellation_ends_even_a_shielded_call():
    base = Slow(shield=True)
    async with ThreadedStore(base) as store:
        task = asyncio.create_task(store.load("s"))
        await anyio.to_thread.run_sync(base.begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert base.outcomes == ["CancelledError"]
    base.free.set()


def test_a_blocking_caller_can_be_interrupted():
    base, main = Slow(), threading.get_ident()

    def interrupt():
        base.begun.wait()
        signal.pthread_kill(main, signal.SIGINT)

    store = ThreadedStore(base)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        store.blocking.load("s")
    store.close()
    base.free.set()
    assert base.outcomes == ["CancelledError"]


def test_a_caller_whose_event_loop_ended_cancels_its_call():
    base = Slow()
    store = ThreadedStore(base)
    loop = asyncio.new_event_loop()
    task = loop.create_task(store.load("s"))
    while not base.begun.is_set():
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task.get_coro().close()
    task._log_destroy_pending = False  # the loop was closed on purpose
    store.close()
    base.free.set()
    assert base.outcomes == ["CancelledError"]


async def test_a_store_that_cannot_be_opened_leaves_no_thread(tmp_path):
    store = ThreadedStore(SqliteSessionStore(tmp_path))
    with pytest.raises(SessionError, match="cannot open"):
        await store.__aenter__()
    assert store._thread.ended.done()
