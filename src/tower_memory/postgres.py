"""Sessions in Postgres, for products that outgrow one machine.

`PostgresSessionStore` keeps the promises of `tower_memory.SessionStore` and has all capabilities,
as `tower_memory.SqliteSessionStore` does. It needs an extra, which brings psycopg 3 and libpq::

    pip install 'tower-memory[postgres]'

In a program, only the store's construction changes::

    from tower_memory.postgres import PostgresSessionStore

    store = PostgresSessionStore("postgresql://app@db.example.com/chat")

The store creates its five tables when it first opens. They begin with ``memory_``, so they may be
beside the tables of a product, or in a Postgres schema of their own: ``schema="memory"``. The user
needs the right to create tables there, or another user with this right opens the store first.
The command uses such a store with ``tower-memory --db postgresql://...``. It can also copy the
sessions of an SQLite file to the store (see `tower_memory.__main__`).

Connections and faults
======================

An open store has two connections for each process, for any number of sessions and tasks: one writes
and the other reads. Turns that arrive during a commit are committed together by the next statement.
A store serves all event loops of its process, on asyncio and trio.

Every write compares and sets a version in the row of its session. So turns of several processes
never mix, no row is locked while a turn is decided, and every isolation level works: read
committed, repeatable read and serializable.

*patience* is the number of seconds that an operation waits for the server, for a lock of another
program, and for a failover. Meanwhile the store connects again, and repeats the failed operation.
After a lost connection, the turn id tells whether a turn was saved, so no turn is lost or doubled.
Only `pop`, `fork` and `erase` are not repeated once they have perhaps succeeded: they raise
`SessionError`. Every caller gets its answer within the patience and one second, even if the server
never answers; each step of a long read or erasure has this time anew. Wrong passwords, unknown
databases, full disks, and tables of another program or of a newer version raise `SessionError` at
once.

If a server fails over to another host, name all hosts in the connection string, with
``target_session_attrs=read-write``; with Amazon RDS and Aurora, use the writer's endpoint. Each
host has its share of the patience to answer, but at least two seconds, and *patience* replaces
``connect_timeout``.

Times, and the leases of `TurnJournal`, come from the clocks of the hosts that use the store, so
keep the clocks in step. The order of a session's turns does not depend on them.

A store needs no pooler. PgBouncer in session mode works (run: 1.18). In transaction mode it does
not: the store's ``SET search_path`` would reach the connection of another program. So use port 5432
of Supabase's pooler, and the host of Neon without ``-pooler``. [1]_

Engines that speak Postgres
===========================

The store needs rows, unique keys, transactions and ``INSERT ... ON CONFLICT``. It uses no sequence,
no explicit lock, no foreign key, no partial index, no savepoint and no stored procedure. All rows
of a session have its hash in the column ``session``, so an engine can distribute the sessions over
machines. A write touches the rows of its own session only. There are two exceptions: a fork touches
two sessions, and an erasure also removes the expired tombstones of other sessions.

If an engine refuses a write because of a conflict (SQLSTATE 40001, 40P01 or 23505), the store
decides it anew. Your program needs no retry of its own.

"Run" means that `tower_memory.testing.check_session_store` passed on this engine. "Not run" means
that the facts are those of the named pages only: run the check on your own cluster first.

**PostgreSQL**: run, 18.6, with read committed, repeatable read and serializable.

**Citus**: run, 13.2.2 on Postgres 15, with one coordinator and two workers. Open the store once,
which creates the tables. Then distribute all but ``memory_schema``, while they are small::

    SELECT create_distributed_table('memory_head', 'session');
    SELECT create_distributed_table('memory_turn', 'session');
    SELECT create_distributed_table('memory_pending', 'session');
    SELECT create_distributed_table('memory_summary', 'session');
    ALTER ROLE app SET lock_timeout = '50ms';  -- the role of the store

- Locks: a ``SET`` of a connection does not reach the workers, but a setting of the role does.
  Without it, a locked session delays the other turns of its commit.
- Crashes: turns of sessions on several workers are committed in two phases. After a crash, these
  sessions stay locked until ``citus.recover_2pc_interval`` has passed (60 s): choose a few seconds.
- Speed: on one machine, an append took 13 to 25 ms, because the coordinator executes the statement
  in several steps. The store gains capacity there, not speed. [2]_

**CockroachDB**: not run; pages of v25.4. It needs no setup.

- Conflicts arrive as 40001, since its default is serializable.
- If it refuses the index of search words, a search reads all turns; the hits are the same. The
  indexes of activity and of time grow at their end, so the writes to each go to one range. [3]_

**YugabyteDB**: not run; pages of the stable release. The primary keys are hashed by ``session``
there. The first column of an index is hashed, too, unless its definition says otherwise, and then
listing and searching sessions is slow. So replace three indexes after the store has created them::

    DROP INDEX memory_head_active, memory_head_id, memory_turn_time;
    CREATE INDEX memory_head_active ON memory_head (active ASC, session ASC);
    CREATE INDEX memory_head_id ON memory_head (id_start ASC, active ASC);
    CREATE INDEX memory_turn_time ON memory_turn (created_at ASC);

- Conflicts arrive as 40001; ``yb_enable_read_committed_isolation=true`` makes them rare.
- ``lock_timeout`` has no effect on the locks of rows. [4]_

**Amazon Aurora DSQL**: not run. Its indexes are of columns only, so ``search_index=True`` builds no
index, and a search reads all turns. It creates indexes in the background only, so create the tables
yourself, with the statements of `table_statements`: each in a transaction of its own, and those
that begin with ``CREATE INDEX`` as ``CREATE INDEX ASYNC``. Leave out the index
``memory_turn_words``. The limits of DSQL are also those of the store:
3,000 rows in a transaction (the turns of a fork or an erasure), 1 MiB for the items of a turn, and
a password that expires after 15 minutes, which a connection string cannot renew. [5]_

Erased bytes
============

`erase` removes all rows of a session in one transaction. No query finds them afterwards, and no
turn in progress brings them back. Their bytes stay longer, and only the server's operator can
remove them, so `scrub` raises:

- Files of tables: ``VACUUM`` frees the place of deleted rows, but does not overwrite all of it.
  ``VACUUM FULL memory_turn, memory_pending, memory_summary, memory_head`` writes new files, and
  locks the tables meanwhile.
- The write-ahead log, until its segments are used again: some checkpoints later.
- Archives of this log, base backups, snapshots and dumps, until they are deleted. Replicas follow
  the server by themselves.
- The server's own log, if it logs statements. The store passes all content as parameters, so
  ``log_parameter_max_length = 0`` and ``log_parameter_max_length_on_error = 0`` keep it out.

The search index has hashes of words. The hash of an erased session id stays as its tombstone, until
the first erasure that comes more than a day later. [6]_

Reading the tables by hand
==========================

All text is stored as its UTF-8 bytes::

    SELECT convert_from(h.session_id, 'UTF8'), t.number, convert_from(t.items, 'UTF8')
    FROM memory_turn AS t JOIN memory_head AS h ON h.session = t.session;

Sources
=======

.. [1] pgbouncer.org/features.html; supabase.com/docs/guides/database/connecting-to-postgres;
   neon.com/docs/connect/connection-pooling
.. [2] docs.citusdata.com/en/stable/develop: api_udf.html, reference_workarounds.html
.. [3] cockroachlabs.com/docs/v25.4: common-table-expressions, known-limitations, inverted-indexes;
   cockroachlabs.com/docs/stable/transaction-retry-error-reference
.. [4] docs.yugabyte.com/stable/explore: transactions/isolation-levels,
   going-beyond-sql/data-sharding, ysql-language-features/indexes-constraints/gin
.. [5] docs.aws.amazon.com/aurora-dsql/latest/userguide: CHAP_quotas.html, working-with-ddl.html,
   create-index-syntax-support.html, working-with-postgresql-compatibility-supported-data-types.html
.. [6] postgresql.org/docs/current: routine-vacuuming, wal-configuration, continuous-archiving,
   runtime-config-logging
"""

from __future__ import annotations

try:
    import psycopg as _psycopg
except ImportError as error:
    msg = "tower_memory.postgres needs psycopg 3: pip install 'tower-memory[postgres]'"
    raise ImportError(msg) from error

from tower_memory._stores.postgres.store import PostgresSessionStore
from tower_memory._stores.postgres.tables import table_statements

del _psycopg

__all__ = ["PostgresSessionStore", "table_statements"]
