"""Imports of files of openai-agents and of LangChain."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import anyio
import pytest
from agents import SQLiteSession

from helpers.commands import failed

LANGCHAIN = "CREATE TABLE message_store (id INTEGER PRIMARY KEY, session_id TEXT, message TEXT)"

ITEMS = [
    {"role": "user", "content": "Weather in 東京?"},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    {"role": "assistant", "content": "Sunny."},
]


def add_items(path, session_id, items):
    """Let openai-agents add *items* to a session."""
    session = SQLiteSession(session_id, path)
    anyio.run(session.add_items, items)
    session.close()


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement, *values in statements:
            connection.execute(statement, values)
        connection.commit()


def add_messages(path, session_id, *messages):
    """Add messages to the table of LangChain, as its SQLChatMessageHistory stores them."""
    insert = "INSERT INTO message_store (session_id, message) VALUES (?, ?)"
    execute(path, *((insert, session_id, json.dumps(message)) for message in messages))


def message(kind, content, **fields):
    data = {"content": content, "additional_kwargs": {}, "response_metadata": {}, "name": None}
    return {"type": kind, "data": {**data, "type": kind, "id": None, **fields}}


def items_of(run, session_id):
    """Return the items of a session of the default file."""
    turns = run("show", session_id, "--json").objects()
    return [item for turn in turns for item in turn["items"]]


def test_sessions_of_openai_agents_are_imported_with_their_items_and_times(run, tmp_path):
    add_items(tmp_path / "agents.db", "s", ITEMS)
    add_items(tmp_path / "agents.db", "z", ITEMS[:1])
    add_items(tmp_path / "agents.db", "s", ITEMS[:1])
    past = "UPDATE agent_messages SET created_at = '2024-05-06 07:08:09'"
    execute(
        tmp_path / "agents.db",
        (past,),
        ("UPDATE agent_sessions SET created_at = '2024-01-01 00:00:00'",),
    )
    (line,) = run("import", "agents.db").lines()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["agents.db", "sessions.db"]
    assert line == "imported 6 turns with 6 items into sessions.db, 2 new sessions"

    first, second = run("sessions", "--json").objects()
    assert (first["session_id"], second["session_id"]) == ("s", "z")  # the last active first
    assert first["created_at"] == "2024-01-01T00:00:00.000000Z"
    assert items_of(run, "s") == [*ITEMS, ITEMS[0]]
    turn, *_ = run("show", "s", "--json").objects()
    assert turn["created_at"] == "2024-05-06T07:08:09.000000Z"


def test_a_file_that_is_imported_again_adds_only_its_new_rows(run, tmp_path):
    add_items(tmp_path / "agents.db", "s", ITEMS[:3])
    run("import", "agents.db").lines()
    add_items(tmp_path / "agents.db", "s", ITEMS[3:])
    counts = [run("import", "--json", "agents.db").objects()[0]["turns"] for _ in range(2)]
    assert counts == [1, 0]
    assert items_of(run, "s") == ITEMS


def test_messages_of_a_session_without_a_row_are_imported(run, tmp_path):
    add_items(tmp_path / "agents.db", "s", ITEMS)
    execute(tmp_path / "agents.db", ("DELETE FROM agent_sessions",))
    run("import", "agents.db").lines()
    assert items_of(run, "s") == ITEMS


def test_a_conversation_of_openai_agents_goes_on_after_its_import(run, tmp_path):
    add_items(tmp_path / "agents.db", "s", [ITEMS[0], ITEMS[3]])
    run("import", "agents.db").lines()
    assert "2 earlier messages" in run("--session", "s", said="Hi").stdout


def test_messages_of_langchain_become_chat_messages(run, tmp_path):
    path = tmp_path / "langchain.db"
    execute(path, (LANGCHAIN,))
    call = {"name": "f", "args": {"n": 1.0}, "id": "c1", "type": "tool_call"}
    bad = {"name": "g", "args": "{bad", "id": "c2", "error": "e", "type": "invalid_tool_call"}
    old = {"id": "c3", "type": "function", "function": {"name": "h", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    text = {"type": "text", "text": "Hi"}
    add_messages(
        path,
        "s",
        message("system", "Be kind."),
        message("system", "Dev", additional_kwargs={"__openai_role__": "developer"}),
        message("human", ["Hi", {**text, "id": 1}, image], name="bob"),
        message("ai", "", tool_calls=[call], invalid_tool_calls=[bad]),
        message("tool", "42", tool_call_id="c1", name="f"),
        message("ai", [{"type": "thinking", "thinking": "..."}, text]),
        message("ai", "", tool_calls=[], additional_kwargs={"tool_calls": [old]}),
        message("ai", "", additional_kwargs={"function_call": {"name": "h", "arguments": ""}}),
        message("function", "r", name="h"),
        message("chat", "x", role="critic"),
        message("AIMessageChunk", "part"),
        message("human", [{"type": "image", "base64": "QQ==", "mime_type": "image/png"}]),
        message("human", [{"type": "image", "source": {"type": "url", "url": "https://e.org"}}]),
        message("human", [{"type": "image", "file_id": "f"}]),
        {"type": "human", "data": {"content": "old", "additional_kwargs": None}},
    )
    run("import", "langchain.db").lines()

    assert items_of(run, "s") == [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Dev"},
        {"role": "user", "content": [text, text, image], "name": "bob"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"n":1.0}'},
                },
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{bad"}},
            ],
        },
        {"role": "tool", "content": "42", "name": "f", "tool_call_id": "c1"},
        {"role": "assistant", "content": [text]},
        {"role": "assistant", "content": "", "tool_calls": [old]},
        {"role": "assistant", "content": "", "function_call": {"name": "h", "arguments": ""}},
        {"role": "function", "content": "r", "name": "h"},
        {"role": "critic", "content": "x"},
        {"role": "assistant", "content": "part"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}],
        },
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.org"}}]},
        {"role": "user", "content": [{"type": "image", "file_id": "f"}]},
        {"role": "user", "content": "old"},
    ]


def test_a_row_of_langchain_that_gets_the_id_of_a_deleted_row_is_new(run, tmp_path):
    path = tmp_path / "langchain.db"
    execute(path, (LANGCHAIN,))
    add_messages(path, "s", message("human", "old"))
    run("import", "langchain.db").lines()
    execute(path, ("DELETE FROM message_store",))
    add_messages(path, "s", message("human", "new"))
    run("import", "langchain.db").lines()
    assert [item["content"] for item in items_of(run, "s")] == ["old", "new"]


@pytest.mark.parametrize(
    "stored",
    [
        7,
        {"type": "human"},
        message("remove", ""),
        message("chat", "no role"),
        message("human", [7]),
        message("ai", "", tool_calls=7),
        message("ai", "", tool_calls=[7]),
    ],
)
def test_a_row_that_is_no_message_is_one_line_and_nothing_is_imported(run, tmp_path, stored):
    execute(tmp_path / "langchain.db", (LANGCHAIN,))
    add_messages(tmp_path / "langchain.db", "s", message("human", "Hi"), stored)
    failed(run("import", "langchain.db"), "langchain.db: table message_store, row 2", "nothing")
    assert not (tmp_path / "sessions.db").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("message_data", "{"),
        ("message_data", b"\xff"),
        ("message_data", ""),
        ("message_data", "[" * 600 + "]" * 600),
        ("created_at", "yesterday"),
        ("created_at", 7),
        ("created_at", "0001-01-01 00:00:00"),
        ("session_id", ""),
    ],
)
def test_a_damaged_row_of_openai_agents_is_one_line(run, tmp_path, column, value):
    add_items(tmp_path / "agents.db", "s", ITEMS)
    update = f"UPDATE agent_messages SET {column} = ? WHERE id = 3"
    execute(tmp_path / "agents.db", (update, value))
    failed(run("import", "agents.db"), "agents.db: table agent_messages, row 3", "nothing")


def test_a_database_of_another_kind_is_one_line_that_names_its_tables(run, tmp_path):
    execute(tmp_path / "x.db", ("CREATE TABLE notes (text)",))
    failed(run("import", "x.db"), "neither the tables of openai-agents", "but notes", "nothing")
    execute(tmp_path / "empty.db", ("CREATE TABLE t (x)",), ("DROP TABLE t",))
    failed(run("import", "empty.db"), "but no tables")
    run("--db", "own.db", said="Hi")
    failed(run("import", "own.db"), "a file of tower-memory itself", "--db", "export")


def test_a_damaged_database_is_one_line(run, tmp_path):
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    failed(run("import", "x.db"), "x.db: it cannot be read: file is not a database")


def test_a_file_without_rows_imports_nothing(run, tmp_path):
    execute(tmp_path / "langchain.db", (LANGCHAIN,))
    (line,) = run("import", "langchain.db").lines()
    assert line == "imported 0 turns with 0 items into sessions.db, 0 new sessions"
