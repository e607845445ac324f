"""The session cache: cached sessions equal the file, and take no more memory than allowed."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import anyio
import pytest

from helpers.internals import ItemCodec
from helpers.messages import calling, result, user
from helpers.sqlite_internals import (
    JSON_CODEC,
    DecodedSession,
    SessionCache,
    cache_of,
    count_cached_sessions,
    put_in_cache,
    session_of_size,
    take_from_cache,
)
from tower_memory import (
    MessageItem,
    Role,
    RunItem,
    SessionError,
    SqliteSessionStore,
    Turn,
    TurnInfo,
)
from tower_memory.dialects import ChatCompletions

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
USER = user("Hi")
CALLING = calling("1")
RESULT = result("1")
ASKED = [user("And?")]


async def test_changing_a_popped_item_does_not_change_a_loaded_history(store):
    await store.append(Turn("s", [user("Hi")]))
    for _ in range(3):
        history = await store.load("s")
    popped = await store.pop("s")
    popped["content"] = "Changed"
    assert history == [user("Hi")]


async def test_a_history_loaded_before_a_result_was_stored_does_not_contain_it(store):
    chat = ChatCompletions()
    await store.append(Turn("s", [USER, CALLING]))
    for _ in range(3):
        earlier = await store.load("s")
    await store.append(Turn("s", [RESULT]))
    assert chat.with_history(ASKED, await store.load("s")) == [USER, CALLING, RESULT, *ASKED]
    assert chat.with_history(ASKED, earlier) == chat.with_history(ASKED, [USER, CALLING])


async def test_a_prefix_known_to_satisfy_a_check_is_not_checked_again(store):
    seen = []

    def check(items):
        seen.append(list(items))
        return True

    async def known():
        return (await store.load("s")).known(check)

    await store.append(Turn("s", ["a", "b"]))
    await store.load("s")  # caches the session, decoded
    await store.load("s")

    assert await known() == 2

    await store.append(Turn("s", ["c"]))
    assert [await known(), await known()] == [3, 3]
    assert seen == [["a", "b"], ["c"], []]


async def test_a_history_that_was_read_has_no_known_checks(store):
    await store.append(Turn("s", ["a", "b"]))
    for _ in range(3):
        history = await store.load("s")
    assert list(history) == ["a", "b"]
    assert history.known(lambda _: True) == 0


@pytest.mark.parametrize("count", [249, 250, 251, 1001])
async def test_a_session_of_any_length_is_read_whole_and_in_order(tmp_path, count):
    numbers = [[number] for number in range(count)]
    async with SqliteSessionStore(tmp_path / "sessions.db") as store:
        for start in range(0, count, 3):
            await store.append(Turn("s", numbers[start : start + 3], turn_id=f"{start}"))
        for limit in (count - 1, None, None, None, count - 1):
            history = await store.load("s", limit=limit)
            cut = 0 if limit is None else 1
            assert history == numbers[cut:]
            starts = range(3 * cut, count, 3)
            assert list(history.turns) == [TurnInfo(f"{start}", start - cut) for start in starts]


async def test_a_file_moved_into_its_place_is_read_again_even_if_its_rows_look_the_same(tmp_path):
    path, other = tmp_path / "sessions.db", tmp_path / "other.db"
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["before"]))
        with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(other)) as copy:
            file.backup(copy)
            copy.execute("UPDATE memory_item SET item = '\"after\"'")
            copy.commit()

        assert await store.load("s") == ["before"]

        shutil.move(other, path)
        with pytest.raises(SessionError, match="was deleted or replaced"):
            await store.load("s")
        assert await store.load("s") == ["after"]


async def test_a_restored_backup_that_was_written_to_is_read_again(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1]))
        with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(":memory:")) as copy:
            file.backup(copy)
            revision = await store.append(Turn("s", ["before"]))
            assert await store.load("s") == [1, "before"]
            copy.backup(file)
        assert await store.append(Turn("s", ["after"])) == revision
        assert await store.load("s") == [1, "after"]


async def test_stores_on_one_file_share_the_session_cache(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path) as two:
        await one.append(Turn("s", [{"type": "Message"}]))
        for store in (one, two, one):
            await store.load("s")
        assert cache_of(one) is cache_of(two)
        assert count_cached_sessions(one) == 1


async def test_stores_on_one_file_use_the_smallest_limit_of_the_session_cache(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path, hot_bytes=0) as two:
        await one.append(Turn("s", [1]))
        for store in (two, one):
            await store.load("s")
        assert cache_of(one).size == 0


async def test_item_types_that_cannot_be_hashed_are_cached_separately(tmp_path):
    path = tmp_path / "sessions.db"
    told = Annotated[int, []]

    with pytest.raises(TypeError, match="unhashable"):
        hash(told)

    async with (
        SqliteSessionStore(path, item_type=told) as one,
        SqliteSessionStore(path, item_type=told) as two,
    ):
        await one.append(Turn("s", [1]))
        for store in (one, two, one):
            assert await store.load("s") == [1]
        assert count_cached_sessions(one) == 2


async def test_stores_of_other_item_types_have_cache_entries_of_their_own(tmp_path):
    path = tmp_path / "sessions.db"
    item = MessageItem("1", Role.USER, "Hi", CREATED)
    async with (
        SqliteSessionStore(path, item_type=RunItem) as typed,
        SqliteSessionStore(path) as plain,
    ):
        await typed.append(Turn("s", [item]))
        for _ in range(2):
            assert await typed.load("s") == [item]
            assert type((await plain.load("s"))[0]) is dict


SHAPES = {
    "a message": lambda n: user(f"{n} " + "x" * 300),
    "characters of two bytes": lambda n: user(f"{n} \N{SNOWMAN}" * 50),
    "characters of four bytes": lambda n: user(f"{n} \N{PILE OF POO}" * 50),
    "little text": lambda n: user(f"{n}"),
    "many fields": lambda n: {f"{n} key {k}": f"{n} value {k}" for k in range(20)},
    "parts": lambda n: {"content": [{"text": f"{n} " + "x" * 300}]},
    "a number": lambda n: n + 2**60,
    "nothing": lambda n: {},
    "text": lambda n: f"{n}",
    "a run item": lambda n: MessageItem(f"{n}", Role.USER, "Hi", CREATED),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cached_session_takes_no_more_memory_than_its_size_says(shape):
    codec = ItemCodec(RunItem) if shape == "a run item" else JSON_CODEC
    encoded = codec.encode(map(SHAPES[shape], range(1000)), "s")
    tracemalloc.start()

    try:
        session = DecodedSession()
        for number, raw in enumerate(encoded):
            session.add([bytes(bytearray(raw))], [TurnInfo(f"{number:032x}", len(session.items))])
        as_json, size_of_json = tracemalloc.get_traced_memory()[0], session.size
        session.history(1, 0, codec)
        ready, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert as_json <= size_of_json
    assert ready <= session.size


@pytest.mark.parametrize("loads", [1, 2])
async def test_many_short_sessions_take_no_more_memory_than_the_limit(tmp_path, loads):
    hot_bytes, count = 400_000, 1000
    path = tmp_path / "sessions.db"

    async with SqliteSessionStore(path) as store, anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(store.append, Turn(f"session {number}", [{"role": "user"}, "Hi"]))

    async with SqliteSessionStore(path, hot_bytes=hot_bytes) as store:
        await store.load("none")
        tracemalloc.start()

        try:
            for number in range(count):
                for _ in range(loads):
                    await store.load(f"session {number}")
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert 0 < cache_of(store).size <= hot_bytes
        assert taken <= hot_bytes


def test_the_least_recently_used_session_is_evicted_first():
    cache = SessionCache()
    put_in_cache(cache, "a", session_of_size(30))
    put_in_cache(cache, "b", session_of_size(30))
    put_in_cache(cache, "a", take_from_cache(cache, "a"))
    put_in_cache(cache, "c", session_of_size(50))
    assert cache.size == 80
    assert [take_from_cache(cache, each) is None for each in "abc"] == [False, True, False]
    assert cache.size == 0


def test_a_session_larger_than_the_session_cache_is_not_cached():
    cache = SessionCache()
    put_in_cache(cache, "a", session_of_size(30))
    put_in_cache(cache, "b", session_of_size(101))
    assert cache.size == 0


@pytest.mark.parametrize(("hot_bytes", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_an_invalid_size_of_the_session_cache_is_refused(hot_bytes, error):
    with pytest.raises(error, match="hot_bytes must be"):
        SqliteSessionStore("a.db", hot_bytes=hot_bytes)
