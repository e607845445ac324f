"""The tables of openai-agents' ``SQLiteSession``."""

from __future__ import annotations

from helpers.sqlite import query

_STATEMENTS = (
    """
    CREATE TABLE agent_sessions (
        session_id TEXT PRIMARY KEY,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
    )
    """,
    """
    CREATE TABLE agent_messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id TEXT NOT NULL,
        message_data TEXT NOT NULL,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        FOREIGN KEY (session_id) REFERENCES agent_sessions (session_id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX idx_agent_messages_session_id ON agent_messages (session_id, id)",
)


def add_agents_tables(path, *rows):
    """Add openai-agents' tables to the file at *path*, with *rows*.

    A row is a session id, an item as JSON, and a time.
    """
    for statement in _STATEMENTS:
        query(path, statement)
    for session_id, item, created_at in rows:
        query(path, "INSERT OR IGNORE INTO agent_sessions (session_id) VALUES (?)", session_id)
        query(
            path,
            "INSERT INTO agent_messages (session_id, message_data, created_at) VALUES (?, ?, ?)",
            *(session_id, item, created_at),
        )
