"""The tables of the Postgres store.

1. A session has one head row, and one row per turn. So one row is a whole turn, and one head tells
   the state of its session.
2. Every write of a session's rows gives its head a new ``version``, the largest number of the
   session. A number is at least the time of the write, in microseconds since 1970, so it is never
   given again, even if the session is erased and written again.
   Only the building of a search index, which adds ``words`` and ``added_text`` to a turn, gives no
   new version, because no decision depends on them.
3. An erased session, or one that was cleared before its first write, keeps a head without
   ``session_id``: its tombstone. It has no effect after one day, and a later erasure removes it.
4. Turns are only added and removed at the end of a session. A turn that changes gets a new number.
   Therefore, while a turn is there, all turns before it are as they were.
5. Text is stored as its UTF-8 bytes. So it may hold NUL characters, it is compared by code points,
   and the encoding and the collation of the database do not matter. Ids have a hash beside them, so
   they may have any length.
6. Every table but ``memory_schema`` can be distributed by ``session``. The store uses no sequence,
   no foreign key, no partial index and no explicit lock, because some engines that speak Postgres
   lack them. No statement joins rows of two sessions. A subquery reads the session of a parameter,
   or that of its outer row.
"""

from __future__ import annotations

from textwrap import dedent
from typing import Final

PROGRAM: Final = "tower-memory"
"""The name of this program in ``memory_schema``."""

VERSION: Final = 1
"""The version of the tables."""

TABLES: Final = (
    # One row: the version of the tables.
    """
    CREATE TABLE IF NOT EXISTS memory_schema (
        program text PRIMARY KEY,
        version integer NOT NULL
    )
    """,
    # session: the hash of the session id. id_start: the first bytes of the id, for prefixes; NULL
    # in a tombstone, as session_id. version: see rule 2. previous: the version before the last
    # write, or NULL, for the compare-and-set of `heads`. active: the number of the last change, or
    # of the creation, for the order of activity; in a tombstone, its number with a minus sign.
    # revision: the number of the last change, or that of the tombstone before the first one.
    # first_number: the number of the creation. cleared, replaced: the number of the last clear, and
    # of the last turn that replaced others; 0 for none. created_at, updated_at: microseconds since
    # 1970, UTC. turns, items: counts. origin: the session of which this one is a fork, or NULL;
    # origin_number: its first_number. metadata: a JSON object, or NULL for an empty one.
    """
    CREATE TABLE IF NOT EXISTS memory_head (
        session uuid PRIMARY KEY,
        session_id bytea,
        id_start bytea,
        version bigint NOT NULL,
        previous bigint,
        active bigint NOT NULL,
        revision bigint NOT NULL,
        first_number bigint NOT NULL,
        cleared bigint NOT NULL,
        replaced bigint NOT NULL,
        created_at bigint NOT NULL,
        updated_at bigint NOT NULL,
        turns bigint NOT NULL,
        items bigint NOT NULL,
        origin uuid,
        origin_number bigint,
        metadata bytea
    )
    """,
    # first: position of the turn's first item in the session. number: the number of the write.
    # turn: the hash of the turn id. size: number of items. words: hashes of its search words with
    # spaces between them, since not every engine has columns of arrays; or NOT_INDEXED. added_text:
    # the additional text that a search finds, or NULL. items: a JSON array.
    """
    CREATE TABLE IF NOT EXISTS memory_turn (
        session uuid NOT NULL,
        first bigint NOT NULL,
        number bigint NOT NULL,
        turn uuid NOT NULL,
        turn_id bytea NOT NULL,
        created_at bigint NOT NULL,
        size bigint NOT NULL,
        words text NOT NULL,
        added_text bytea,
        metadata bytea,
        items bytea NOT NULL,
        PRIMARY KEY (session, first, number),
        UNIQUE (session, turn)
    )
    """,
    # Turns that have begun and are not saved. lease_until: nanoseconds since 1970, or NULL.
    # replaces: the id of the turn that it is to replace, or NULL.
    """
    CREATE TABLE IF NOT EXISTS memory_pending (
        session uuid NOT NULL,
        turn uuid NOT NULL,
        turn_id bytea NOT NULL,
        created_at bigint NOT NULL,
        owner bytea,
        lease_until bigint,
        failed boolean NOT NULL,
        replaces bytea,
        metadata bytea,
        items bytea NOT NULL,
        PRIMARY KEY (session, turn)
    )
    """,
    # Summaries of the older part of a session. name: the hash of the summary's name. first, number:
    # the place of the last turn that it covers. summary: the text.
    """
    CREATE TABLE IF NOT EXISTS memory_summary (
        session uuid NOT NULL,
        name uuid NOT NULL,
        first bigint NOT NULL,
        number bigint NOT NULL,
        created_at bigint NOT NULL,
        summary bytea NOT NULL,
        PRIMARY KEY (session, name)
    )
    """,
)

INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS memory_head_active ON memory_head (active, session)",
    "CREATE INDEX IF NOT EXISTS memory_head_id ON memory_head (id_start, active)",
    "CREATE INDEX IF NOT EXISTS memory_turn_time ON memory_turn (created_at)",
)

_SET_VERSION: Final = (
    f"INSERT INTO memory_schema (program, version) VALUES ('{PROGRAM}', {VERSION})"  # noqa: S608 - constants
    " ON CONFLICT DO NOTHING"
)

SEARCH_INDEX: Final = (
    "CREATE INDEX IF NOT EXISTS memory_turn_words ON memory_turn"
    " USING gin (string_to_array(words, ' '))"
)
"""The index of search words, which some engines that speak Postgres lack.

It also has the turns that are not indexed, under the word `NOT_INDEXED`.
"""

NOT_INDEXED: Final = "."
"""The only word of a turn whose words are not indexed; it is no hash of a word."""


def table_statements() -> tuple[str, ...]:
    """Return the SQL statements that create the tables, in their order, for use by hand.

    They create the tables in the first schema of the search path. The store needs none of this: it
    executes them itself, unless the tables exist.

    >>> from tower_memory.postgres import table_statements
    >>> table_statements()[-1]
    "INSERT INTO memory_schema (program, version) VALUES ('tower-memory', 1) ON CONFLICT DO NOTHING"
    """
    tables = (dedent(statement).strip() for statement in TABLES)
    return (*tables, *INDEXES, SEARCH_INDEX, _SET_VERSION)
