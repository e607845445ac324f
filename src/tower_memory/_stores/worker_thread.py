"""A worker thread that owns one resource, such as a database connection, and runs jobs on it.

1. A caller appends a job to a queue and waits until the thread has settled it. Callers may run in
   any event loop: the thread reports each outcome to the loop of its caller.
2. The thread takes all queued jobs in one visit, because switching threads costs more than most
   jobs. The function `run_batch` decides how they run: one by one, or in one transaction.
3. A job of a cancelled caller is skipped if it has not begun; a job that has begun runs whole. No
   caller depends on another: every exception of an operation, even `SystemExit`, is the outcome of
   its own job only.
4. A job in steps is a generator. Between two steps the thread runs other jobs, so a long load does
   not delay short ones. The thread also pauses now and then so that the event loop can run, which
   would otherwise wait for Python's switch interval.
5. A job that `run_batch` leaves unsettled is tried again, together with the next jobs or after
   `_RETRY_DELAY`. The thread measures the delay itself, so it needs no clock of an event loop.
6. Before each visit the thread checks that the resource may be used; a check that fails is the
   outcome of all jobs that need it. After a failed job, `explain` may find a better error.
7. A job that is queued after the thread has stopped fails with `RetryLater`. A caller that has
   waited as long as its patience gets `NoAnswer`, as if it had been cancelled.
8. A caller is woken in a later round of its loop, at most `_PART_LENGTH` callers in one round: many
   simultaneous turns do not stall the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import sleep
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar, final

from anyio import move_on_after
from anyio.lowlevel import EventLoopToken

from tower_memory._portal import call_soon
from tower_memory._stores.clock import Patience, now
from tower_memory._stores.jobs import Job, NoAnswer, RetryLater

Resource = TypeVar("Resource")
T = TypeVar("T")

_RETRY_DELAY: Final = 0.02
"""Maximum seconds before an unsettled job is tried again."""

_PART_LENGTH: Final = 64
"""Maximum number of callers that are woken in one round of their event loop."""

_PAUSE_INTERVAL: Final = 0.001
"""Seconds between two pauses while jobs run in steps."""

_PAUSE: Final = 1e-6
"""Seconds that a pause asks to sleep. Systems sleep about fifty times as long, which lets another
thread wake up."""

RunBatch: TypeAlias = Callable[[Resource, list[Job[Resource]]], object]
"""Function that runs jobs on a resource and settles them; it may leave some to be tried again."""

BeforeSteps: TypeAlias = Callable[[Resource, Sequence[Job[Resource]]], object]
"""Function that prepares jobs in steps for their first steps."""


def run_each(resource: Resource, jobs: Iterable[Job[Resource]]) -> None:
    """Run the jobs one after another."""
    for job in jobs:
        if not job.is_cancelled:
            job.run(resource)


class _State(NamedTuple, Generic[Resource]):
    """The state of a worker thread between two visits.

    Attributes:
        retried: Jobs to try again.
        stepped: Jobs in steps that are not finished.
        is_stopped: True once the thread was asked to stop.
    """

    retried: Sequence[Job[Resource]]
    stepped: Sequence[Job[Resource]]
    is_stopped: bool = False


def _accept(_resource: object) -> None:
    """Accept every resource."""


def _do_nothing(_resource: object, _jobs: object) -> None:
    """Prepare nothing."""


def _keep_error(_resource: object, error: BaseException) -> BaseException:
    """Return *error*."""
    return error


@final
class WorkerThread(Generic[Resource]):
    """The queue of one worker thread. The thread itself calls `serve`.

    Args:
        run_batch: Runs the jobs of one visit, except jobs in steps. If it raises, its error is the
            outcome of each job that it has not settled.
        check: Raises if the resource may not be used (rule 6).
        explain: Returns the error to raise for the error of a job (rule 6).
        before_steps: Called with the jobs in steps that begin in a visit, before their first steps.
            It must not raise.
    """

    def __init__(
        self,
        run_batch: RunBatch[Resource] = run_each,
        *,
        check: Callable[[Resource], object] = _accept,
        explain: Callable[[Resource, BaseException], BaseException] = _keep_error,
        before_steps: BeforeSteps[Resource] = _do_nothing,
    ) -> None:
        self._run_batch = run_batch
        self._before_steps = before_steps
        self._check = check
        self._explain = explain
        self._queue: SimpleQueue[Job[Resource] | None] = SimpleQueue()
        self._has_stopped = False

    async def run(
        self,
        operation: Callable[[Resource], T],
        *,
        needs_check: bool = True,
        loop: EventLoopToken | None = None,
        patience: Patience | None = None,
    ) -> T:
        """Run *operation(resource)* on the thread and return its result.

        Args:
            operation: Function of the resource.
            needs_check: If False, the operation runs even if the check of the resource fails.
            loop: The caller's event loop, if it is known; asking for it takes a few microseconds.
            patience: Maximum wait of the caller; None waits until the thread has settled the job.

        Raises:
            RetryLater: The thread was stopped before the operation could run.
            NoAnswer: The caller's patience has ended before the thread has settled the job.
        """
        job = Job(operation, needs_check=needs_check, loop=loop)
        result: T = await self._outcome_of(job, patience)
        return result

    async def run_in_steps(
        self,
        operation: Callable[[Resource], Generator[None, None, T]],
        *,
        loop: EventLoopToken | None = None,
        patience: Patience | None = None,
    ) -> T:
        """Run the generator *operation(resource)* on the thread and return its return value.

        If the caller is cancelled, the generator is closed at its next yield. *loop* and
        *patience* are those of `run`.
        """
        result: T = await self._outcome_of(Job(operation, in_steps=True, loop=loop), patience)
        return result

    def stop(self) -> None:
        """Let the thread return from `serve` after all jobs that were queued before."""
        self._queue.put(None)

    def serve(self, resource: Resource) -> None:
        """Run jobs on *resource* until `stop` is called; called on the worker thread."""
        state: _State[Resource] = _State([], [])
        pause = _Pause()
        while not state.is_stopped or state.stepped:
            timeout = 0 if state.stepped else _RETRY_DELAY if state.retried else None
            # While the thread waits, no variable here refers to a finished job and its result.
            state = self._visit(resource, self._take(timeout), state, pause)

        self._has_stopped = True
        self._refuse_late_jobs()

    def _visit(
        self,
        resource: Resource,
        taken: Sequence[Job[Resource] | None],
        state: _State[Resource],
        pause: Callable[[], None],
    ) -> _State[Resource]:
        """Run the jobs *taken* from the queue and those of *state*; return the new state."""
        jobs = [job for job in taken if job is not None]
        is_stopped = state.is_stopped or len(jobs) < len(taken)
        batch = [*state.retried, *(job for job in jobs if not job.in_steps)]
        batch = [job for job in batch if not job.is_cancelled]
        new = [job for job in jobs if job.in_steps and not job.is_cancelled]
        stepped = [*state.stepped, *new]

        self._check_for(resource, [*batch, *stepped])
        self._run(resource, [job for job in batch if not job.is_settled])
        self._before_steps(resource, new)
        for job in stepped:
            if not job.is_settled:
                job.step(resource)
            if not job.is_settled:
                pause()

        retried = [job for job in batch if not job.is_settled]
        if is_stopped:
            for job in retried:
                job.fail(RetryLater())
            retried = []

        self._finish(resource, [*batch, *stepped])
        return _State(retried, [job for job in stepped if not job.is_settled], is_stopped)

    async def _outcome_of(self, job: Job[Resource], patience: Patience | None) -> Any:
        """Queue *job*, wait until it is settled, and return its outcome."""
        self._queue.put(job)
        if self._has_stopped:
            self._refuse_late_jobs()

        try:
            if patience is None:
                await job.done.wait()
            else:
                await _wait_patiently(job, patience)
        except BaseException:
            job.is_cancelled = True
            raise

        return job.outcome()

    def _refuse_late_jobs(self) -> None:
        """Fail the jobs that were queued after the last visit (rule 7)."""
        jobs = [job for job in self._take(0) if job is not None]
        for job in jobs:
            job.fail(RetryLater())
        _wake_callers(jobs)

    def _take(self, timeout: float | None) -> list[Job[Resource] | None]:
        """Empty the queue; wait at most *timeout* seconds for the first element, or for ever."""
        taken: list[Job[Resource] | None] = []
        with suppress(Empty):
            taken.append(self._queue.get(timeout=timeout))
            while True:
                taken.append(self._queue.get_nowait())
        return taken

    def _check_for(self, resource: Resource, jobs: Iterable[Job[Resource]]) -> None:
        """Let the *jobs* that need a usable resource fail if it is not usable (rule 6)."""
        try:
            self._check(resource)
        except BaseException as error:  # noqa: BLE001 - outcome() raises it to the callers
            for job in jobs:
                if job.needs_check:
                    job.fail(error)

    def _run(self, resource: Resource, batch: list[Job[Resource]]) -> None:
        if not batch:
            return
        try:
            self._run_batch(resource, batch)
        except BaseException as error:  # noqa: BLE001 - outcome() raises it to the callers
            for job in batch:
                if not job.is_settled:
                    job.fail(error)

    def _finish(self, resource: Resource, jobs: Sequence[Job[Resource]]) -> None:
        """Find better errors for the failed jobs, and wake the callers of all settled jobs."""
        for job in jobs:
            if job.error is not None:
                job.fail(self._explain(resource, job.error))
        _wake_callers(jobs)


@final
class _Pause:
    """Lets other threads run, if the last pause is at least `_PAUSE_INTERVAL` ago."""

    def __init__(self) -> None:
        self._next = now() + _PAUSE_INTERVAL

    def __call__(self) -> None:
        if now() >= self._next:
            sleep(_PAUSE)
            self._next = now() + _PAUSE_INTERVAL


async def _wait_patiently(job: Job[Any], patience: Patience) -> None:
    """Wait until *job* is settled.

    Raises:
        NoAnswer: The patience has ended.
    """
    while not job.done.is_set():
        seconds = patience.left()
        if not seconds:
            raise NoAnswer
        with move_on_after(seconds):
            await job.done.wait()


def _wake_callers(jobs: Iterable[Job[Any]]) -> None:
    """Wake the callers of all settled jobs, each in its own event loop."""
    by_loop: dict[EventLoopToken, list[Job[Any]]] = {}
    for job in jobs:
        if job.is_settled:
            by_loop.setdefault(job.loop, []).append(job)

    for loop, settled in by_loop.items():
        call_soon(loop, partial(_wake, loop, settled))


def _wake(loop: EventLoopToken, jobs: list[Job[Any]]) -> None:
    """Wake the callers of *jobs* in parts (rule 8); called in their event loop."""
    for job in jobs[:_PART_LENGTH]:
        job.done.set()
    if rest := jobs[_PART_LENGTH:]:
        call_soon(loop, partial(_wake, loop, rest))
