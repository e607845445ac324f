"""Operations on Postgres that are cancelled at each of their suspensions, by scope and natively.

After each cancellation the store still works, all turns are whole, and in the end no thread and no
connection is left.
"""

from __future__ import annotations

import threading

import anyio
import pytest

from helpers.cancelling import by_scope, cancel_at_every_suspension, every_cancellation
from helpers.layers import memory_over
from helpers.locks import assert_no_lock_is_left
from helpers.stores import ITEMS
from helpers.waiting import until
from tower_memory import Erasure, Turn
from tower_memory.postgres import PostgresSessionStore

NAMES = [f"s{nth}" for nth in range(1, 20)]
"""More sessions than an operation has suspensions."""


def our_threads():
    """Return the worker threads of all stores on Postgres."""
    names = ("tower-memory writer", "tower-memory reader")
    return {each for each in threading.enumerate() if each.name in names}


@pytest.fixture
async def nothing_is_left(postgres_tables, tables_url):
    """Check after the test that its stores have left no thread and no connection."""
    threads = our_threads()  # other tests leave stores open on purpose
    yield
    await until(lambda: our_threads() == threads)
    await until(lambda: postgres_tables.server.backends(tables_url) == [])


@pytest.fixture
async def store(nothing_is_left, tables_url):
    async with PostgresSessionStore(tables_url) as store:
        yield store


async def assert_store_works(store):
    """Fail unless *store* appends and loads. Its cancelled writes are over afterwards."""
    assert_no_lock_is_left()
    revision = await store.append(Turn("other", ITEMS))
    assert (await store.load("other")).revision == revision


async def fill(store):
    for name in NAMES:
        await store.append(Turn(name, ITEMS, turn_id="t"))


@every_cancellation
@pytest.mark.parametrize("is_plain", [True, False], ids=["plain", "replacing"])
async def test_a_cancelled_append_is_whole_or_absent(store, cancelled, is_plain):
    parameters = {}
    if not is_plain:
        for name in NAMES:
            await store.append(Turn(name, ["replaced"], turn_id="old"))
        parameters = {"replaces": "old", "expected_revision": None}

    async def append(nth):
        if not is_plain:
            parameters["expected_revision"] = (await store.load(f"s{nth}", limit=0)).revision
        return await store.append(Turn(f"s{nth}", ITEMS, turn_id="t", **parameters))

    async def check(nth, revision, was_cancelled):
        await assert_store_works(store)
        history = await store.load(f"s{nth}")
        assert list(history) in ([] if is_plain else ["replaced"], ITEMS)
        if not was_cancelled:
            assert (history, history.revision) == (ITEMS, revision)
        await append(nth)  # a repeated turn is stored once
        assert await store.load(f"s{nth}") == ITEMS

    await cancel_at_every_suspension(append, cancelled, check)


@every_cancellation
async def test_a_cancelled_load_changes_nothing(store, cancelled):
    await store.append(Turn("s", ITEMS))

    async def check(_nth, history, was_cancelled):
        assert was_cancelled or history == ITEMS
        await assert_store_works(store)
        assert await store.load("s") == ITEMS

    await cancel_at_every_suspension(lambda _nth: store.load("s"), cancelled, check)


@every_cancellation
async def test_a_pop_removes_one_item_or_none(store, cancelled):
    await fill(store)

    async def check(nth, item, was_cancelled):
        await assert_store_works(store)
        left = list(await store.load(f"s{nth}"))
        assert left in (ITEMS, ITEMS[:1])
        if not was_cancelled:
            assert [*left, item] == ITEMS
        elif cancelled is by_scope:
            assert left == ITEMS  # an item that was popped is returned

    await cancel_at_every_suspension(lambda nth: store.pop(f"s{nth}"), cancelled, check)


@every_cancellation
async def test_a_clear_removes_all_items_or_none(store, cancelled):
    await fill(store)

    async def check(nth, _outcome, was_cancelled):
        await assert_store_works(store)
        left = await store.load(f"s{nth}")
        assert list(left) in ([ITEMS, []] if was_cancelled else [[]])

    await cancel_at_every_suspension(lambda nth: store.clear(f"s{nth}"), cancelled, check)


@every_cancellation
async def test_a_turn_has_begun_or_not(store, cancelled):
    def begin(nth):
        return store.begin(Turn(f"s{nth}", ITEMS, turn_id="t"), lease=60, owner="me")

    async def check(nth, _outcome, was_cancelled):
        await assert_store_works(store)
        found = [(each.turn_id, list(each.items)) for each in await store.pending(f"s{nth}")]
        assert found in ([[], [("t", ITEMS)]] if was_cancelled else [[("t", ITEMS)]])
        await begin(nth)  # the same owner renews it
        assert len(await store.pending(f"s{nth}")) == 1

    await cancel_at_every_suspension(begin, cancelled, check)


@every_cancellation
async def test_a_fork_is_whole_or_absent(store, cancelled):
    await store.append(Turn("s", ITEMS, turn_id="t"))

    async def check(nth, info, was_cancelled):
        await assert_store_works(store)
        found = await store.describe(f"s{nth}")
        assert was_cancelled or found == info
        assert await store.load(f"s{nth}") == ([] if found is None else ITEMS)

    await cancel_at_every_suspension(lambda nth: store.fork("s", f"s{nth}"), cancelled, check)


@every_cancellation
@pytest.mark.parametrize("parameter", ["session_id", "prefix"])
async def test_an_erasure_removes_a_whole_session_or_nothing(store, cancelled, parameter):
    for name in NAMES:
        for place in "ab":
            await store.append(Turn(f"{name}/{place}", ITEMS, turn_id="t"))
            await store.begin(Turn(f"{name}/{place}", ITEMS, turn_id="pending"))

    def erase(nth):
        return store.erase(**{parameter: f"s{nth}/" if parameter == "prefix" else f"s{nth}/a"})

    async def check(nth, erased, was_cancelled):
        await assert_store_works(store)
        ids = [f"s{nth}/a", f"s{nth}/b"]
        if not was_cancelled:
            count = 2 if parameter == "prefix" else 1
            assert erased == Erasure(count, count, 2 * count)
            ids = ids[count:]
        for session_id in ids:
            found = await store.describe(session_id)
            assert await store.load(session_id) == (ITEMS if found else [])
            assert len(await store.pending(session_id)) == bool(found)

    await cancel_at_every_suspension(erase, cancelled, check)


@every_cancellation
async def test_a_cancelled_opening_leaves_everything_open_or_nothing(
    nothing_is_left, tables_url, cancelled
):
    threads = our_threads()
    stores = {}

    async def open_store(nth):
        stores[nth] = PostgresSessionStore(tables_url)
        return await stores[nth].__aenter__()

    async def check(nth, _outcome, was_cancelled):
        if was_cancelled:
            await until(lambda: our_threads() == threads)
        await assert_store_works(stores[nth])
        await stores[nth].aclose()
        await until(lambda: our_threads() == threads)  # closing waits for their last statement

    await cancel_at_every_suspension(open_store, cancelled, check)


@every_cancellation
async def test_a_cancelled_closing_closes(nothing_is_left, tables_url, cancelled):
    threads = our_threads()
    stores = {}

    async def close_store(nth):
        await stores[nth].aclose()

    async def prepare(nth):
        stores[nth] = PostgresSessionStore(tables_url)
        await stores[nth].append(Turn("s", ITEMS, turn_id="t"))

    async def check(nth, _outcome, _was_cancelled):
        await until(lambda: our_threads() == threads)
        await assert_store_works(stores[nth])  # the store opens again
        assert await stores[nth].load("s") == ITEMS
        await stores[nth].aclose()
        await prepare(nth + 1)

    await prepare(1)
    await cancel_at_every_suspension(close_store, cancelled, check)
    for store in stores.values():
        await store.aclose()


@every_cancellation
@pytest.mark.parametrize("journal", [False, True], ids=["plain", "journal"])
@pytest.mark.parametrize("overlap", ["serialize", pytest.param("append", marks=pytest.mark.long)])
async def test_a_turn_whose_model_answered_is_saved_and_returned(
    store, cancelled, overlap, journal
):
    answered = set()

    async def model(request):
        await anyio.lowlevel.checkpoint()
        answered.add(request["nth"])
        return "b"

    memory = memory_over(
        store,
        session_id=lambda request: f"s{request['nth']}",
        turn_id=lambda request: "t",
        overlap=overlap,
        journal=journal,
    )

    async def check(nth, reply, was_cancelled):
        await assert_store_works(store)
        history = await store.load(f"s{nth}")
        pending = await store.pending(f"s{nth}")
        assert list(history) in ([], ITEMS)
        assert not (history and pending)
        if cancelled is by_scope:
            assert was_cancelled == (nth not in answered)
        if was_cancelled and nth not in answered:
            assert history.revision == 0
        if not was_cancelled:
            assert (reply, list(history)) == ("b", ITEMS)

    await cancel_at_every_suspension(
        lambda nth: memory(model)({"nth": nth, "messages": ITEMS[:1]}), cancelled, check
    )
    assert answered
