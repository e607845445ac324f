"""The rows of items: their turn ids and times, and rows that cannot be decoded."""

from __future__ import annotations

import pytest

from helpers.messages import ITEM
from helpers.sqlite import query
from tower_memory import CorruptSessionError, SqliteSessionStore, Turn


async def test_an_item_that_cannot_be_decoded_raises_with_its_row_and_stays_stored(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
        row = await store.append(Turn("s", [ITEM]))
        query(path, "UPDATE memory_item SET item = '{\"torn\":' WHERE id = ?", row)
        for operation in (store.load, store.pop):
            with pytest.raises(CorruptSessionError, match=f"row {row} cannot be decoded") as caught:
                await operation("s")
            assert (caught.value.session_id, caught.value.row) == ("s", row)
        assert query(path, "SELECT count(*) FROM memory_item") == [(2,)]
        await store.append(Turn("other", [ITEM]))  # the store still works


async def test_an_item_that_cannot_be_decoded_affects_no_other_load(path):
    async with SqliteSessionStore(path) as store:
        row = await store.append(Turn("bad", [1, 2, 3]))
        query(path, "UPDATE memory_item SET item = '{' WHERE id = ?", row)
        with pytest.raises(CorruptSessionError):
            await store.load("bad")
        await store.append(Turn("good", [ITEM]))
        assert await store.load("good") == [ITEM]
        query(path, "UPDATE memory_item SET item = '4' WHERE id = ?", row)
        assert await store.load("bad") == [1, 2, 4]


async def test_a_row_of_bytes_that_are_no_text_raises_with_its_row(path):
    async with SqliteSessionStore(path) as store:
        row = await store.append(Turn("s", [ITEM]))
        query(path, "UPDATE memory_item SET item = CAST(x'22ff22' AS TEXT) WHERE id = ?", row)
        with pytest.raises(CorruptSessionError):
            await store.load("s")


async def test_a_default_turn_id_takes_its_sixteen_bytes(path):
    async with SqliteSessionStore(path) as store:
        turn = Turn("s", [ITEM, ITEM])
        await store.append(turn)
        await store.append(Turn("s", [ITEM], turn_id="request 7"))
    assert query(path, "SELECT turn_id FROM memory_item") == [
        (bytes.fromhex(turn.turn_id),),
        (None,),
        ("request 7",),
    ]


async def test_each_item_has_the_time_it_was_saved_at(path, monkeypatch):
    monkeypatch.setattr("time.time_ns", lambda: 1754915696_123456789)
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [ITEM]))
    assert query(path, "SELECT created_at FROM memory_item") == [(1754915696_123456789,)]
