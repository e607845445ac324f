"""The table of the Rust crate tower-llm."""

from __future__ import annotations

from helpers.sqlite import query

_TABLE = """
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


def add_tower_llm_table(path, *rows):
    """Add tower-llm's table to the file at *path*.

    Each of *rows* is a session id, an item as JSON, a time and the item's number.
    """
    query(path, _TABLE)
    query(path, "CREATE INDEX idx_session_id ON sessions(session_id, sequence_num)")
    for row in rows:
        query(
            path,
            "INSERT INTO sessions (session_id, item_type, item_data, created_at, sequence_num)"
            " VALUES (?, 'message', ?, ?, ?)",
            *row,
        )
