"""Group commit: all writes that wait for the worker thread share one transaction.

1. Each write runs whole in the transaction, and gets its own outcome: its result, or its own error.
   No write fails because another one fails.
2. If another process has locked the file, the writes stay unsettled, and the worker thread tries
   them again with the next batch. A write whose deadline has passed fails. So no write waits longer
   because of another one.
3. A write whose caller has left is dropped, unless the transaction has begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

from tower_memory._errors import SessionError
from tower_memory._stores.clock import Deadline
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.schema import is_busy
from tower_memory._stores.worker_thread import Job

LOCK_SLICE: Final = 0.005
"""Seconds that a transaction waits for the lock of another process, each time it is tried."""

T = TypeVar("T")


@final
class Write(Generic[T]):
    """An operation that runs in a transaction together with others.

    Args:
        operation: Function of the connection. If it raises a `SessionError`, it must have written
            nothing.
        patience: Seconds to wait while another process has locked the file.
        after_commit: Function of the connection and the result, called after the commit; or None.
    """

    __slots__ = ("_operation", "after_commit", "deadline")

    def __init__(
        self,
        operation: Callable[[sqlite3.Connection], T],
        patience: float,
        after_commit: Callable[[sqlite3.Connection, T], object] | None = None,
    ) -> None:
        self._operation = operation
        self.deadline = Deadline(patience)
        self.after_commit = after_commit

    def __call__(self, connection: sqlite3.Connection) -> T:
        """Run the operation in the open transaction."""
        return self._operation(connection)


WriteJob: TypeAlias = Job[Connection]
"""A job whose operation is a `Write`."""


def run_batch(connection: Connection, jobs: Sequence[Job[Connection]]) -> None:
    """Run the queued jobs: the writes together in one transaction, then every other job alone."""
    writes = [job for job in jobs if isinstance(job.operation, Write)]
    try:
        if writes:
            connection.run(lambda _: _commit(connection, writes))
    except (OSError, sqlite3.Error) as error:  # the file is not in place
        for job in writes:
            if not job.is_settled:
                job.fail(error)

    for job in jobs:
        if not isinstance(job.operation, Write):
            job.run(connection)


def _commit(connection: Connection, jobs: Sequence[WriteJob]) -> None:
    """Commit the writes *jobs* in one transaction, and settle each job."""
    try:
        with _transaction(connection):
            jobs = [job for job in jobs if not job.is_cancelled]
            outcomes = [_attempt(connection, job) for job in jobs]
    except BaseException as error:  # noqa: BLE001 - it becomes the outcome of a job
        if isinstance(error, sqlite3.Error) and is_busy(error):
            for job in jobs:
                if job.operation.deadline.has_passed():
                    job.fail(error)
        elif len(jobs) == 1:
            jobs[0].fail(_explained(connection, error))
        else:  # commit each write alone, so that only the faulty write fails
            for job in jobs:
                _commit(connection, [job])
    else:
        for job, outcome in zip(jobs, outcomes, strict=True):
            _settle(connection, job, outcome)


def _explained(connection: Connection, error: BaseException) -> BaseException:
    """Return *error*, or a better explanation: the file is no longer in place."""
    if isinstance(error, sqlite3.Error):
        try:
            connection.check_in_place()
        except sqlite3.OperationalError as explanation:
            explanation.__cause__ = error
            return explanation
    return error


def _attempt(connection: Connection, job: WriteJob) -> Any:
    try:
        return job.operation(connection)
    except SessionError as error:  # raised before the operation wrote anything
        return error


def _settle(connection: Connection, job: WriteJob, outcome: Any) -> None:
    if isinstance(outcome, SessionError):
        job.fail(outcome)
        return

    try:
        if job.operation.after_commit is not None:
            job.operation.after_commit(connection, outcome)
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
