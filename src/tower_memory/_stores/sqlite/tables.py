"""The tables of schema 2.

1. A session has one head row, and one row per turn. So one row is a whole turn, and one head tells
   the state of its session.
2. Each change of a session gets the next number of the session (``high``), which starts at
   ``id << 32``. Because ids of heads are never reused (AUTOINCREMENT), a number stands for one
   content of one session, even if the session is erased and written again.
3. Rows of a session are only added or removed at its end. A turn that changes gets a new number.
   Therefore, while a row is there, all rows before it are as they were.
4. ``first`` never falls from a turn to the next one, so ``(first, number)`` orders the turns of a
   session. The index on them finds the turn of any position.
"""

from __future__ import annotations

from typing import Final

FIRST_NUMBER_SHIFT: Final = 32
"""The numbers of a session start at its head's id shifted by this many bits (rule 2)."""

TABLES: Final = (
    # session_id: any text. high: the largest number given so far. revision: the number of the last
    # change. cleared, replaced: the number of the last clear, and of the last turn that replaced
    # others; 0 for none. active: the order of the last activity of all sessions. created_at,
    # updated_at: nanoseconds since 1970, UTC. turns, items: counts. origin: the id of the head of
    # which the session is a fork, or NULL. metadata: a JSON object, or NULL for an empty one.
    """
    CREATE TABLE memory_head (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        session_id TEXT NOT NULL UNIQUE,
        high INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        cleared INTEGER NOT NULL,
        replaced INTEGER NOT NULL,
        active INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        turns INTEGER NOT NULL,
        items INTEGER NOT NULL,
        origin INTEGER,
        metadata TEXT
    )
    """,
    # session: the id of the head. number: see rule 2. turn_id: 16 bytes for an id of 32 hexadecimal
    # digits, as default ids are, and text for any other id. first: position of the turn's first
    # item in the session. size: number of items. metadata: as above. items: a JSON array; the last
    # column, because a long one continues on further pages.
    """
    CREATE TABLE memory_turn (
        id INTEGER PRIMARY KEY,
        session INTEGER NOT NULL,
        number INTEGER NOT NULL,
        turn_id NOT NULL,
        created_at INTEGER NOT NULL,
        first INTEGER NOT NULL,
        size INTEGER NOT NULL,
        metadata TEXT,
        items TEXT NOT NULL
    )
    """,
    # Turns that have begun and are not saved. lease_until: nanoseconds since 1970, or NULL.
    """
    CREATE TABLE memory_pending (
        session INTEGER NOT NULL,
        turn_id NOT NULL,
        created_at INTEGER NOT NULL,
        owner TEXT,
        lease_until INTEGER,
        failed INTEGER NOT NULL,
        replaces,
        metadata TEXT,
        items TEXT NOT NULL,
        PRIMARY KEY (session, turn_id)
    ) WITHOUT ROWID
    """,
    # Summaries of the older part of a session. name: the name of the summary. number: the number
    # of the last turn that it covers. summary: the text.
    """
    CREATE TABLE memory_summary (
        session INTEGER NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        summary TEXT NOT NULL,
        PRIMARY KEY (session, name)
    ) WITHOUT ROWID
    """,
    # Sessions that were erased, or cleared before their first write, for one day. session: the
    # BLAKE2b hash of the session id, 16 bytes. number: the number of the erasure.
    """
    CREATE TABLE memory_tombstone (
        session BLOB PRIMARY KEY,
        number INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX memory_tombstone_time ON memory_tombstone (created_at)",
)

INDEXES: Final = (
    "CREATE UNIQUE INDEX memory_head_active ON memory_head (active, session_id)",
    "CREATE UNIQUE INDEX memory_turn_place ON memory_turn (session, first, number)",
    "CREATE UNIQUE INDEX memory_turn_id ON memory_turn (session, turn_id)",
)
"""The indexes are made after the rows of an older file are copied: an index of many rows is sorted
once, while single insertions in the order of an old file would read and write all over it."""
