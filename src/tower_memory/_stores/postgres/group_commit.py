"""The writes of the writer thread: plain turns together, every other write in its own transaction.

`Database.append` and `Database.write` queue the jobs; the thread calls `run_batch`.

1. If another writer was faster, a write is decided anew at once. After a passing fault, a write
   stays unsettled: the writer thread runs it again with the next batch, until the deadline.
2. A statement waits only a moment for the lock of another program. If it appends several turns,
   each of them is then appended alone. From then on, the writes of the locked session stay out of
   batches. In each visit, the thread tries only one locked session: the one that it tried longest
   ago, and after all other writes. So locked sessions, of any number, delay the others by that
   moment.
3. If a fault hides whether a commit succeeded, a write that may be repeated is repeated: the turn
   id settles it. Any other write raises `SessionError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, cast, final

import psycopg
from psycopg.pq import TransactionStatus

from tower_memory._errors import SessionError
from tower_memory._stores.clock import Deadline, now
from tower_memory._stores.jobs import Job, RetryLater
from tower_memory._stores.postgres import faults
from tower_memory._stores.postgres.appends import Append, Appended, append_turns
from tower_memory._stores.postgres.heads import RecentHeads, Stale
from tower_memory._stores.postgres.link import Connection, Link

T = TypeVar("T")
Operation_co = TypeVar("Operation_co", covariant=True)

_MOST_TOGETHER: Final = 500
"""Maximum number of turns that one statement appends."""

_BYTES_TOGETHER: Final = 2**20
"""Size of the items after which a statement appends no more turns.

The driver takes much longer for one large message than for several small ones.
"""


class LockFault(NamedTuple):
    """The end of a wait for the lock of another program: the error and its time."""

    error: psycopg.Error
    time: float


@final
class Write(Generic[T]):
    """An operation that runs in a transaction of its own.

    Args:
        operation: Function of the connection. It may be called several times.
        session_id: The session that it changes; None for several sessions.
        deadline: The end of the wait for the server and for other writers.
        may_repeat: True if the operation may run again although it has perhaps succeeded.

    Attributes:
        lock_fault: The last lock that has delayed it, or None.
    """

    def __init__(
        self,
        operation: Callable[[Connection], T],
        session_id: str | None,
        deadline: Deadline,
        *,
        may_repeat: bool,
    ) -> None:
        self.session_id = session_id
        self.deadline = deadline
        self.lock_fault: LockFault | None = None
        self._operation = operation
        self._may_repeat = may_repeat

    def __call__(self, link: Link) -> T:
        """Run the operation; see `Job.run`.

        Raises:
            RetryLater: It met a passing fault.
        """
        while True:
            try:
                return self._commit(link.connection(self.deadline))
            except Stale:
                if self.deadline.has_passed():
                    raise too_many_writers() from None
            except psycopg.Error as error:
                if faults.is_lost(error):
                    link.drop()
                self.lock_fault = lock_fault_of(error)
                if self.deadline.has_passed() or not faults.may_pass(error):
                    raise
                raise RetryLater from error

    def _commit(self, connection: Connection) -> T:
        """Run the operation in a transaction, and commit it (rule 3)."""
        try:
            connection.execute("BEGIN")
            result = self._operation(connection)
        except BaseException:
            roll_back(connection)
            raise

        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if not self._may_repeat and faults.may_have_committed(error):
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
        recent: The recent heads of the thread.
        after_commit: Function of the outcome, called once the turn is committed.

    Attributes:
        lock_fault: The last lock that has delayed it, or None.
    """

    __slots__ = ("after_commit", "append", "deadline", "lock_fault", "recent")

    def __init__(
        self,
        append: Append,
        deadline: Deadline,
        recent: RecentHeads,
        after_commit: Callable[[Appended], object],
    ) -> None:
        self.append = append
        self.deadline = deadline
        self.recent = recent
        self.after_commit = after_commit
        self.lock_fault: LockFault | None = None

    @property
    def session_id(self) -> str:
        """The session of the turn."""
        return self.append.turn.session_id

    def __call__(self, link: Link) -> Appended:
        """Refuse to run alone; `run_batch` runs the operation."""
        raise NotImplementedError  # pragma: no cover - a job needs a function, which is not called


class _Queued(NamedTuple, Generic[Operation_co]):
    """A job and its operation."""

    job: Job[Link]
    operation: Operation_co


_Append: TypeAlias = _Queued[QueuedAppend]
_Either: TypeAlias = _Queued[QueuedAppend | Write[Any]]


def run_batch(link: Link, jobs: Sequence[Job[Link]]) -> None:
    """Run the queued jobs: plain turns together, then every other job alone."""
    queued = [_Queued(job, cast("QueuedAppend | Write[Any]", job.operation)) for job in jobs]
    locked = {each.operation.session_id for each in queued if each.operation.lock_fault} - {None}
    together: list[_Append] = []
    alone: list[_Either] = []
    for each in queued:
        if isinstance(each.operation, QueuedAppend) and each.operation.session_id not in locked:
            together.append(_Queued(each.job, each.operation))
        else:
            alone.append(each)

    _append_in_order(link, together)
    _run_alone(link, alone)


def _run_alone(link: Link, queued: Sequence[_Either]) -> None:
    """Run each job alone, those of one session in their order, until one meets a lock (rule 2)."""
    by_session: dict[object, list[_Either]] = {}
    for each in queued:
        by_session.setdefault(each.operation.session_id or each.job, []).append(each)

    in_order = [each for same in sorted(by_session.values(), key=_last_lock) for each in same]
    has_waited = False
    for job, operation in in_order:
        fault = operation.lock_fault
        if job.is_cancelled:
            continue
        if not has_waited:
            _run(link, job, operation)
            has_waited = operation.lock_fault is not fault
        elif fault is not None and operation.deadline.has_passed():
            job.fail(fault.error)


def _run(link: Link, job: Job[Link], operation: QueuedAppend | Write[Any]) -> None:
    """Run a job alone."""
    if isinstance(operation, QueuedAppend):
        _append_in_order(link, [_Queued(job, operation)])
    else:
        job.run(link)


def _last_lock(queued: Sequence[_Either]) -> float:
    """Return the time at which one of the jobs last met a lock; 0 for never."""
    found = [each.operation.lock_fault for each in queued]
    return max((fault.time for fault in found if fault), default=0.0)


def _append_in_order(link: Link, waiting: Sequence[_Append]) -> None:
    """Append the turns; those of one session one after another."""
    while waiting:
        first: dict[str, _Append] = {}
        size = 0
        for each in waiting:
            if len(first) == _MOST_TOGETHER or size >= _BYTES_TOGETHER:
                break
            if each.operation.session_id not in first:
                first[each.operation.session_id] = each
                size += len(each.operation.append.new.items)

        if not _append_group(link, [*first.values()]):
            return
        waiting = [each for each in waiting if not each.job.is_settled]


def _append_group(link: Link, group: Sequence[_Append]) -> bool:
    """Append turns of different sessions with one statement, and settle their jobs.

    Return False if a fault has left some of them unsettled, to be tried later.
    """
    deadline = min((each.operation.deadline for each in group), key=Deadline.left)
    try:
        connection = link.connection(deadline)
        appends = [each.operation.append for each in group]
        outcomes = append_turns(connection, appends, group[0].operation.recent)
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


def _handle_fault(link: Link, group: Sequence[_Append], error: psycopg.Error) -> bool:
    """Handle the *error* of a group: divide the group, fail its jobs, or leave them unsettled.

    Return False if some of them are unsettled, to be tried later.
    """
    if faults.is_lost(error):
        link.drop()
    is_passing = faults.may_pass(error)

    if len(group) > 1 and (faults.is_locked(error) or not is_passing):
        settled = [_append_group(link, [each]) for each in group]
        return all(settled)

    for job, queued in group:
        queued.lock_fault = lock_fault_of(error)
        if not is_passing or queued.deadline.has_passed():
            job.fail(error)
    return all(job.is_settled for job, _ in group)


def lock_fault_of(error: psycopg.Error) -> LockFault | None:
    """Return the fault of a wait for a lock; None if *error* has another reason."""
    return LockFault(error, now()) if faults.is_locked(error) else None


def too_many_writers() -> SessionError:
    """Return the error of a write for which other writers were faster each time."""
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
