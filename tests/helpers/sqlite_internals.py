"""Internals of the SQLite store: the only tests' way to these private names."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

from tower_memory._codec import ItemCodec
from tower_memory._stores.session_cache import KeptSession as DecodedSession
from tower_memory._stores.sqlite import backup, new_file, schema
from tower_memory._stores.sqlite import connections as keeper
from tower_memory._stores.sqlite import file_guard as connections
from tower_memory._stores.sqlite import open_file as database
from tower_memory._stores.sqlite import progress, schema
from tower_memory._stores.sqlite import reads as loads
from tower_memory._stores.sqlite import writes as operations
from tower_memory._stores.sqlite.copy_turns import DAMAGED, WATCH_INTERVAL, Stopped
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.progress import log_progress
from tower_memory._stores.sqlite.reads import HotSession as CachedSession
from tower_memory._stores.sqlite.reads import HotSessions as SessionCache
from tower_memory._stores.sqlite.schema import Refused, only_read
from tower_memory._stores.sqlite.writes import Caller, WriteQueue
from tower_memory._stores.sqlite.writes import Locked as RetryLater

__all__ = [
    "DAMAGED",
    "WATCH_INTERVAL",
    "Caller",
    "Connection",
    "DecodedSession",
    "Refused",
    "RetryLater",
    "SessionCache",
    "Stopped",
    "WriteQueue",
    "log_progress",
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
    return workers_of(store).hot


def count_cached_sessions(store):
    """Return the number of sessions in the session cache of *store*."""
    return len(cache_of(store)._sessions)


def is_reopening(store):
    """Return True while *store* opens its file again after a fault."""
    return not workers_of(store).opened.done()


def queued_writes(store):
    """Return the writes of *store* that wait for the worker thread."""
    return store._opened._shared.queue


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
    schema._make_ours(connection, lambda: True, lambda done, total: None)


def retry_while_locked(connection, step):
    """Run *step(connection)* until it meets no lock."""
    return schema._patiently(connection, step, lambda: True)


def queued_append(turn):
    """Return a queued write that appends *turn*."""
    encoded = JSON_CODEC.encode(turn.items, turn.session_id)
    return operations.Write(partial(operations.append, turn=turn, encoded=encoded), 60)


def queued_pop():
    """Return a queued write that pops an item of the session s."""
    return operations.Write(partial(operations.pop, session_id="s", codec=JSON_CODEC), 60)


def queued_clear():
    """Return a queued write that clears the session s."""
    return operations.Write(partial(operations.clear, session_id="s"), 60)


def cancel(caller):
    """Mark *caller* as cancelled."""
    caller.gone = True


def result_of(connection, queue, write):
    """Return the result of *write*, which is in *queue*; commit the queue if it is not known."""
    return operations.settle(connection, queue, write)


def commit(connection, *writes):
    """Queue *writes* together, and return the result of each."""
    queue = WriteQueue(writes)
    return [result_of(connection, queue, write) for write in writes]


def load(connection, caller=None):
    """Load the session s for *caller*, without a session cache."""
    request = loads.Load("s", None, JSON_CODEC, caller or Caller(), most=0)
    return loads.load(connection, SessionCache(), request)


def make_read_only(connection):
    """Let *connection* write nothing; its first use also checks its file."""
    connection.run(only_read)


# A session cache


def session_of_size(size):
    """Return a cached session of *size* bytes, of which an id of one character takes 4."""
    return CachedSession(DecodedSession(size=size - 4))


def put_in_cache(cache, session_id, session, max_bytes=100):
    """Put *session* in *cache*, and evict others if they take more than *max_bytes*."""
    cache.put(session_id, JSON_CODEC, session, most=max_bytes)


def take_from_cache(cache, session_id):
    """Take a session out of *cache*, or return None if it is not cached."""
    return cache.take(session_id, JSON_CODEC)


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
    monkeypatch.setattr(keeper, "holds_something", lambda path: True)
