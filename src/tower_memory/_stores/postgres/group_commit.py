"""The writes of the writing thread: plain turns together, every other write in its own transaction.

`Database.append` and `Database.write` queue the jobs; the thread calls `run_batch`.

1. A write that another writer was faster than is decided anew at once. A write that met a passing
   fault stays unsettled: the worker thread runs it again with the next batch, until the deadline.
2. A statement that appends several turns waits only a moment for the lock of another writer. Then
   each turn is appended alone, and the turns of locked sessions stay out of later batches. So a
   locked session delays no other session for longer than that moment.
3. If a fault hides whether a commit succeeded, a write that may be repeated is repeated: the turn
   id settles it. Any other write raises `SessionError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar, final

import psycopg
from psycopg.pq import TransactionStatus

from tower_memory._errors import SessionError
from tower_memory._stores.clock import Deadline
from tower_memory._stores.jobs import Job, RetryLater
from tower_memory._stores.postgres import faults
from tower_memory._stores.postgres.appends import Append, Appended, append_turns
from tower_memory._stores.postgres.heads import Stale
from tower_memory._stores.postgres.link import Connection, Link
from tower_memory._stores.worker_thread import run_each

T = TypeVar("T")

_MOST_TOGETHER: Final = 500
"""Maximum number of turns that one statement appends."""


@final
class Write(Generic[T]):
    """An operation that runs in a transaction of its own.

    Args:
        operation: Function of the connection. It may be called several times.
        deadline: The end of the wait for the server and for other writers.
        may_repeat: True if the operation may run again although it has perhaps succeeded.
    """

    def __init__(
        self, operation: Callable[[Connection], T], deadline: Deadline, *, may_repeat: bool
    ) -> None:
        self._operation = operation
        self._deadline = deadline
        self._may_repeat = may_repeat

    def __call__(self, link: Link) -> T:
        """Run the operation; see `Job.run`.

        Raises:
            RetryLater: It met a fault that may pass.
        """
        while True:
            try:
                return self._commit(link.connection(self._deadline))
            except Stale:
                if self._deadline.has_passed():
                    raise too_many_writers() from None
            except psycopg.Error as error:
                if faults.is_lost(error):
                    link.drop()
                if self._deadline.has_passed() or not faults.may_pass(error):
                    raise
                raise RetryLater from error

    def _commit(self, connection: Connection) -> T:
        try:
            connection.execute("BEGIN")
            result = self._operation(connection)
        except BaseException:
            roll_back(connection)
            raise

        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if not self._may_repeat and faults.is_unknown(error):
                msg = (
                    "the connection was lost during the commit, so the change is perhaps made; "
                    "load the session to see"
                )
                raise SessionError(msg) from error
            raise
        return result


@final
class QueuedAppend:
    """An append of a plain turn, which runs together with others.

    Args:
        append: The turn.
        deadline: The end of the wait for the server and for other writers.
        after_commit: Function of the outcome, called once the turn is committed.

    Attributes:
        is_blocked: True once another writer's lock has delayed it (rule 2).
    """

    __slots__ = ("after_commit", "append", "deadline", "is_blocked")

    def __init__(
        self, append: Append, deadline: Deadline, after_commit: Callable[[Appended], object]
    ) -> None:
        self.append = append
        self.deadline = deadline
        self.after_commit = after_commit
        self.is_blocked = False

    def __call__(self, link: Link) -> Appended:
        """Refuse to run alone; `run_batch` runs the operation."""
        raise NotImplementedError  # pragma: no cover - a job needs a function, which is not called


class _Queued(NamedTuple):
    """A job and its operation."""

    job: Job[Link]
    queued: QueuedAppend


def run_batch(link: Link, jobs: Sequence[Job[Link]]) -> None:
    """Run the queued jobs: plain turns together, then every other job alone."""
    appends = [
        _Queued(job, job.operation) for job in jobs if isinstance(job.operation, QueuedAppend)
    ]
    _append_in_order(link, [each for each in appends if not each.queued.is_blocked])
    for each in appends:
        if each.queued.is_blocked and not each.job.is_settled:
            _append_group(link, [each])

    run_each(link, [job for job in jobs if not isinstance(job.operation, QueuedAppend)])


def _append_in_order(link: Link, waiting: Sequence[_Queued]) -> None:
    """Append the turns; those of one session one after another."""
    while waiting:
        first: dict[str, _Queued] = {}
        for each in waiting:
            if len(first) < _MOST_TOGETHER:
                first.setdefault(each.queued.append.turn.session_id, each)

        if not _append_group(link, [*first.values()]):
            return
        waiting = [each for each in waiting if not each.job.is_settled]


def _append_group(link: Link, group: Sequence[_Queued]) -> bool:
    """Append turns of different sessions with one statement, and settle their jobs.

    Return False if a fault has left some of them unsettled, to be tried later.
    """
    deadline = min((each.queued.deadline for each in group), key=Deadline.left)
    try:
        connection = link.connection(deadline)
        outcomes = append_turns(connection, [each.queued.append for each in group])
    except psycopg.Error as error:
        return _handle_fault(link, group, error)

    for (job, queued), outcome in zip(group, outcomes, strict=True):
        if isinstance(outcome, Exception):
            job.fail(outcome)
        elif outcome is not None:
            queued.after_commit(outcome)
            job.settle(outcome)
        elif queued.deadline.has_passed():
            job.fail(too_many_writers())
    return True


def _handle_fault(link: Link, group: Sequence[_Queued], error: psycopg.Error) -> bool:
    """Handle the *error* of a group: divide the group, fail its jobs, or leave them unsettled."""
    if faults.is_lost(error):
        link.drop()
    is_passing = faults.may_pass(error)

    if len(group) > 1 and (faults.is_locked(error) or not is_passing):
        settled = [_append_group(link, [each]) for each in group]
        return all(settled)

    for job, queued in group:
        queued.is_blocked = faults.is_locked(error)
        if not is_passing or queued.deadline.has_passed():
            job.fail(error)
    return all(job.is_settled for job, _ in group)


def too_many_writers() -> SessionError:
    """Return the error of a write that other writers were faster than each time."""
    return SessionError("other writers were faster each time; try again")


def roll_back(connection: Connection) -> None:
    """Roll the open transaction back, if there is one and the connection still works."""
    is_open = connection.info.transaction_status in (
        TransactionStatus.INTRANS,
        TransactionStatus.INERROR,
    )
    if is_open:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            connection.close()  # the server rolls the transaction back
