"""Internals of the SQLite store: the only tests' way to these private names."""

from __future__ import annotations

import sqlite3
from functools import partial
from sys import getsizeof
from typing import Any

from tower_memory._codec import ItemCodec
from tower_memory._history import TurnInfo
from tower_memory._search_words import query_words
from tower_memory._stores import progress
from tower_memory._stores.cached_session import CachedSession
from tower_memory._stores.jobs import Job
from tower_memory._stores.progress import log_progress
from tower_memory._stores.records import EncodedTurn, to_datetime, turn_text
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.session_cache import CommittedTurn, Entry, LastTurn, SessionCache, Version
from tower_memory._stores.sql import reads, searching
from tower_memory._stores.sql import rows as sql_rows
from tower_memory._stores.sqlite import (
    backup,
    catalog,
    erasure,
    new_file,
    rows,
    schema,
    search,
    search_index,
    summaries,
    tombstones,
    turn_rows,
    writes,
)
from tower_memory._stores.sqlite import connections as keeper
from tower_memory._stores.sqlite import file_guard as connections
from tower_memory._stores.sqlite import open_file as database
from tower_memory._stores.sqlite.copy_turns import DAMAGED, WATCH_INTERVAL, Stopped
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.group_commit import Write, run_batch
from tower_memory._stores.sqlite.importing import ImportedSession, import_entries
from tower_memory._stores.sqlite.schema import Refused
from tower_memory._stores.sqlite.search_index import empty_index
from tower_memory._stores.sqlite.whole_file import read_whole, take_over, write_whole

__all__ = [
    "DAMAGED",
    "WATCH_INTERVAL",
    "CachedSession",
    "Connection",
    "ImportedSession",
    "Refused",
    "SessionCache",
    "Stopped",
    "empty_index",
    "import_entries",
    "log_progress",
    "read_whole",
    "run_batch",
    "take_over",
    "write_whole",
]

JSON_CODEC = ItemCodec(Any)

# The state of a store


def is_open(store):
    """Return True if *store* has its file open."""
    return store._opened is not None and store._opened.is_open and not store._opened.is_closed


def is_opening(store):
    """Return True if a task is opening the file of *store*."""
    return store._opened is not None and not store._opened.is_open


def open_connections():
    """Return the files that connections of this process have open."""
    return sorted(connections._open)


def open_databases():
    """Return the files that stores in this event loop have open."""
    return database._open_files.get((0, {}))[1]


def file_of(store):
    """Return the key of the file of *store* in `open_databases`."""
    return store._file


def workers_of(store):
    """Return the worker threads of *store*."""
    return store._opened._shared.connections


def open_again_at_next_use(store):
    """Let *store* open its file again, as after a fault."""
    workers_of(store).needs_reopen = True


async def acquire_without_use(store):
    """Let *store* take part in its file without an operation that opens it."""
    await store._open_file()


def cache_of(store):
    """Return the session cache of *store*."""
    return workers_of(store).cache


def count_cached_sessions(store):
    """Return the number of sessions in the session cache of *store*."""
    return len(cache_of(store)._entries)


def is_reopening(store):
    """Return True while *store* opens its file again after a fault."""
    return not workers_of(store).opened.done()


def queued_writes(store):
    """Return the number of jobs of *store* that wait for the worker thread that writes."""
    return workers_of(store).writer._queue.qsize()


# Operations on the worker thread


async def run_on_writer(store, operation, *arguments):
    """Run *operation(connection, *arguments)* on the worker thread that writes."""
    return await workers_of(store).writer.run(
        lambda connection: connection.run(lambda _: operation(connection, *arguments))
    )


async def writer_is_in_transaction(store):
    """Return True if the writing connection has a transaction open."""
    return await run_on_writer(store, lambda connection: connection.in_transaction)


async def pragma_of_writer(store, pragma):
    """Return the value of *pragma* on the writing connection."""
    return await run_on_writer(store, schema._value, f"PRAGMA {pragma}")


async def write(store, operation):
    """Queue *operation(connection)* as a write to the session s."""
    return await store._opened.write("s", operation, 0)


# The search index


async def build_one_step(store):
    """Run one step of the building of the file's search index."""
    await store._opened.write(None, partial(search_index.build_step, reader=store._reader), 60)


def search_in_steps(connection, text, *, prefix="", limit=20):
    """Return the steps of a search, as a generator that returns the hits and the next place."""
    words = frozenset(query_words(text))
    reader = TextReader(JSON_CODEC, None)
    return search.search(connection, searching.Wanted(words, prefix, limit, None, reader))


def index_at_most_one_turn(monkeypatch):
    """Let each step of the building of a search index add one turn."""
    monkeypatch.setattr(search_index, "_STEP", -1)


def read_other_words(monkeypatch, words):
    """Let the index read *words* from each text, as another version of the library might."""
    monkeypatch.setattr(search_index, "search_words", lambda _: words)


def pause_searches_after_each_row(monkeypatch):
    """Let each search pause after every row that it reads."""
    monkeypatch.setattr(search, "_SLICE", -1)


# Plain functions of a connection


def prepare_schema(connection, **options):
    """Create, migrate or check the schema; by default without a second attempt."""
    schema.prepare(connection, **{"keep_waiting": lambda: False, **options})


def open_prepared(path, **settings):
    """Return a connection to the file at *path*, which is prepared."""
    connection = sqlite3.connect(path, isolation_level=None, **settings)
    prepare_schema(connection)
    return connection


def create_schema(connection):
    """Create the schema, or leave it if another process has created it, in a transaction."""
    schema._make_ours(connection, lambda: True, lambda done, total: None, takes_over=False)


def retry_while_locked(connection, step):
    """Run *step(connection)* until it meets no lock."""
    return schema._retry_while_locked(connection, step, lambda: True)


def queued_append(turn, *, patience=60, after_commit=None):
    """Return a job that appends *turn*."""
    checked = JSON_CODEC.encode_checked(turn.items, turn.session_id)
    encoded = EncodedTurn([raw for raw, _ in checked], [item for _, item in checked], None, "")
    return queued(partial(writes.append, turn=turn, encoded=encoded), patience, after_commit)


def queued_pop(codec=JSON_CODEC):
    """Return a job that pops an item of the session s."""
    return queued(partial(writes.pop, session_id="s", reader=TextReader(codec, None)))


def queued_clear():
    """Return a job that clears the session s."""
    return queued(partial(writes.clear, session_id="s"))


def queued(operation, patience=60, after_commit=None):
    """Return a job that commits *operation*; it waits *patience* seconds for a lock."""
    return Job(Write(operation, patience, after_commit))


def run_job(operation):
    """Return a job that runs *operation* outside of the common transaction."""
    return Job(operation)


def cancel(job):
    """Mark the caller of *job* as cancelled."""
    job.is_cancelled = True


def commit(connection, *jobs):
    """Run *jobs* as one batch, and return the outcome of each: its result or its error."""
    run_batch(connection, jobs)
    return [outcome_of(job) for job in jobs]


def outcome_of(job):
    """Return the result or the error of *job*, or "unsettled"."""
    if not job.is_settled:
        return "unsettled"
    try:
        return job.outcome()
    except BaseException as error:
        return error


def load(connection, session_id="s", cache=None):
    """Load a session; without *cache*, through an empty session cache."""
    wanted = reads.Wanted(session_id, None, None, JSON_CODEC)
    steps = rows.load(connection, SessionCache(0) if cache is None else cache, wanted)
    return connection.run(lambda _: finish(steps))


def load_in_steps(connection, cache, session_id="s", *, limit=None, before=None, codec=JSON_CODEC):
    """Return the steps of a load, as a generator whose return value is the history."""
    return rows.load(connection, cache, reads.Wanted(session_id, limit, before, codec))


def finish(steps):
    """Run *steps* to their end, and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def make_read_only(connection):
    """Let *connection* write nothing; its first use also checks its file."""
    connection.run(schema.make_read_only)


async def traced_reads(store):
    """Return a list to which the id of every turn is added that a load reads from the file."""
    read = []

    def trace(connection):
        def turn_of(cursor, row):
            columns = [column for column, *_ in cursor.description]
            if "turn_id" in columns:
                read.append(turn_text(row[columns.index("turn_id")]))
            return row

        connection.row_factory = turn_of

    await workers_of(store).reader.run(trace)
    return read


# A session cache


def entry_of_size(size):
    """Return an entry of *size* bytes, for a session with an id of one character."""
    session = CachedSession(size=size - getsizeof("a"))
    return Entry(Version(1, 1), LastTurn(0, 1, 1), session)


def commit_for_cache(session_id, *, before, after, items):
    """Return a committed turn for the cache; *before* and *after* are versions."""
    return CommittedTurn(
        session_id,
        before and Version(*before),
        Version(*after),
        LastTurn(0, 1, 1),
        TurnInfo("t", 0, to_datetime(0)),
        items,
    )


def put_in_cache(cache, session_id, entry):
    """Put *entry* in *cache* as the most recently used one."""
    cache.put(JSON_CODEC.key, session_id, entry)


def take_from_cache(cache, session_id):
    """Take a session out of *cache*, or return None if it is not cached."""
    return cache.take(JSON_CODEC.key, session_id)


def cached_items(store, session_id):
    """Return the number of items of a session in the session cache of *store*; None if absent."""
    entry = cache_of(store)._entries.get((store._codec.key, session_id))
    return None if entry is None else len(entry.session._items)


# Replacements


def log_each_report(monkeypatch):
    """Let migrations log their progress without a pause."""
    monkeypatch.setattr(progress, "_LOG_INTERVAL", 0)


def replace_connections(monkeypatch, connection_class):
    """Let worker threads use *connection_class* for their connections."""
    monkeypatch.setattr(keeper, "Connection", connection_class)


def replace_connections_of_backups(monkeypatch, connection_class):
    """Let backups of files read through *connection_class*."""
    monkeypatch.setattr(backup, "Connection", connection_class)


def creating_a_file():
    """Return a context manager in which this thread creates a file."""
    return new_file._creating


def report_every_file_as_present(monkeypatch):
    """Let the file guard believe that every file exists and holds something."""
    monkeypatch.setattr(keeper, "has_content", lambda path: True)


def pause_loads_after_each_row(monkeypatch):
    """Let each load pause after every row that it reads."""
    monkeypatch.setattr(sql_rows, "_SLICE", -1)


def build_indexes_turn_by_turn(monkeypatch):
    """Let each step of the building of a search index add one turn."""
    monkeypatch.setattr(search_index, "_STEP", -1)


def let_tombstones_live(monkeypatch, nanoseconds):
    """Let tombstones live only *nanoseconds*."""
    monkeypatch.setattr(tombstones, "TOMBSTONE_LIFETIME", nanoseconds)


def erase_in_transaction(connection, session_ids, updated_before):
    """Erase sessions as `SqliteSessionStore.erase` does once it has found them."""
    connection.execute("BEGIN IMMEDIATE")
    erased = erasure.erase(connection, session_ids, updated_before)
    connection.execute("COMMIT")
    return erased


# The catalogue


async def plans_of_catalog(store):
    """Return the plan of each statement that reads the catalogue of *store*, by its name."""
    place = {"start": "a", "end": "b", "after": 9, "newest": 9, "limit": 9}
    statements = {
        "sorted": (catalog._SORTED, place),
        "walk": (catalog._WALK, place),
        "count": (catalog._COUNT, ("a", "b", 9)),
        "describe": (catalog._DESCRIBE, ("a",)),
    }
    plans = {}
    for name, (statement, parameters) in statements.items():
        rows = await run_on_writer(
            store,
            lambda connection, sql, values: connection.execute(sql, values).fetchall(),
            f"EXPLAIN QUERY PLAN {statement}",
            parameters,
        )
        plans[name] = [detail for *_, detail in rows]
    return plans


async def steps_of_find_summary(store, session_id):
    """Return the number of steps of SQLite's virtual machine that load a summary."""

    def count_steps(connection):
        steps = []
        connection.set_progress_handler(lambda: steps.append(1), 1)
        summaries.find(connection, session_id, "summary")
        connection.set_progress_handler(None, 1)
        return len(steps)

    return await run_on_writer(store, count_steps)


async def plan_of_fork(store):
    """Return the plan of the statement that copies turns."""
    rows = await run_on_writer(
        store,
        lambda connection: connection.execute(
            f"EXPLAIN QUERY PLAN {turn_rows._COPY}", (2, 9, 1, 9, 9)
        ).fetchall(),
    )
    return [detail for *_, detail in rows]
