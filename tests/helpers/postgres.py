"""Tables of Postgres that tests share, read from outside of the store."""

from __future__ import annotations

from contextlib import contextmanager
from urllib.parse import quote

import psycopg

from tower_memory.postgres import PostgresSessionStore

TABLES = ["memory_head", "memory_turn", "memory_pending", "memory_summary"]


class PostgresTables:
    """The tables of a store, one test after another, in the database of *url*.

    To empty the tables takes a tenth of the time of creating them.
    """

    def __init__(self, server, url):
        self.server = server
        self.url = url

    async def create(self):
        """Let a store create the tables."""
        async with PostgresSessionStore(self.url):
            pass

    @contextmanager
    def emptied(self):
        """Provide the URL; empty the tables at the end of the block."""
        self.server.start()  # another test may have ended it
        yield self.url
        self.server.start()
        self.query(";".join(f"DELETE FROM {table}" for table in TABLES))

    def query(self, statement, *parameters):
        """Return the rows of *statement*."""
        return self.server.execute(statement, parameters or None, url=self.url)


class DatabaseContents:
    """The rows in the database of *url*, read and restored while stores have it open."""

    def __init__(self, url):
        self._connection = psycopg.connect(url, autocommit=True)
        self.back_up()

    def revision(self, session_id):
        """Return the revision of a session, or None."""
        found = self._connection.execute(
            "SELECT revision FROM memory_head WHERE session_id = %s", (session_id.encode(),)
        ).fetchone()
        return found and found[0]

    def count(self, table):
        """Return the number of rows of a table."""
        return self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def back_up(self):
        """Keep a copy of all rows."""
        self._rows = {
            table: self._connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES
        }

    def restore(self):
        """Put the last copy in the place of all rows."""
        with self._connection.transaction():
            for table, rows in self._rows.items():
                self._connection.execute(f"DELETE FROM {table}")
                for row in rows:
                    values = ", ".join(["%s"] * len(row))
                    self._connection.execute(f"INSERT INTO {table} VALUES ({values})", row)

    def close(self):
        self._connection.close()


ISOLATION_LEVELS = ["read committed", "repeatable read", "serializable"]


def isolated(url, level):
    """Return *url* with the isolation level of all transactions."""
    escaped = level.replace(" ", "\\ ")
    return f"{url}&options={quote(f'-c default_transaction_isolation={escaped}')}"


def check_heads(tables):
    """Fail unless the head of each session agrees with its turns, whose places have no gap."""
    rows = tables.query(
        "SELECT session, first, number, size FROM memory_turn ORDER BY session, first, number"
    )
    sessions = {}
    for session, first, number, size in rows:
        turns, items, last = sessions.get(session, (0, 0, 0))
        assert first == items
        assert number > last
        sessions[session] = turns + 1, items + size, number

    heads = tables.query(
        "SELECT session, session_id, version, active, revision, first_number, turns, items"
        " FROM memory_head"
    )
    for session, session_id, version, active, revision, first_number, *counts in heads:
        *found, last = sessions.pop(session, (0, 0, 0))
        assert found == counts
        assert last <= revision <= version
        assert active == (-version if session_id is None else max(revision, first_number))
    assert sessions == {}
