"""Take-over of files that tower-llm and openai-agents wrote."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import pytest

from helpers.agents_file import add_agents_tables
from helpers.messages import assistant, user
from helpers.schema1 import copy_file
from helpers.sqlite import check_schema_2, query, read_bytes, read_order, read_turns
from helpers.sqlite_internals import open_prepared, take_over
from helpers.tower_llm import add_tower_llm_table
from tower_memory import (
    CorruptSessionError,
    MessageItem,
    Role,
    RunItem,
    SessionError,
    SqliteSessionStore,
    Turn,
)

HELLO = (
    '{"type":"Message","id":"m1","role":"user","content":"Hello","mood":{"n":12345678901234567890},'
    '"created_at":"2025-08-11T12:34:56.123456789Z"}'
)
REPLY = (
    '{"type":"Message","id":"m2","role":"assistant","content":"Hi","created_at":'
    '"2025-08-11T12:34:57Z"}'
)


async def test_a_file_of_tower_llm_is_taken_over_and_its_table_stays_unchanged(path):
    add_tower_llm_table(
        path,
        # Items are ordered by number, not by row.
        (
            "user_123",
            REPLY,
            "2025-08-11T14:34:57+02:00",
            2,
        ),
        ("user_123", HELLO, "2025-08-11T12:34:56.123456789+00:00", 1),
        ("other", HELLO, "1969-12-31T23:59:59.5Z", 1),
    )
    before = query(path, "SELECT * FROM sessions")

    for _ in range(2):  # the second time, the file is ours
        async with SqliteSessionStore(path) as store:
            first, second = await store.load("user_123")
            assert (first["mood"], first["id"]) == ({"n": 12345678901234567890}, "m1")
            assert (second["content"], next(iter(second))) == ("Hi", "type")
            assert len(await store.load("other")) == 1

    assert query(path, "SELECT * FROM sessions") == before


def test_each_exchange_becomes_a_turn_with_the_json_and_the_time_of_its_rows(path):
    add_tower_llm_table(
        path,
        ("user_123", REPLY, "2025-08-11T14:34:57+02:00", 2),
        ("user_123", HELLO, "2025-08-11T12:34:56.123456789+00:00", 1),
        ("user_123", HELLO, "2025-08-11T12:34:58Z", 3),
        ("user_123", REPLY, "2025-08-11T12:34:59Z", 4),
        ("other", HELLO, "1969-12-31T23:59:59.5Z", 1),
    )
    before = query(path, "SELECT * FROM sessions")
    open_prepared(path).close()
    check_schema_2(path)

    found = {
        session_id: [(first, items.decode()) for _, first, items in turns]
        for session_id, turns in read_turns(path).items()
    }
    assert found == {
        "other": [(0, f"[{HELLO}]")],
        "user_123": [(0, f"[{HELLO},{REPLY}]"), (2, f"[{HELLO},{REPLY}]")],
    }
    assert read_order(path) == ["user_123", "other"]
    assert query(path, "SELECT created_at, updated_at FROM memory_head ORDER BY session_id") == [
        (-500_000_000, -500_000_000),
        (1754915696_123456789, 1754915699_000000000),
    ]
    assert query(path, "SELECT created_at FROM memory_turn ORDER BY first, session") == [
        (-500_000_000,),
        (1754915696_123456789,),
        (1754915698_000000000,),
    ]
    assert query(path, "SELECT * FROM sessions") == before


def test_the_ids_are_those_of_a_file_that_schema_1_took_over(path, tmp_path):
    migrated = tmp_path / "migrated.db"
    copy_file("taken_over", migrated)
    rows = query(
        migrated, "SELECT session_id, item_data, created_at, sequence_num FROM sessions ORDER BY id"
    )
    add_tower_llm_table(path, *rows)
    open_prepared(path).close()
    open_prepared(migrated).close()

    taken_over, migrated = read_turns(path), read_turns(migrated)
    migrated["user_123"].pop()  # this turn was added later
    assert taken_over == migrated
    assert [len(turns) for turns in taken_over.values()] == [2, 2]


async def test_a_conversation_of_tower_llm_can_be_continued_and_typed(path):
    add_tower_llm_table(path, ("user_123", REPLY, "2025-08-11T12:34:57Z", 1))
    async with SqliteSessionStore(path, item_type=RunItem) as store:
        time = datetime(2026, 1, 1, tzinfo=UTC)
        await store.append(Turn("user_123", [MessageItem("m3", Role.USER, "Still there?", time)]))
        assert [item.content for item in await store.load("user_123")] == ["Hi", "Still there?"]


@pytest.mark.parametrize(
    "bad",
    [
        ("user_123", '{"torn":', "2025-08-11T12:34:57Z", 2),
        ("user_123", HELLO, "yesterday", 2),
        ("", HELLO, "2025-08-11T12:34:57Z", 2),
        ("user_123", "[" * 100_000, "2025-08-11T12:34:57Z", 2),
        ("user_123", HELLO, "2300-01-01T00:00:00Z", 2),
        ("user_123", HELLO, "0001-01-01T00:00:00+01:00", 2),
    ],
    ids=["torn", "time", "id", "deep", "far", "farther"],
)
async def test_an_unreadable_row_of_tower_llm_is_named_and_nothing_is_taken_over(path, bad):
    add_tower_llm_table(path, ("user_123", HELLO, "2025-08-11T12:34:57Z", 1), bad)
    before = read_bytes(path)
    with pytest.raises(CorruptSessionError) as caught:
        await SqliteSessionStore(path).load("user_123")
    assert (caught.value.session_id, caught.value.row) == (bad[0], 2)
    assert read_bytes(path) == before


# openai-agents


async def test_a_store_refuses_a_file_that_openai_agents_may_still_use(path):
    add_agents_tables(path, ("s", "{}", "2025-08-11 12:34:57"))
    before = read_bytes(path)
    with pytest.raises(
        SessionError, match=r"SQLiteSession of tower_memory\.integrations\.openai_ag"
    ):
        await SqliteSessionStore(path).load("s")
    assert read_bytes(path) == before


async def test_other_files_are_not_taken_over(path):
    """A new file stays empty, and a file of ours stays ours."""
    path.touch()
    take_over(str(path))
    assert not path.read_bytes()

    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [user("Hi")]))
    take_over(str(path))
    async with SqliteSessionStore(path) as store:
        assert await store.load("s") == [user("Hi")]


async def test_a_file_of_openai_agents_is_taken_over_and_its_tables_keep_their_rows(path):
    """Each exchange becomes a turn with the time of its first row, which is UTC."""
    add_agents_tables(
        path,
        ("one", '{"role": "user", "content": "Hi"}', "2025-08-11 12:34:56"),
        ("two", '{"content": "caf\\u00e9", "role": "user"}', "2025-08-11 12:34:57"),
        ("one", '{"role": "assistant", "content": "Hello"}', "2025-08-11 12:34:58"),
        ("one", '{"role": "user", "content": "And?"}', "2025-08-11 12:34:59"),
    )
    tables = ("agent_messages", "agent_sessions")
    before = [query(path, f"SELECT * FROM {table}") for table in tables]

    for _ in range(2):  # the second time, the file is ours
        take_over(str(path))
        async with SqliteSessionStore(path) as store:
            history = await store.load("one")
            assert history == [user("Hi"), assistant("Hello"), user("And?")]
            assert [(turn.position, turn.created_at.second) for turn in history.turns] == [
                (0, 56),
                (2, 59),
            ]
            assert history.turns[0].created_at == datetime(2025, 8, 11, 12, 34, 56, tzinfo=UTC)
            assert await store.load("two") == [user("café")]
            assert [info.session_id for info in await store.sessions()] == ["one", "two"]

    assert [query(path, f"SELECT * FROM {table}") for table in tables] == before
    check_schema_2(path)


async def test_openai_agents_own_class_cannot_add_items_to_a_file_that_was_taken_over(path):
    add_agents_tables(path)
    take_over(str(path))
    with pytest.raises(sqlite3.IntegrityError, match=r"tower_memory\.integrations\.openai_agents"):
        query(path, "INSERT INTO agent_messages (session_id, message_data) VALUES ('s', '{}')")
    assert query(path, "SELECT * FROM agent_messages") == []


@pytest.mark.parametrize(
    "bad",
    [
        ("s", '{"torn":', "2025-08-11 12:34:57"),
        ("s", '{"n": NaN}', "2025-08-11 12:34:57"),
        ("s", "{}", "yesterday"),
        ("s", "{}", None),
        ("", "{}", "2025-08-11 12:34:57"),
    ],
    ids=["torn", "not a number", "time", "no time", "id"],
)
async def test_an_unreadable_row_of_openai_agents_is_named_and_nothing_is_taken_over(path, bad):
    add_agents_tables(path, ("s", "{}", "2025-08-11 12:34:57"), bad)
    before = read_bytes(path)
    with pytest.raises(CorruptSessionError) as caught:
        take_over(str(path))
    assert (caught.value.session_id, caught.value.row) == (bad[0], 2)
    assert read_bytes(path) == before


async def test_a_file_with_more_tables_of_openai_agents_is_refused(path):
    """`AdvancedSQLiteSession` keeps branches and usage in tables of its own."""
    add_agents_tables(path, ("s", "{}", "2025-08-11 12:34:57"))
    query(path, "CREATE TABLE turn_usage (id INTEGER PRIMARY KEY)")
    before = read_bytes(path)
    with pytest.raises(SessionError, match="another program's database .*turn_usage"):
        take_over(str(path))
    assert read_bytes(path) == before


async def test_an_erased_session_leaves_the_tables_of_openai_agents(path):
    rows = [(name, f'"<<{name}>>"', "2025-08-11 12:34:56") for name in ("erased", "kept")]
    add_agents_tables(path, *rows)
    take_over(str(path))
    async with SqliteSessionStore(path) as store:
        await store.erase(session_id="erased")
        await store.scrub()
    assert query(path, "SELECT session_id FROM agent_messages") == [("kept",)]
    assert query(path, "SELECT session_id FROM agent_sessions") == [("kept",)]
    assert b"<<erased>>" not in read_bytes(path)
