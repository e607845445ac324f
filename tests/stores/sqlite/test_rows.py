"""The rows of turns: their ids and times, and rows that cannot be decoded."""

from __future__ import annotations

import pytest

from helpers.messages import ITEM
from helpers.sqlite import query
from tower_memory import CorruptSessionError, SessionConflict, SqliteSessionStore, Turn

NOT_ITEMS = {
    "torn": '[{"torn":',
    "no array": '{"a":1}',
    "another type": '["a"]',
    "empty": "[]",
    "too deep": "[" * 2000 + "]" * 2000,
}


@pytest.mark.parametrize("kind", NOT_ITEMS)
async def test_a_turn_that_cannot_be_decoded_raises_with_its_row_and_stays_stored(path, kind):
    async with SqliteSessionStore(path, item_type=dict, hot_bytes=0) as store:
        for _ in range(2):
            await store.append(Turn("s", [ITEM]))
        ((row,),) = query(path, "SELECT max(id) FROM memory_turn")
        query(path, "UPDATE memory_turn SET items = ? WHERE id = ?", NOT_ITEMS[kind], row)

        for operation in (store.load, store.pop) if kind != "empty" else [store.pop]:
            with pytest.raises(CorruptSessionError, match=f"row {row} cannot be decoded") as caught:
                await operation("s")
            assert (caught.value.session_id, caught.value.row) == ("s", row)

        assert query(path, "SELECT count(*) FROM memory_turn") == [(2,)]
        assert query(path, "SELECT turns, items FROM memory_head") == [(2, 2)]
        await store.append(Turn("other", [ITEM]))  # the store still works


async def test_a_turn_that_cannot_be_decoded_affects_no_other_load(path):
    async with SqliteSessionStore(path, hot_bytes=0) as store:
        await store.append(Turn("bad", [1, 2, 3]))
        query(path, "UPDATE memory_turn SET items = '{'")
        with pytest.raises(CorruptSessionError):
            await store.load("bad")

        await store.append(Turn("good", [ITEM]))
        assert await store.load("good") == [ITEM]

        query(path, "UPDATE memory_turn SET items = '[1,2,4]' WHERE items = '{'")
        assert await store.load("bad") == [1, 2, 4]


async def test_a_row_of_bytes_that_are_no_text_raises_with_its_row(path):
    async with SqliteSessionStore(path, hot_bytes=0) as store:
        await store.append(Turn("s", [ITEM]))
        query(path, "UPDATE memory_turn SET items = CAST(x'5b22ff225d' AS TEXT)")
        with pytest.raises(CorruptSessionError, match="row 1 cannot be decoded"):
            await store.load("s")


async def test_a_default_turn_id_takes_its_sixteen_bytes(path):
    async with SqliteSessionStore(path) as store:
        turn = Turn("s", [ITEM, ITEM])
        await store.append(turn)
        for turn_id in ("request 7", "AB" * 16, "ab" * 16 + "\n"):
            await store.append(Turn("s", [ITEM], turn_id=turn_id))
    assert query(path, "SELECT turn_id FROM memory_turn ORDER BY id") == [
        (bytes.fromhex(turn.turn_id),),
        ("request 7",),
        ("AB" * 16,),  # would come back in lower case
        ("ab" * 16 + "\n",),
    ]


async def test_each_turn_has_the_time_it_was_saved_at(path, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 1754915696_123456789)
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
    assert query(path, "SELECT created_at FROM memory_turn") == [(1754915696_123456789,)]
    assert query(path, "SELECT created_at, updated_at FROM memory_head") == [
        (1754915696_123456789,) * 2
    ]


async def test_each_change_makes_its_session_the_last_active_one(path):
    async with SqliteSessionStore(path) as store:

        async def last_active():
            rows = query(path, "SELECT session_id FROM memory_head ORDER BY active DESC")
            return [session_id for (session_id,) in rows]

        await store.append(Turn("a", [1, 2]))
        await store.append(Turn("b", [1, 2]))
        assert await last_active() == ["b", "a"]
        await store.pop("a")
        assert await last_active() == ["a", "b"]
        await store.clear("b")
        assert await last_active() == ["b", "a"]
        await store.append(Turn("a", [1]))
        await store.append(Turn("a", [1]))
        assert await last_active() == ["a", "b"]


async def test_a_head_counts_the_turns_and_items_of_its_session(path):
    async with SqliteSessionStore(path) as store:

        def check(turns, items):
            counted = query(
                path,
                "SELECT turns, items, (SELECT count(*) FROM memory_turn),"
                " (SELECT ifnull(sum(size), 0) FROM memory_turn) FROM memory_head",
            )
            assert counted == [(turns, items, turns, items)]

        for turn_id in "abc":
            await store.append(Turn("s", [1, 2], turn_id=turn_id))
        check(3, 6)
        await store.pop("s")
        check(3, 5)
        await store.pop("s")
        check(2, 4)
        revision = (await store.load("s")).revision
        await store.append(Turn("s", [], turn_id="d", replaces="b", expected_revision=revision))
        check(2, 2)
        await store.pop("s")
        check(1, 1)
        await store.clear("s")
        check(0, 0)


async def test_each_change_has_a_revision_of_its_own_and_the_time_of_the_change(path, monkeypatch):
    now = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now)
    async with SqliteSessionStore(path) as store:
        revisions = [await store.append(Turn("s", [1, 2]))]
        for method in (store.pop, store.clear):
            now += 10**9
            await method("s")
            revisions.append((await store.load("s")).revision)
            assert query(path, "SELECT updated_at, high FROM memory_head") == [(now, revisions[-1])]
        assert revisions == sorted(set(revisions))


@pytest.mark.parametrize("difference", [-1, 1])
async def test_a_turn_that_expects_another_revision_is_refused(path, difference):
    async with SqliteSessionStore(path) as store:
        revision = await store.append(Turn("s", [1]))
        with pytest.raises(SessionConflict):
            await store.append(Turn("s", [2], expected_revision=revision + difference))
        assert await store.load("s") == [1]


async def test_a_held_turn_is_not_written_again_whatever_it_expects(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1], turn_id="a"))
        revision = await store.append(Turn("s", [2]))
        again = Turn("s", [3], turn_id="a", expected_revision=1)
        assert await store.append(again) == revision
        assert await store.load("s") == [1, 2]
