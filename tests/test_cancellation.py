"""Cancelled at every await: each operation is cancelled at its first suspension, then at its
second, and so on until it has no more, by an anyio scope and natively; after each, the store still
works, nothing is held, and sessions hold whole turns only.
"""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tower_memory import LoadSession, MemoryLayer, SaveSession, SqliteSessionStore, Turn
from tower_memory._overlap import _all_locks
from tower_memory._stores import connection
from tower_memory._stores.database import _open_files
from tower_memory.testing._cancelling import Suspended

ITEMS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


async def by_scope(operation, nth):
    """Outcome of *operation*, whether it was cancelled, and whether it had an nth suspension."""
    with anyio.CancelScope() as scope:
        suspended = Suspended(operation, nth, scope.cancel)
        return await suspended, False, suspended.reached
    return None, True, True


async def natively(operation, nth):
    """The same, with asyncio's own cancellation."""

    async def run():
        suspended = Suspended(operation, nth, asyncio.current_task().cancel)
        return await suspended, False, suspended.reached

    try:
        return await asyncio.create_task(run())
    except asyncio.CancelledError:
        return None, True, True


WAYS = [
    pytest.param("asyncio", by_scope, id="asyncio"),
    pytest.param("trio", by_scope, id="trio"),
    pytest.param("asyncio", natively, id="natively"),
]
every_way = pytest.mark.parametrize(("anyio_backend", "cancelled"), WAYS)


async def sweep(make_operation, cancelled, check):
    """Cancel what *make_operation* makes at every suspension, and *check* after each."""
    nth = 0
    more = True
    while more:
        nth += 1
        outcome, was_cancelled, more = await cancelled(make_operation(nth), nth)
        await check(nth, outcome, was_cancelled)
    assert nth > 1
    return nth


async def still_works(store):
    """The store opens no transaction, holds no lock, and does what it is asked."""
    assert not _all_locks.get({})
    revision = await store.append(Turn("other", ITEMS))
    assert (await store.load("other", limit=0)).revision == revision
    assert not await store._database._workers.writer.run(
        lambda connection: connection.in_transaction
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@every_way
async def test_an_append_is_whole_or_absent(path, cancelled):
    async with SqliteSessionStore(path) as store:

        async def check(nth, revision, was_cancelled):
            history = await store.load(f"s{nth}")
            assert list(history) in ([], ITEMS)
            if not was_cancelled:
                assert history.revision == revision
            turn = Turn(f"s{nth}", ITEMS, turn_id="t")
            await store.append(turn)  # made again, it is there once
            assert await store.load(f"s{nth}") == ITEMS
            await still_works(store)

        await sweep(lambda nth: store.append(Turn(f"s{nth}", ITEMS, turn_id="t")), cancelled, check)


@every_way
async def test_a_load_changes_nothing(path, cancelled):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ITEMS))

        async def check(_nth, history, was_cancelled):
            assert was_cancelled or history == ITEMS
            await still_works(store)

        await sweep(lambda _nth: store.load("s"), cancelled, check)


@every_way
async def test_a_pop_takes_one_item_or_none(path, cancelled):
    async with SqliteSessionStore(path) as store:
        for nth in range(1, 20):
            await store.append(Turn(f"s{nth}", ITEMS))

        async def check(nth, item, was_cancelled):
            left = list(await store.load(f"s{nth}"))
            assert left in (ITEMS, ITEMS[:1])
            if not was_cancelled:
                assert [*left, item] == ITEMS
            elif cancelled is by_scope:
                assert left == ITEMS  # what was taken is returned
            await still_works(store)

        await sweep(lambda nth: store.pop(f"s{nth}"), cancelled, check)


@every_way
async def test_a_clear_takes_all_or_nothing(path, cancelled):
    async with SqliteSessionStore(path) as store:
        for nth in range(1, 20):
            await store.append(Turn(f"s{nth}", ITEMS))

        async def check(nth, _outcome, was_cancelled):
            left = await store.load(f"s{nth}")
            assert list(left) in ([ITEMS, []] if was_cancelled else [[]])
            await still_works(store)

        await sweep(lambda nth: store.clear(f"s{nth}"), cancelled, check)


@every_way
async def test_an_opening_leaves_nothing_open_or_all_of_it(tmp_path, cancelled):
    stores = [SqliteSessionStore(tmp_path / f"{nth}.db") for nth in range(1, 60)]
    open_before = sorted(connection._open)  # other tests leave files open on purpose

    async def check(nth, _outcome, was_cancelled):
        store = stores[nth - 1]
        if was_cancelled:
            assert store._database is None
        await still_works(store)
        await store.aclose()
        assert not _open_files.get((0, {}))[1]
        assert sorted(connection._open) == open_before  # nor is any file

    await sweep(lambda nth: stores[nth - 1].__aenter__(), cancelled, check)


@every_way
async def test_a_closing_closes(tmp_path, cancelled):
    stores = [SqliteSessionStore(tmp_path / f"{nth}.db") for nth in range(1, 60)]
    for store in stores:
        await store.append(Turn("s", ITEMS))

    async def check(nth, _outcome, _was_cancelled):
        store = stores[nth - 1]
        assert store._file not in _open_files.get((0, {}))[1]
        await still_works(store)  # it opens again
        assert await store.load("s") == ITEMS
        await store.aclose()

    nth = await sweep(lambda nth: stores[nth - 1].aclose(), cancelled, check)
    for store in stores[nth:]:
        await store.aclose()


@every_way
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_turn_whose_model_answered_is_saved_and_returned(path, cancelled, overlap):
    answered = set()

    async def model(request):
        await anyio.lowlevel.checkpoint()
        answered.add(request["nth"])
        return "b"

    async with SqliteSessionStore(path) as store:
        memory = MemoryLayer(
            LoadSession(store),
            SaveSession(store),
            session_id=lambda request: f"s{request['nth']}",
            turn_id=lambda request: "t",
            overlap=overlap,
        )

        async def check(nth, reply, was_cancelled):
            history = await store.load(f"s{nth}")
            assert list(history) in ([], ITEMS)
            if cancelled is by_scope:
                assert was_cancelled == (nth not in answered)
            if was_cancelled and nth not in answered:
                assert history.revision == 0
            if not was_cancelled:
                assert (reply, list(history)) == ("b", ITEMS)
            await still_works(store)

        await sweep(
            lambda nth: memory(model)({"nth": nth, "messages": ITEMS[:1]}), cancelled, check
        )
        assert answered


@every_way
@pytest.mark.parametrize("keep", [False, True], ids=["dropped", "kept"])
@pytest.mark.parametrize("overlap", ["serialize", "append", "reject"])
async def test_a_stream_is_saved_if_it_ended_and_frees_its_session_if_not(
    path, cancelled, overlap, keep
):
    ended = set()

    async def chunks(nth):
        for chunk in "bc":
            await anyio.lowlevel.checkpoint()
            yield chunk
        ended.add(nth)

    async def model(request):
        await anyio.lowlevel.checkpoint()
        return chunks(request["nth"])

    async with SqliteSessionStore(path) as store:
        memory = MemoryLayer(
            LoadSession(store),
            SaveSession(store),
            session_id=lambda request: f"s{request['nth']}",
            overlap=overlap,
            keep_interrupted=keep,
        )

        async def read(nth):
            async with await memory(model)({"nth": nth, "messages": ITEMS[:1]}) as stream:
                return [chunk async for chunk in stream]

        async def check(nth, read, was_cancelled):
            contents = [item["content"] for item in await store.load(f"s{nth}")]
            mark = "\n\n(interrupted: this reply is not complete)"
            parts = [["a", f"{text}{mark}"] for text in ("b", "bc") if keep]
            assert contents in ([], ["a", "bc"], *parts)
            if cancelled is by_scope:
                assert was_cancelled == (nth not in ended)
                assert (contents == ["a", "bc"]) == (nth in ended)
            if not was_cancelled:
                assert (read, contents) == (["b", "c"], ["a", "bc"])
            await still_works(store)

        await sweep(read, cancelled, check)
        assert ended
