"""Group commit: all writes that wait for the worker thread share one transaction.

`OpenFile.write` queues a `Write`; the worker thread of the writing connection calls `run_batch`.

1. Each write runs whole in the transaction, and gets its own outcome: its result, or its own error.
   No write fails because another one fails.
2. If another process has locked the file, the writes stay unsettled, and the worker thread tries
   them again with the next batch. A write whose deadline has passed fails. So no write waits longer
   because of another one.
3. A write of a cancelled caller is dropped, unless the transaction has begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, NamedTuple, TypeVar, final

from tower_memory._errors import SessionError
from tower_memory._stores.clock import Deadline
from tower_memory._stores.jobs import Job
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.schema import is_busy
from tower_memory._stores.worker_thread import run_each

LOCK_SLICE: Final = 0.005
"""Seconds that a transaction waits for the lock of another process, each time it is tried."""

T = TypeVar("T")


@final
class Write(Generic[T]):
    """An operation that runs in a transaction, together with others.

    Attributes:
        operation: Function of the connection. Its errors roll the transaction back, except for a
            `SessionError` that it raises before it has written anything.
        deadline: The end of the wait for another process that has locked the file.
        after_commit: Function of the connection and the result, called after the commit; or None.

    Args:
        operation: See above.
        patience: Seconds until the deadline.
        after_commit: See above.
    """

    __slots__ = ("after_commit", "deadline", "operation")

    def __init__(
        self,
        operation: Callable[[Connection], T],
        patience: float,
        after_commit: Callable[[Connection, T], object] | None = None,
    ) -> None:
        self.operation = operation
        self.deadline = Deadline(patience)
        self.after_commit = after_commit

    def __call__(self, connection: Connection) -> T:
        """Run the operation in the open transaction."""
        return self.operation(connection)


class _Queued(NamedTuple):
    """A job and its operation, which is a `Write`."""

    job: Job[Connection]
    write: Write[Any]


def run_batch(connection: Connection, jobs: Sequence[Job[Connection]]) -> None:
    """Run the queued jobs: the writes together in one transaction, then every other job alone."""
    queued = [_Queued(job, job.operation) for job in jobs if isinstance(job.operation, Write)]
    if queued:
        _commit(connection, queued)

    run_each(connection, [job for job in jobs if not isinstance(job.operation, Write)])


def _commit(connection: Connection, queued: Sequence[_Queued]) -> None:
    """Commit the writes in one transaction, and settle each job."""
    try:
        with _transaction(connection):
            queued = [each for each in queued if not each.job.is_cancelled]
            outcomes = [_attempt(connection, each.write) for each in queued]

    except BaseException as error:  # noqa: BLE001 - it becomes the outcome of a job
        if isinstance(error, sqlite3.Error) and is_busy(error):
            for job, write in queued:
                if write.deadline.has_passed():
                    job.fail(error)
        elif len(queued) == 1:
            queued[0].job.fail(error)
        else:  # commit each write alone, so that only the faulty write fails
            for each in queued:
                _commit(connection, [each])

    else:
        for each, outcome in zip(queued, outcomes, strict=True):
            _settle(connection, each, outcome)


def _attempt(connection: Connection, write: Write[Any]) -> Any:
    changes = connection.total_changes
    try:
        return write(connection)
    except SessionError as error:
        if connection.total_changes != changes:  # half a write: the transaction is rolled back
            raise
        return error


def _settle(connection: Connection, queued: _Queued, outcome: Any) -> None:
    job, write = queued
    if isinstance(outcome, SessionError):
        job.fail(outcome)
        return

    try:
        if write.after_commit is not None:
            write.after_commit(connection, outcome)
    except BaseException as error:  # noqa: BLE001 - it becomes the outcome of the job
        job.fail(error)
    else:
        job.settle(outcome)


@contextmanager
def _transaction(connection: Connection) -> Generator[None]:
    if connection.in_transaction:
        connection.execute("ROLLBACK")  # the rollback of an earlier transaction failed

    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
