"""Make the files of schema 1 in this folder, and the JSON of the content that they must keep.

It needs the last tower-memory that writes schema 1 (commit d2b81fa), and Python 3.11 or later:

    python make_files.py

The files were made once. They change with each run, because default turn ids are random, so make
them again only together with their JSON. The JSON has the sessions by id; of each turn its items,
its id (None for items that tower-llm wrote) and the position of its first item; and the ids of the
sessions from the longest inactive to the last active one.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from itertools import chain
from pathlib import Path

from tower_memory import SqliteSessionStore, Turn

HERE = Path(__file__).parent
EMPTY = "emptied"


def nested(depth):
    item = "core"
    for level in range(depth):
        item = [item] if level % 2 else {"in": item}
    return item


def said(role, text):
    return {"role": role, "content": text}


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "2"}

CONVERSATIONS = [
    Turn("ada", [said("user", "Hello"), said("assistant", "Hi")], turn_id="request-1"),
    Turn("bo", [said("user", "Sum?"), CALL, RESULT, said("assistant", "2")]),
    Turn("ada", [said("user", "And now?")]),
    Turn("gr\u00fc\u00df\0e \U0001f680", [said("user", "a\0b \u00e9\u4e2d\U0001f680"), "text", 7]),
    Turn("cleared", [said("user", "Forget me")]),
    Turn(EMPTY, [said("user", "one"), said("assistant", "two")]),
    Turn("bo", [{"n": 2**64 - 1, "m": -(2**63), "f": 0.1, "none": None}], turn_id="\u00fc\0\u4e2d"),
    Turn("deep", [nested(850), {"a": [{"b": [{"c": []}]}]}], turn_id="a" * 31 + "F"),
    Turn("ada", [said("user", "x"), said("assistant", "popped"), said("assistant", "popped")]),
    Turn("cleared", [said("user", "Forget me, too")]),
    Turn("last", [said("user", "popped turn")]),
    Turn("last", [True, None, "", []], turn_id="0123456789abcdef0123456789abcdef"),
    Turn("deep", [said("user", "last")]),
]

TOWER_LLM = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    item_type TEXT NOT NULL,
    item_data TEXT NOT NULL,
    created_at TEXT NOT NULL,
    sequence_num INTEGER NOT NULL,
    UNIQUE(session_id, sequence_num)
)
"""


def run_message(number, role, text):
    time = f"2025-08-11T12:00:{number:02}Z"
    fields = {"id": f"m{number}", "role": role, "content": text, "created_at": time}
    return {"type": "Message", **fields}


def run_call(number):
    time = f"2025-08-11T12:00:{number:02}Z"
    fields = {"id": "c1", "tool_name": "add", "arguments": {"a": 1}, "created_at": time}
    return {"type": "ToolCall", **fields}


def run_output(number):
    time = f"2025-08-11T12:00:{number:02}Z"
    fields = {"tool_call_id": "c1", "output": 2, "error": None, "created_at": time}
    return {"type": "ToolOutput", "id": "o1", **fields}


RUNS = {
    "user_123": [
        [
            run_message(1, "user", "Sum?"),
            run_message(2, "assistant", ""),
            run_call(3),
            run_output(4),
            run_message(5, "assistant", "2"),
        ],
        [run_message(6, "user", "Thanks"), run_message(7, "assistant", "Welcome")],
    ],
    "\u00fcser": [[run_message(8, "assistant", "I begin")], [run_message(9, "user", "Well")]],
}


def new_file(name):
    path = HERE / name
    path.unlink(missing_ok=True)
    return path


def write_json(path, sessions, order):
    text = json.dumps({"sessions": sessions, "order": order})
    path.with_suffix(".json").write_text(f"{text}\n")


def expected(turns):
    """Return turns, each a pair of an id and its items, with the positions of their first items."""
    first, found = 0, []
    for turn_id, items in turns:
        found.append({"turn_id": turn_id, "first": first, "items": list(items)})
        first += len(items)
    return found


async def make_conversations():
    path = new_file("conversations.sqlite")
    async with SqliteSessionStore(path) as store:
        for turn in CONVERSATIONS:
            await store.append(turn)
            if turn.items[0] == said("user", "popped turn"):
                await store.pop("last")
        for _ in range(2):
            await store.pop("ada")
            await store.pop(EMPTY)
        await store.clear("cleared")

    sessions = {EMPTY: []}
    for turn in CONVERSATIONS:
        items = [item for item in turn.items if "popped" not in str(item)]
        if turn.session_id not in (EMPTY, "cleared") and items:
            sessions.setdefault(turn.session_id, []).append((turn.turn_id, items))
    sessions = {session: expected(turns) for session, turns in sessions.items()}
    order = [EMPTY, "gr\u00fc\u00df\0e \U0001f680", "bo", "ada", "last", "deep"]
    write_json(path, sessions, order)


async def make_taken_over():
    path = new_file("taken_over.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(TOWER_LLM)
        connection.executemany(
            "INSERT INTO sessions (session_id, item_type, item_data, created_at, sequence_num)"
            " VALUES (?, ?, ?, ?, ?)",
            [
                (session, item["type"], json.dumps(item), item["created_at"], number)
                for session, exchanges in RUNS.items()
                for number, item in enumerate(chain(*exchanges), 1)
            ],
        )
        connection.commit()

    turn = Turn("user_123", [run_message(10, "user", "More"), run_message(11, "assistant", "OK")])
    async with SqliteSessionStore(path) as store:
        await store.append(turn)

    sessions = {
        session: [(None, items) for items in exchanges] for session, exchanges in RUNS.items()
    }
    sessions["user_123"].append((turn.turn_id, turn.items))
    sessions = {session: expected(turns) for session, turns in sessions.items()}
    write_json(path, sessions, ["\u00fcser", "user_123"])


async def make_empty():
    path = new_file("empty.sqlite")
    async with SqliteSessionStore(path):
        pass
    write_json(path, {}, [])


if __name__ == "__main__":
    for make in (make_conversations, make_taken_over, make_empty):
        asyncio.run(make())
