"""The session cache: cached sessions equal the file, and take no more memory than allowed."""

from __future__ import annotations

import gc
import json
import random
import shutil
import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any

import anyio
import msgspec
import pytest

from helpers.internals import ItemCodec, checked_length, decode_metadata, mutate, to_kept
from helpers.messages import calling, result, user
from helpers.runtimes import on_one_runtime
from helpers.sqlite_internals import (
    JSON_CODEC,
    CachedSession,
    SessionCache,
    cache_of,
    cached_items,
    commit_for_cache,
    count_cached_sessions,
    entry_of_size,
    finish,
    load_in_steps,
    pause_loads_after_each_row,
    put_in_cache,
    take_from_cache,
    traced_reads,
)
from tower_memory import (
    InMemorySessionStore,
    MessageItem,
    Role,
    RunItem,
    SessionError,
    SqliteSessionStore,
    Turn,
    TurnInfo,
    TurnMissing,
)
from tower_memory.dialects import ChatCompletions

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
USER = user("Hi")
CALLING = calling("1")
RESULT = result("1")
ASKED = [user("And?")]


Other = Annotated[Any, "other"]
"""The type of the same items, for cached sessions of its own."""


async def warm(store, session_id="s"):
    """Load a session until it is in the session cache."""
    for _ in range(2):
        await store.load(session_id)


# What is loaded


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


async def test_no_mutable_part_of_what_is_returned_is_shared(store):
    items = [
        {"flat": "text"},
        {"deep": {"list": [1, {"a": []}]}},
        [1, [2]],
        {"parts": [{"text": "x"}]},
        {},
        [],
    ]
    metadata = {"tags": ["a", {"b": [1]}]}
    given = json.loads(json.dumps(items)), json.loads(json.dumps(metadata))
    await store.append(Turn("s", given[0], turn_id="a", metadata=given[1]))
    mutate(given[0])
    mutate(given[1])
    await store.append(Turn("s", ["newest"], turn_id="b"))

    for limit in (None, None, 5, None, 3, None):
        history = await store.load("s", limit=limit)
        expected = [*items, "newest"][-(limit or 7) :]
        assert history == expected
        for turn in history.turns:
            assert turn.metadata == (metadata if turn.turn_id == "a" else {})
            for value in turn.metadata.values():
                mutate(value)
            with pytest.raises(TypeError):
                turn.metadata["new"] = 1
        for item in history:
            mutate(item)
        for item in history.turn("b") or ():
            mutate(item)

    assert await store.pop("s") == "newest"
    for expected in reversed(items):
        popped = await store.pop("s")
        assert popped == expected
        mutate(popped)
    assert await store.load("s") == []


async def test_no_mutable_part_of_what_was_read_from_the_file_is_shared(path):
    items = [{"flat": "text"}, {"deep": {"list": [1]}}, [1, [2]]]
    async with SqliteSessionStore(path) as store:
        for item in items:
            await store.append(Turn("s", [item], metadata={"tags": [1]}))
    async with SqliteSessionStore(path) as store:
        for limit in (1, 2, None, None, None):
            history = await store.load("s", limit=limit)
            assert history == items[-(limit or 3) :]
            for item in history:
                mutate(item)
            for turn in history.turns:
                assert turn.metadata == {"tags": [1]}
                mutate(turn.metadata["tags"])


async def test_an_item_that_the_caller_changes_after_the_append_is_not_changed_in_the_cache(path):
    async with SqliteSessionStore(path) as store:
        item = {"content": "Hi", "parts": [1]}
        await store.append(Turn("s", [item]))
        mutate(item)
        assert await store.load("s") == [{"content": "Hi", "parts": [1]}]


# Checks whose results are remembered


class Recording:
    """A check that passes, and records the items that it is given."""

    def __init__(self):
        self.seen = []

    def __call__(self, items):
        self.seen.append(list(items))
        return True


async def test_a_prefix_that_is_known_to_pass_a_check_is_not_checked_again(store):
    check = Recording()

    async def checked():
        return checked_length(await store.load("s"), check)

    await store.append(Turn("s", ["a", "b"]))
    await store.load("s")
    assert await checked() == 2
    await store.append(Turn("s", ["c"]))
    assert [await checked(), await checked()] == [3, 3]
    assert check.seen == [["a", "b"], ["c"], []]


@pytest.mark.parametrize("change", ["pop", "clear", "replace"])
async def test_items_that_took_the_place_of_others_are_checked(store, change):
    check = Recording()
    await store.append(Turn("s", ["a"], turn_id="a"))
    await store.append(Turn("s", ["b"], turn_id="b"))
    await store.load("s")
    assert checked_length(await store.load("s"), check) == 2

    if change == "replace":
        revision = (await store.load("s")).revision
        turn = Turn("s", ["c"], turn_id="c", replaces="b", expected_revision=revision)
    else:
        await getattr(store, change)("s")
        turn = Turn("s", ["c"], turn_id="c")
    await store.append(turn)

    check.seen.clear()
    for _ in range(3):
        history = await store.load("s")
        expected = list(await store.load("s"))
        if checked_length(history, check):
            break
    assert list(chain(*check.seen)) == expected


async def test_the_check_of_an_older_shorter_history_does_not_count_newer_items(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["a"]))
        older = await store.load("s")
        await store.append(Turn("s", ["b"]))
        assert checked_length(await store.load("s"), Recording()) == 2
        check = Recording()
        assert checked_length(await store.load("s"), check) == 2
        assert checked_length(older, check) == 0  # the note is of two items


async def test_a_check_that_fails_is_asked_again(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["a"]))
        assert checked_length(await store.load("s"), lambda _: False) == 0
        answers = iter([False, True])

        def check(_):
            return next(answers)

        assert [checked_length(await store.load("s"), check) for _ in range(2)] == [0, 1]


async def test_a_history_whose_items_were_read_has_no_checked_prefix(store):
    await store.append(Turn("s", ["a", "b"]))
    for _ in range(3):
        history = await store.load("s")
    assert list(history) == ["a", "b"]
    assert checked_length(history, lambda _: True) == 0


async def test_a_history_from_the_middle_of_a_session_leaves_no_note_for_its_start(path):
    async with SqliteSessionStore(path) as store:
        check = Recording()
        await store.append(Turn("s", ["a", "b", "c"]))
        assert checked_length(await store.load("s", limit=2), check) == 2
        check.seen.clear()
        assert checked_length(await store.load("s"), check) == 3
        assert check.seen == [["a", "b", "c"]]


async def test_older_turns_that_are_added_to_the_cache_are_checked(path):
    async with SqliteSessionStore(path) as store:
        for item in "abc":
            await store.append(Turn("s", [item]))
    async with SqliteSessionStore(path) as store:
        check = Recording()
        for _ in range(2):
            await store.load("s", limit=1)
        await store.load("s")  # adds the older turns
        assert checked_length(await store.load("s"), check) == 3
        assert check.seen == [["a", "b", "c"]]


async def test_a_session_larger_than_the_cache_is_not_checked_again(path):
    async with SqliteSessionStore(path, hot_bytes=20_000) as store:
        check = Recording()
        for number in range(100):
            await store.append(Turn("s", [f"{number} {'x' * 300}"]))
        for _ in range(2):
            await store.load("s")
        assert checked_length(await store.load("s"), check) == 100
        await store.append(Turn("s", ["new"]))
        assert checked_length(await store.load("s"), check) == 101
        assert [len(each) for each in check.seen] == [100, 1]


# The cache and the file


@pytest.mark.parametrize("count", [249, 250, 251, 1001])
async def test_a_session_of_any_length_is_read_whole_and_in_order(path, count):
    numbers = [[number] for number in range(count)]
    async with SqliteSessionStore(path) as store:
        for start in range(0, count, 3):
            await store.append(Turn("s", numbers[start : start + 3], turn_id=f"{start}"))

    for hot_bytes in (0, 20_000, 32 * 2**20):
        async with SqliteSessionStore(path, hot_bytes=hot_bytes) as store:
            for limit in (count - 1, None, None, None, count - 1):
                history = await store.load("s", limit=limit)
                cut = 0 if limit is None else 1
                assert history == numbers[cut:]
                starts = range(3 * cut, count, 3)
                assert [(turn.turn_id, turn.position) for turn in history.turns] == [
                    (f"{start}", start - cut) for start in starts
                ]


def replaced_by_nothing(turn_id, replaces, revision):
    return Turn("s", [], turn_id=turn_id, replaces=replaces, expected_revision=revision)


def shown(history):
    turns = [(turn.turn_id, turn.position) for turn in history.turns]
    return list(history), turns, history.offset, history.is_cut


@on_one_runtime
async def test_turns_without_items_are_shown_at_every_edge_of_what_is_cached(path):
    # Turns without items: at the start, between two items of one place, and at the end.
    async def fill(store):
        for first in (True, False):
            await store.append(Turn("s", ["gone"], turn_id=f"gone {first}"))
            for n in range(3):  # each replaces the one before: only the last stays
                revision = (await store.load("s", limit=0)).revision
                replaced = f"gone {first}" if n == 0 else f"empty {first} {n - 1}"
                await store.append(replaced_by_nothing(f"empty {first} {n}", replaced, revision))
            await store.append(Turn("s", ["a", "b"], turn_id=f"full {first}"))
            await store.append(Turn("s", ["c"], turn_id=f"next {first}"))
            await store.append(Turn("s", ["x"], turn_id=f"x {first}"))
            revision = (await store.load("s", limit=0)).revision
            await store.append(replaced_by_nothing(f"end {first}", f"x {first}", revision))

    memory = InMemorySessionStore()
    await fill(memory)
    async with SqliteSessionStore(path) as store:
        await fill(store)

    ids = [turn.turn_id for turn in (await memory.load("s")).turns]
    assert len(ids) == 8
    with closing(sqlite3.connect(path)) as connection:
        for cached in [0, 1, 2, 3, 4, 5, 6, None]:
            for limit in [None, *range(8)]:
                for before in [None, *range(8), *ids]:
                    cache = SessionCache(2**20)
                    for first in (1, cached):  # caches so many items
                        finish(load_in_steps(connection, cache, limit=first))
                    expected = await memory.load("s", limit=limit, before=before)
                    for _ in range(2):
                        loaded = finish(
                            load_in_steps(connection, cache, limit=limit, before=before)
                        )
                        assert shown(loaded) == shown(expected), (cached, limit, before)


async def test_a_turn_without_items_at_the_end_is_shown_after_a_turn_that_is_committed(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["a"], turn_id="a"))
        revision = await store.append(Turn("s", ["b"], turn_id="b"))
        await store.append(replaced_by_nothing("empty", "b", revision))
    async with SqliteSessionStore(path) as store:
        await store.load("s")  # caches only the end
        await store.append(Turn("s", ["c"], turn_id="c"))
        for _ in range(3):
            turns = (await store.load("s")).turns
            assert [(turn.turn_id, turn.position) for turn in turns] == [
                ("a", 0),
                ("empty", 1),
                ("c", 1),
            ]


async def test_a_file_moved_into_its_place_is_read_again_even_if_its_rows_look_the_same(tmp_path):
    path, other = tmp_path / "sessions.db", tmp_path / "other.db"
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["before"]))
        with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(other)) as copy:
            file.backup(copy)
            copy.execute("UPDATE memory_turn SET items = '[\"after\"]'")
            copy.commit()

        assert await store.load("s") == ["before"]

        shutil.move(other, path)
        with pytest.raises(SessionError, match="was deleted or replaced"):
            await store.load("s")
        assert await store.load("s") == ["after"]


async def check_restored_backup(path, store, writer):
    """Check that *store* reads a restored backup to which *writer* has written."""
    await store.append(Turn("s", [1]))
    with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(":memory:")) as copy:
        file.backup(copy)
        revision = await store.append(Turn("s", ["before"]))
        assert await store.load("s") == [1, "before"]
        copy.backup(file)
    assert await writer.append(Turn("s", ["after"])) == revision
    assert await store.load("s") == [1, "after"]


async def test_a_restored_backup_that_was_written_to_is_read_again(path):
    async with SqliteSessionStore(path) as store:
        await check_restored_backup(path, store, store)


async def test_a_restored_backup_that_another_store_has_written_to_is_read_again(path):
    async with (
        SqliteSessionStore(path) as store,
        SqliteSessionStore(path, item_type=Other) as other,
    ):
        await check_restored_backup(path, store, other)


async def test_a_restored_backup_of_an_empty_session_is_read_again(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1]))
        await store.clear("s")
        with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(":memory:")) as copy:
            file.backup(copy)
            revision = await store.append(Turn("s", ["before"]))
            await warm(store)
            copy.backup(file)
        assert await store.load("s") == []
        assert await store.append(Turn("s", ["after"])) == revision
        assert await store.load("s") == ["after"]


async def test_a_session_that_another_store_has_erased_and_written_again_is_read_again(path):
    async with SqliteSessionStore(path) as store, SqliteSessionStore(path, item_type=int) as other:
        await store.append(Turn("s", [1]))
        await warm(store)
        await other.erase(session_id="s")
        assert await store.load("s") == []
        await warm(store)
        await other.append(Turn("s", [2]))
        assert await store.load("s") == [2]


# What is read from the file


async def test_a_first_load_caches_only_the_end_of_a_session(path):
    async with SqliteSessionStore(path) as store:
        for n in range(50):
            await store.append(Turn("s", [n]))
    async with SqliteSessionStore(path) as store:
        await store.load("s")
        assert cached_items(store, "s") == 0
        await store.load("s")
        assert cached_items(store, "s") == 50


async def test_a_load_before_the_end_caches_nothing_of_a_session_that_is_not_cached(path):
    async with SqliteSessionStore(path) as store:
        for n in range(5):
            await store.append(Turn("s", [n], turn_id=f"t{n}"))
    async with SqliteSessionStore(path) as store:
        for before in ("t2", 2):
            assert await store.load("s", before=before) == [0, 1]
            assert cached_items(store, "s") is None
        with pytest.raises(TurnMissing):
            await store.load("s", before="none")
        assert await store.load("s", limit=0) == []
        assert count_cached_sessions(store) == 0 or cached_items(store, "s") == 0


async def test_a_load_of_a_turn_that_is_missing_leaves_the_session_in_the_cache(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1]))
        with pytest.raises(TurnMissing):
            await store.load("s", before="none")
        assert cached_items(store, "s") == 1


async def test_a_load_of_a_session_that_is_gone_leaves_nothing_in_the_cache(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1]))
        await store.erase(session_id="s")
        assert await store.load("s") == []
        assert count_cached_sessions(store) == 0
        await store.load("never written")
        assert count_cached_sessions(store) == 0


async def test_turns_that_this_process_writes_reach_the_cache_without_being_read(path):
    async with SqliteSessionStore(path) as store:
        rows = await traced_reads(store)
        for n in range(10):
            await store.append(Turn("s", [n, {"n": n}, [n]]))
            assert len(await store.load("s")) == 3 * (n + 1)
        assert rows == []
        assert cached_items(store, "s") == 30


async def test_a_turn_of_another_process_is_the_only_one_that_is_read(path):
    async with SqliteSessionStore(path) as store:
        for n in range(10):
            await store.append(Turn("s", [n], turn_id=f"t{n}"))
        await store.load("s")
        rows = await traced_reads(store)
        with closing(sqlite3.connect(path)) as other:
            other.execute(
                "INSERT INTO memory_turn SELECT 11, session, number + 1, 'new', created_at,"
                " first + 1, 1, NULL, '[10]' FROM memory_turn WHERE turn_id = 't9'"
            )
            other.execute("UPDATE memory_head SET revision = revision + 1, items = 11, turns = 11")
            other.commit()
        assert list(await store.load("s")) == list(range(11))
        assert rows == ["new"]


async def test_a_write_by_a_store_of_another_item_type_is_read_once(path):
    async with (
        SqliteSessionStore(path) as store,
        SqliteSessionStore(path, item_type=int) as other,
    ):
        await store.append(Turn("s", [0]))
        await other.append(Turn("s", [1], turn_id="other's"))
        rows = await traced_reads(store)
        for _ in range(3):
            assert await store.load("s") == [0, 1]
        assert rows == ["other's"]


async def test_a_session_a_little_longer_than_its_share_is_read_only_where_it_is_not_cached(path):
    turns, size = 100, 2000
    async with SqliteSessionStore(path) as store:
        for n in range(turns):
            await store.append(Turn("s", ["x" * size], turn_id=f"t{n}"))

    read_of_each = []
    for share in (1.5, 1.0, 0.9, 0.8, 0.5):  # the limit, in sizes of the session
        async with SqliteSessionStore(path, hot_bytes=int(turns * size * share * 4 / 3)) as store:
            await warm(store)
            rows = await traced_reads(store)
            await store.load("s")
            read_of_each.append(len(rows))
            assert cached_items(store, "s") == turns - len(rows)
            assert cache_of(store).size <= cache_of(store).max_bytes
    # 11/16 of the limit is used, where a session is longer than 3/4 of it.
    for rows, expected in zip(read_of_each, (0, 20, 28, 36, 60), strict=True):
        assert expected <= rows <= expected + 10 or rows == expected == 0


async def test_a_long_session_that_grows_is_not_read_again_at_each_turn(path):
    async with SqliteSessionStore(path, hot_bytes=100_000) as store:
        rows = await traced_reads(store)
        for n in range(300):
            await store.append(Turn("s", ["x" * 1000], turn_id=f"t{n}"))
            assert len(await store.load("s", limit=20)) == min(20, n + 1)
            assert cache_of(store).size <= 100_000
        assert rows == []


async def test_a_session_larger_than_its_share_evicts_no_other(path):
    async with SqliteSessionStore(path) as store:
        for n in range(4):
            await store.append(Turn(f"small {n}", [n]))
        for n in range(100):
            await store.append(Turn("large", ["x" * 2000], turn_id=f"t{n}"))

    async with SqliteSessionStore(path, hot_bytes=60_000) as store:
        for n in range(4):
            await warm(store, f"small {n}")
        for _ in range(5):
            assert len(await store.load("large")) == 100
        await store.append(Turn("large", ["x" * 2000]))
        await store.append(Turn("large", ["x" * 200_000]))
        assert len(await store.load("large")) == 102
        assert [cached_items(store, f"small {n}") for n in range(4)] == [1] * 4
        assert cache_of(store).size <= 60_000


# Loads at the same time


def test_loads_of_one_session_at_the_same_time_keep_the_larger_entry():
    cache = SessionCache(1000)
    put_in_cache(cache, "a", entry_of_size(300))
    put_in_cache(cache, "a", entry_of_size(200))
    assert cache.size == 300
    put_in_cache(cache, "a", entry_of_size(400))
    assert cache.size == 400
    assert take_from_cache(cache, "a") is not None
    assert cache.size == 0


async def test_many_loads_of_one_session_at_the_same_time_leave_one_entry(path, monkeypatch):
    pause_loads_after_each_row(monkeypatch)
    async with SqliteSessionStore(path) as store:
        for n in range(20):
            await store.append(Turn("s", [n]))
    async with SqliteSessionStore(path) as store:
        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(store.load, "s")
        assert cached_items(store, "s") == 20
        entry = take_from_cache(cache_of(store), "s")
        assert entry is not None
        assert cache_of(store).size == 0


async def test_a_session_that_changes_while_it_is_read_is_read_anew(path, monkeypatch):
    pause_loads_after_each_row(monkeypatch)
    changes = {
        "append": lambda: store.append(Turn("s", ["new"])),
        "pop": lambda: store.pop("s"),
        "clear": lambda: store.clear("s"),
        "erase": lambda: store.erase(session_id="s"),
    }
    async with SqliteSessionStore(path) as store:
        for name, change in changes.items():
            for stop in range(1, 12):
                for cached in (False, True):
                    await store.erase(session_id="s")
                    for n in range(10):
                        await store.append(Turn("s", [n], turn_id=f"t{n}"))
                    expected = [list(range(10))]

                    cache = SessionCache(2**20)
                    with closing(sqlite3.connect(path)) as connection:
                        if cached:
                            for limit in (1, 3):
                                finish(load_in_steps(connection, cache, limit=limit))
                        steps = load_in_steps(connection, cache)
                        for _ in range(stop):
                            if next(steps, "end") == "end":
                                break
                        else:
                            await change()
                            expected.append(list(await store.load("s")))
                            assert list(finish(steps)) in expected, (name, stop, cached)
                        history = finish(load_in_steps(connection, cache))
                        assert list(history) == expected[-1]
                        assert history.revision == (await store.load("s")).revision


async def test_a_load_before_a_turn_that_comes_meanwhile_begins_anew(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1], turn_id="a"))
        with closing(sqlite3.connect(path)) as connection:
            late = SecondConnection(connection, path)
            history = finish(load_in_steps(late, SessionCache(0), before="c"))
            assert list(history) == [1, 2]


class SecondConnection:
    """A connection to a file to which turns are added after the first statement."""

    def __init__(self, connection, path):
        self.connection, self.path, self.count = connection, path, 0

    def execute(self, *arguments):
        result = self.connection.execute(*arguments)
        self.count += 1
        if self.count == 1:
            with closing(sqlite3.connect(self.path)) as other:
                for first, turn_id in enumerate("bc", 1):
                    other.execute(
                        "INSERT INTO memory_turn SELECT NULL, session, number + 1, ?, created_at,"
                        " ?, 1, NULL, ? FROM memory_turn ORDER BY number DESC LIMIT 1",
                        (turn_id, first, f"[{first + 1}]"),
                    )
                other.execute("UPDATE memory_head SET revision = revision + 2, items = 3")
                other.commit()
        return result


# Stores that share a cache


async def test_stores_on_one_file_share_the_session_cache(path):
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path) as two:
        await one.append(Turn("s", [{"type": "Message"}]))
        for store in (one, two, one):
            await store.load("s")
        assert cache_of(one) is cache_of(two)
        assert count_cached_sessions(one) == 1


async def test_stores_on_one_file_use_the_smallest_limit_of_the_session_cache(path):
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path, hot_bytes=0) as two:
        await one.append(Turn("s", [1]))
        for store in (two, one):
            await store.load("s")
        assert cache_of(one).size == 0


async def test_item_types_that_cannot_be_hashed_are_cached_separately(path):
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


async def test_stores_of_other_item_types_have_cache_entries_of_their_own(path):
    item = MessageItem("1", Role.USER, "Hi", CREATED)
    async with (
        SqliteSessionStore(path, item_type=RunItem) as typed,
        SqliteSessionStore(path) as plain,
    ):
        await typed.append(Turn("s", [item]))
        for _ in range(3):
            assert await typed.load("s") == [item]
            assert type((await plain.load("s"))[0]) is dict


# The size of the cache

SHAPES = {
    "a message": lambda n: user(f"{n} " + "x" * 300),
    "characters of Latin-1": lambda n: user(f"{n} \N{LATIN SMALL LETTER E WITH ACUTE}" * 50),
    "characters of two bytes": lambda n: user(f"{n} \N{SNOWMAN}" * 50),
    "characters of four bytes": lambda n: user(f"{n} \N{PILE OF POO}" * 50),
    "wide keys": lambda n: {f"{n} \N{SNOWMAN} {k}": k for k in range(20)},
    "escapes": lambda n: user(f'{n} "\\\n\x01' * 50),
    "escapes in parts": lambda n: user([{"text": f'{n} "\\\n\x01' * 50}]),
    "little text": lambda n: user(f"{n}"),
    "many fields": lambda n: {f"{n} key {k}": f"{n} value {k}" for k in range(20)},
    "parts": lambda n: {"content": [{"text": f"{n} " + "x" * 300}]},
    "a short list": lambda n: [n % 10],
    "a number": lambda n: n + 2**60,
    "a fraction": lambda n: n + 0.5,
    "nothing": lambda n: {},
    "text": lambda n: f"{n}",
    "a run item": lambda n: MessageItem(f"{n}", Role.USER, "Hi", CREATED),
}
TURN_IDS = {
    "a default id": lambda n: f"{n:032x}",
    "a long id": lambda n: f"{n}" + "i" * 500,
    "a wide id": lambda n: f"{n}" + "\N{SNOWMAN}" * 50,
}


def new_copy(raw):
    """Return bytes that no other code holds, as those that SQLite returns."""
    return bytes(bytearray(raw))


def encode_as_clients_do(value):
    """Read the UTF-8 of every text in *value*, as encoders do; texts keep it."""
    msgspec.json.encode(value)


@pytest.mark.parametrize("at_once", [1, 1000], ids=["a turn each", "one turn"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cached_session_takes_no_more_memory_than_its_size_says(shape, at_once):
    codec = ItemCodec(RunItem) if shape == "a run item" else JSON_CODEC
    encoded = codec.encode(map(SHAPES[shape], range(1000)), "s")
    gc.collect()
    tracemalloc.start()

    try:
        session = CachedSession()
        for start in range(0, 1000, at_once):
            raw = [new_copy(each) for each in encoded[start : start + at_once]]
            kept = to_kept([codec.decode(each) for each in raw], raw)
            session.add(TurnInfo(f"{start:032x}", start, new_time(start)), kept)
        del raw, kept
        encode_as_clients_do(session._items)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken <= session.size
    assert session.size <= 4 * taken  # and the size is no gross exaggeration


def new_time(n):
    return datetime.fromtimestamp(n, UTC)


@pytest.mark.parametrize("metadata", [None, {"a": "b"}, {"long": "m" * 500}, {"\N{SNOWMAN}": "x"}])
@pytest.mark.parametrize("turn_id", TURN_IDS)
def test_turn_ids_and_metadata_count(turn_id, metadata):
    encoded = metadata and msgspec.json.encode(metadata)
    tracemalloc.start()

    try:
        session = CachedSession()
        for n in range(1000):
            own = decode_metadata(encoded and new_copy(encoded))
            session.add(TurnInfo(TURN_IDS[turn_id](n), n, new_time(n), own), [None])
            encode_as_clients_do([session.turns[-1].turn_id, dict(own)])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken <= session.size <= 4 * taken


async def test_metadata_that_was_read_from_the_file_keeps_its_size(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1], metadata={"\N{SNOWMAN}": "x" * 100}))
    async with SqliteSessionStore(path) as store:
        for _ in range(3):
            history = await store.load("s")
            assert history.turns[0].metadata == {"\N{SNOWMAN}": "x" * 100}
        session = take_from_cache(cache_of(store), "s").session
        assert session.size == measured(session)
        assert cache_of(store).size == 0


@on_one_runtime
async def test_the_size_does_not_grow_with_loads_by_other_objects_of_the_same_id(path):
    hot_bytes = 10_000
    async with SqliteSessionStore(path, hot_bytes=hot_bytes) as store:
        name = "\N{SNOWMAN} session "
        for n in range(500):
            await store.append(Turn(name + str(1), [n], turn_id=f"{n}"))
            await store.load(name + str(1))
        assert take_from_cache(cache_of(store), name + str(1)) is not None
        assert cache_of(store).size == 0


def measured(session):
    """Return the size of a session that has the same turns and items."""
    fresh = CachedSession()
    ends = [turn.position for turn in session.turns[1:]] + [session.end]
    start = session.offset
    for turn, end in zip(session.turns, ends, strict=False):
        fresh.add(turn, session._items[start - session.offset : end - session.offset])
        start = end
    return fresh.size


@pytest.mark.parametrize("seed", range(20))
def test_the_size_of_a_session_is_that_of_what_it_keeps_after_every_change(seed):
    rnd = random.Random(seed)
    session, model = CachedSession(), []  # model: the kept turns, as (id, items)
    offset = 0

    def some_items(n):
        return [rnd.choice([n, {"a": f"\N{SNOWMAN}{n}"}, [n], {}]) for _ in range(rnd.randrange(4))]

    def kept(items):
        return to_kept(json.loads(json.dumps(items)), JSON_CODEC.encode(items, "s"))

    for step in range(200):
        match rnd.randrange(5):
            case 0 | 1:
                items = some_items(step)
                session.add(TurnInfo(f"t{step}", session.end, CREATED), kept(items))
                model.append((f"t{step}", items))
            case 2 if any(items for _, items in model):
                popped, changed = session.pop(JSON_CODEC)
                index = max(n for n, (_, items) in enumerate(model) if items)
                assert popped == model[index][1].pop()
                assert [turn.turn_id for turn in changed] == [each for each, _ in model[index:]]
                first_gone = index if not model[index][1] else index + 1
                del model[first_gone:]
            case 3:
                session.drop_oldest(rnd.randrange(1500, 6000))
                dropped = len(model) - len(session.turns)
                offset += sum(len(items) for _, items in model[:dropped])
                del model[:dropped]
            case 4 if model:
                index = rnd.randrange(len(model))
                session.remove_turns(index)
                del model[index:]

        encode_as_clients_do([session._items, [turn.turn_id for turn in session.turns]])
        assert session.size == measured(session)
        assert session.offset == offset
        assert [turn.turn_id for turn in session.turns] == [each for each, _ in model]
        everything = [item for _, items in model for item in items]
        assert list(finish(session.read(offset, session.end, JSON_CODEC)).copies()) == everything
        assert session.end == offset + len(everything)


def test_older_turns_are_added_as_far_as_they_fit_and_empty_ones_always():
    session = CachedSession(offset=6)
    older = [("e", []), ("d", ["d" * 1000, [1]]), ("c", []), ("b", ["b" * 1000]), ("a", ["a"])]
    infos = {"e": 6, "d": 4, "c": 4, "b": 3, "a": 2}
    turns = [
        (TurnInfo(name, infos[name], CREATED), to_kept(items, JSON_CODEC.encode(items, "s")))
        for name, items in older
    ]
    finish(session.add_older(turns, 1500 + 1600))
    assert [turn.turn_id for turn in session.turns] == ["c", "d", "e"]
    assert (session.offset, session.end) == (4, 6)
    assert list(finish(session.read(4, 6, JSON_CODEC)).copies()) == ["d" * 1000, [1]]
    assert session.size == measured(session)

    finish(session.add_older(turns[3:], 10_000))
    assert [turn.turn_id for turn in session.turns] == ["a", "b", "c", "d", "e"]
    assert session.size == measured(session)


@pytest.mark.parametrize(("count", "pauses"), [(0, 0), (1, 0), (250, 0), (251, 1), (501, 2)])
def test_a_cached_session_is_read_with_a_pause_only_between_two_parts(count, pauses):
    session = CachedSession()
    session.add(TurnInfo("a", 0, CREATED), [b"[]"] * count)
    assert len(list(session.read(0, count, JSON_CODEC))) == pauses


def test_many_older_turns_are_added_with_pauses_and_only_at_the_end():
    session = CachedSession(offset=1001)
    turns = [(TurnInfo(f"{n}", n, CREATED), [n]) for n in range(1000, -1, -1)]
    pauses = 0
    for _ in session.add_older(turns, 10_000_000):
        pauses += 1
        assert (session.turns, session.size) == ([], CachedSession().size)
    assert pauses == 4
    assert [turn.position for turn in session.turns] == list(range(1001))
    assert session.size == measured(session)


def test_a_session_that_is_cut_keeps_the_empty_turns_after_the_last_removed_item():
    session = CachedSession()
    for name, position, items in [("a", 0, ["a" * 1000]), ("b", 1, []), ("c", 1, ["c"])]:
        session.add(TurnInfo(name, position, CREATED), items)
    session.drop_oldest(session.size - 1)
    assert [turn.turn_id for turn in session.turns] == ["b", "c"]
    assert session.offset == 1
    session.drop_oldest(0)
    assert [turn.turn_id for turn in session.turns] == []
    assert (session.offset, session.end) == (2, 2)
    assert session.size == measured(session)


def test_empty_turns_after_an_item_are_removed_only_with_the_next_item():
    session = CachedSession()
    for name, position, items in [("a", 0, ["a" * 1000]), ("b", 1, []), ("c", 1, ["c"])]:
        session.add(TurnInfo(name, position, CREATED), items)
    without_a = CachedSession()
    without_a.add(TurnInfo("b", 1, CREATED), [])
    without_a.add(TurnInfo("c", 1, CREATED), ["c"])
    session.drop_oldest(without_a.size - 1)
    assert session.turns == []
    assert (session.offset, session.end) == (2, 2)


def test_a_session_of_more_than_its_share_is_cut_even_if_it_fits():
    cache = SessionCache(20_000)
    put_in_cache(cache, "a", entry_of_size(2000))
    large = entry_of_size(1600)
    for n in range(13):
        large.session.add(TurnInfo(f"{n}", n, CREATED), ["x" * 1000])
    assert 15_000 < large.session.size < 20_000
    put_in_cache(cache, "b", large)
    assert take_from_cache(cache, "a") is not None
    assert take_from_cache(cache, "b").session.size <= cache.max_session_bytes


@on_one_runtime
@pytest.mark.parametrize("loads", [1, 2, 3])
@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.long)])
async def test_many_short_sessions_take_no_more_memory_than_the_limit(path, loads, count):
    hot_bytes = count * 400  # of all sessions only some fit

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


async def test_turns_that_are_written_and_never_loaded_take_no_more_than_the_limit(path):
    async with SqliteSessionStore(path, hot_bytes=50_000) as store:
        for n in range(200):
            await store.append(Turn(f"session {n}", ["x" * 1000]))
            await store.append(Turn("one", ["x" * 1000]))
            assert cache_of(store).size <= 50_000
        assert count_cached_sessions(store) > 5


def test_the_least_recently_used_session_is_evicted_first():
    cache = SessionCache(2000)
    put_in_cache(cache, "a", entry_of_size(600))
    put_in_cache(cache, "b", entry_of_size(600))
    put_in_cache(cache, "a", take_from_cache(cache, "a"))
    put_in_cache(cache, "c", entry_of_size(1000))
    assert cache.size == 1600
    assert [take_from_cache(cache, each) is None for each in "abc"] == [False, True, False]
    assert cache.size == 0


def test_a_commit_makes_its_session_the_most_recently_used():
    cache = SessionCache(4000)
    for session_id in "ab":
        put_in_cache(cache, session_id, entry_of_size(1700))
    cache.add(JSON_CODEC.key, commit_for_cache("a", before=(1, 1), after=(2, 2), items=["x"]))
    put_in_cache(cache, "c", entry_of_size(1700))
    assert take_from_cache(cache, "a").version == (2, 2)
    assert take_from_cache(cache, "b") is None


@pytest.mark.parametrize("before", [None, (7, 1), (1, 7)], ids=["none", "revision", "time"])
def test_a_commit_after_another_version_drops_the_session(before):
    cache = SessionCache(4000)
    put_in_cache(cache, "a", entry_of_size(1700))
    cache.add(JSON_CODEC.key, commit_for_cache("a", before=before, after=(8, 8), items=["x"]))
    assert take_from_cache(cache, "a") is None
    assert cache.size == 0


def test_a_commit_to_a_session_that_is_not_cached_is_left_to_the_next_load():
    cache = SessionCache(4000)
    cache.add(JSON_CODEC.key, commit_for_cache("a", before=(1, 1), after=(2, 2), items=["x"]))
    assert take_from_cache(cache, "a") is None
    cache.add(JSON_CODEC.key, commit_for_cache("a", before=None, after=(2, 2), items=["x"]))
    assert take_from_cache(cache, "a").session.end == 1


def test_a_session_whose_id_alone_is_larger_than_the_cache_is_not_cached():
    cache = SessionCache(3000)
    put_in_cache(cache, "a", entry_of_size(600))
    put_in_cache(cache, "b" * 3000, entry_of_size(600))
    assert cache.size == 600
    assert take_from_cache(cache, "a") is not None


@pytest.mark.parametrize(("hot_bytes", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_an_invalid_size_of_the_session_cache_is_refused(hot_bytes, error):
    with pytest.raises(error, match="hot_bytes must be"):
        SqliteSessionStore("a.db", hot_bytes=hot_bytes)


async def test_two_histories_of_one_load_have_copies_of_their_own(path):
    """The copies that are made during a load belong to the first reader."""
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [user("Hi")]))
    async with SqliteSessionStore(path) as store:
        await store.load("s")
        one = await store.load("s")
        two = one.with_links(ChatCompletions().links)
        one[0]["content"] = "changed"
        assert list(two) == [user("Hi")] == list(await store.load("s"))
