"""Store operations that are cancelled at each of their suspensions, by an anyio scope and natively.

After each cancellation the store still works, no lock is left, and all turns are whole.
"""

from __future__ import annotations

import pytest

from helpers.cancelling import by_scope, cancel_at_every_suspension, every_cancellation
from helpers.locks import assert_no_lock_is_left
from helpers.sqlite import emptied
from helpers.sqlite_internals import file_of, is_open, open_connections, open_databases
from helpers.stores import ITEMS, assert_store_works
from helpers.waiting import until
from tower_memory import SessionError, SqliteSessionStore, Turn


@every_cancellation
async def test_a_cancelled_append_is_whole_or_absent(path, cancelled):
    async with SqliteSessionStore(path) as store:

        async def check(nth, revision, was_cancelled):
            history = await store.load(f"s{nth}")
            assert list(history) in ([], ITEMS)
            if not was_cancelled:
                assert history.revision == revision
            turn = Turn(f"s{nth}", ITEMS, turn_id="t")
            await store.append(turn)  # a repeated turn is stored once
            assert await store.load(f"s{nth}") == ITEMS
            assert_no_lock_is_left()
            await assert_store_works(store)

        await cancel_at_every_suspension(
            lambda nth: store.append(Turn(f"s{nth}", ITEMS, turn_id="t")), cancelled, check
        )


@every_cancellation
async def test_a_cancelled_load_changes_nothing(path, cancelled):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ITEMS))

        async def check(_nth, history, was_cancelled):
            assert was_cancelled or history == ITEMS
            assert_no_lock_is_left()
            await assert_store_works(store)

        await cancel_at_every_suspension(lambda _nth: store.load("s"), cancelled, check)


@every_cancellation
async def test_a_pop_removes_one_item_or_none(path, cancelled):
    async with SqliteSessionStore(path) as store:
        for nth in range(1, 20):
            await store.append(Turn(f"s{nth}", ITEMS))

        async def check(nth, item, was_cancelled):
            left = list(await store.load(f"s{nth}"))
            assert left in (ITEMS, ITEMS[:1])
            if not was_cancelled:
                assert [*left, item] == ITEMS
            elif cancelled is by_scope:
                assert left == ITEMS  # an item that was popped is returned
            assert_no_lock_is_left()
            await assert_store_works(store)

        await cancel_at_every_suspension(lambda nth: store.pop(f"s{nth}"), cancelled, check)


@every_cancellation
async def test_a_clear_removes_all_items_or_none(path, cancelled):
    async with SqliteSessionStore(path) as store:
        for nth in range(1, 20):
            await store.append(Turn(f"s{nth}", ITEMS))

        async def check(nth, _outcome, was_cancelled):
            left = await store.load(f"s{nth}")
            assert list(left) in ([ITEMS, []] if was_cancelled else [[]])
            assert_no_lock_is_left()
            await assert_store_works(store)

        await cancel_at_every_suspension(lambda nth: store.clear(f"s{nth}"), cancelled, check)


@every_cancellation
async def test_a_cancelled_opening_leaves_everything_open_or_nothing(tmp_path, cancelled):
    stores = [SqliteSessionStore(tmp_path / f"{nth}.db") for nth in range(1, 60)]
    open_before = open_connections()  # other tests leave files open on purpose

    async def check(nth, _outcome, was_cancelled):
        store = stores[nth - 1]
        if was_cancelled:
            assert not is_open(store)
        assert_no_lock_is_left()
        await assert_store_works(store)
        await store.aclose()
        assert not open_databases()
        await until(lambda: open_connections() == open_before)  # no file is left open

    await cancel_at_every_suspension(lambda nth: stores[nth - 1].__aenter__(), cancelled, check)


@every_cancellation
async def test_a_cancelled_closing_closes(tmp_path, cancelled):
    stores = [SqliteSessionStore(tmp_path / f"{nth}.db") for nth in range(1, 60)]
    for store in stores:
        await store.append(Turn("s", ITEMS))

    async def check(nth, _outcome, _was_cancelled):
        store = stores[nth - 1]
        assert file_of(store) not in open_databases()
        assert_no_lock_is_left()
        await assert_store_works(store)  # the store opens again
        assert await store.load("s") == ITEMS
        await store.aclose()

    await cancel_at_every_suspension(lambda nth: stores[nth - 1].aclose(), cancelled, check)
    for store in stores:
        await store.aclose()


@every_cancellation
async def test_a_cancelled_opening_after_a_fault_leaves_a_store_that_works(path, cancelled):
    open_before = open_connections()
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ITEMS))

        nth = 0
        more = True
        while more:
            nth += 1
            with emptied(path), pytest.raises(SessionError):
                await store.load("s")
            history, was_cancelled, more = await cancelled(store.load("s"), nth)
            assert was_cancelled or history == ITEMS
            assert await store.load("s") == ITEMS
            await assert_store_works(store)
        assert nth > 1

    await until(lambda: open_connections() == open_before)
