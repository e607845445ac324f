"""Group commit: the writes that wait for the worker thread share one transaction.

1. Each write runs whole in the transaction, and gets its own outcome: its result, or its own error.
   No write fails because another one fails.
2. If another process has locked the file, all writes of the batch raise `RetryLater`, and each
   caller decides whether to try again. So no caller waits here for another process.
3. A write whose caller has left is dropped if the transaction has not begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, final

from tower_memory._errors import SessionError
from tower_memory._stores.sqlite.schema import is_busy
from tower_memory._stores.worker_thread import Job

LOCK_SLICE: Final = 0.005
"""Seconds that a transaction waits for another process's lock."""

T = TypeVar("T")


class RetryLater(Exception):
    """Raised when another process has locked the file, as its cause says."""


@final
@dataclass(frozen=True, slots=True)
class Write(Generic[T]):
    """An operation that `run_batch` runs in a transaction, together with others.

    Attributes:
        operation: Function of the connection. If it raises a `SessionError`, it must have written
            nothing.
        after_commit: Function of the connection and the result, called after the commit; or None.
    """

    operation: Callable[[sqlite3.Connection], T]
    after_commit: Callable[[sqlite3.Connection, T], object] | None = None

    def __call__(self, connection: sqlite3.Connection) -> T:
        """Run the operation in the open transaction."""
        return self.operation(connection)


def run_batch(connection: sqlite3.Connection, jobs: Sequence[Job[sqlite3.Connection]]) -> None:
    """Run queued jobs: each alone, but consecutive writes together in one transaction."""
    writes: list[Job[sqlite3.Connection]] = []
    for job in jobs:
        if isinstance(job.operation, Write):
            writes.append(job)
        else:
            _commit(connection, writes)
            writes = []
            job.run(connection)
    _commit(connection, writes)


def _commit(connection: sqlite3.Connection, jobs: Sequence[Job[sqlite3.Connection]]) -> None:
    """Commit the writes *jobs* in one transaction, and settle each job."""
    if not jobs:
        return

    try:
        with _transaction(connection):
            jobs = [job for job in jobs if not job.is_cancelled]
            outcomes = [_attempt(connection, job) for job in jobs]
    except BaseException as error:  # noqa: BLE001 - it becomes the outcome of a job
        if isinstance(error, sqlite3.Error) and is_busy(error):
            for job in jobs:
                job.fail(_retry_later(error))
        elif len(jobs) == 1:
            jobs[0].fail(error)
        else:  # commit each write alone, so that only the faulty write fails
            for job in jobs:
                _commit(connection, [job])
    else:
        for job, outcome in zip(jobs, outcomes, strict=True):
            _settle(connection, job, outcome)


def _attempt(connection: sqlite3.Connection, job: Job[sqlite3.Connection]) -> Any:
    try:
        return job.operation(connection)
    except SessionError as error:  # raised before the operation wrote anything
        return error


def _settle(connection: sqlite3.Connection, job: Job[sqlite3.Connection], outcome: Any) -> None:
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


def _retry_later(error: sqlite3.Error) -> RetryLater:
    later = RetryLater()
    later.__cause__ = error
    return later


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    if connection.in_transaction:
        connection.execute("ROLLBACK")  # the rollback of an earlier transaction failed

    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
