"""The worker thread: a queue of jobs, and outcomes that reach the event loop of each caller."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager

import anyio
import anyio.to_thread
import pytest

from helpers.internals import RetryLater, WorkerThread
from helpers.waiting import until


class Worker:
    """A worker thread on a list, which operations may append to, and its queue."""

    def __init__(self, **parameters):
        self.queue = WorkerThread(**parameters)
        self.run, self.run_in_steps = self.queue.run, self.queue.run_in_steps
        self.list = []
        self.thread = threading.Thread(target=self.queue.serve, args=(self.list,), daemon=True)
        self.thread.start()


@contextmanager
def working(**parameters):
    worker = Worker(**parameters)
    yield worker
    worker.queue.stop()
    worker.thread.join()


@contextmanager
def busy(worker, tasks):
    """Keep the thread busy with one job meanwhile."""
    release = threading.Event()
    begun = threading.Event()

    def wait(_resource):
        begun.set()
        release.wait()

    tasks.start_soon(worker.run, wait)
    yield begun
    release.set()


async def test_an_operation_gets_the_resource_and_its_caller_the_result():
    with working() as worker:
        await worker.run(lambda resource: resource.append(1))
        assert await worker.run(tuple) == (1,)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_an_error_reaches_its_own_caller_only(error):
    outcomes = []

    def fail(_resource):
        raise error

    def fail_in_a_step(_resource):
        yield
        raise error

    async def call(run, operation):
        try:
            outcomes.append(await run(operation))
        except BaseException as caught:
            outcomes.append(type(caught))

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            with busy(worker, tasks):
                tasks.start_soon(call, worker.run, len)
                tasks.start_soon(call, worker.run, fail)
                tasks.start_soon(call, worker.run_in_steps, fail_in_a_step)
                tasks.start_soon(call, worker.run, len)
                await anyio.wait_all_tasks_blocked()
    assert Counter(outcomes) == {0: 2, error: 2}


async def test_jobs_that_wait_run_together_and_an_error_fails_those_without_an_outcome():
    batches = []

    def run_batch(resource, jobs):
        batches.append(len(jobs))
        jobs[0].run(resource)
        if len(jobs) > 1:
            msg = "cannot commit"
            raise ValueError(msg)

    outcomes = []

    async def call():
        try:
            outcomes.append(await worker.run(len))
        except ValueError as error:
            outcomes.append(str(error))

    with working(run_batch=run_batch) as worker:
        async with anyio.create_task_group() as tasks:
            with busy(worker, tasks) as begun:
                await until(begun.is_set)
                for _ in range(3):
                    tasks.start_soon(call)
                await anyio.wait_all_tasks_blocked()
    assert batches == [1, 3]
    assert Counter(outcomes) == {0: 1, "cannot commit": 2}


async def test_an_operation_that_cannot_run_yet_is_tried_again():
    def at_the_third_attempt(resource):
        resource.append("attempt")
        if len(resource) < 3:
            raise RetryLater
        return "done"

    with working() as worker:
        assert await worker.run(at_the_third_attempt) == "done"


async def test_an_operation_that_cannot_run_before_the_thread_stops_tells_its_caller():
    def never(_resource):
        raise RetryLater

    async def call():
        with pytest.raises(RetryLater):
            await worker.run(never)

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            worker.queue.stop()


async def test_a_cancelled_job_is_skipped_unless_it_has_begun():
    with working() as worker:
        async with anyio.create_task_group() as tasks:
            with busy(worker, tasks) as begun:
                await until(begun.is_set)
                with anyio.move_on_after(0):
                    await worker.run(lambda resource: resource.append("skipped"))
                with anyio.move_on_after(0):
                    await worker.run_in_steps(lambda resource: iter(resource.append("skipped")))

        async with anyio.create_task_group() as tasks:

            def run_whole(resource):
                begun.set()
                release.wait()
                resource.append("whole")

            begun, release = threading.Event(), threading.Event()
            tasks.start_soon(worker.run, run_whole)
            await until(begun.is_set)
            tasks.cancel_scope.cancel()
        release.set()
        assert await worker.run(tuple) == ("whole",)


async def test_a_job_that_is_cancelled_while_another_of_its_visit_runs_is_skipped():
    begun, release = threading.Event(), threading.Event()

    def run_long(_resource):
        begun.set()
        release.wait()

    async def run_and_append(scope):
        with scope:
            await worker.run(lambda resource: resource.append("skipped"))

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            with busy(worker, tasks) as waits:
                await until(waits.is_set)
                tasks.start_soon(worker.run, run_long)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(run_and_append, scope)
                await anyio.wait_all_tasks_blocked()

            await until(begun.is_set)  # both were taken from the queue together
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            release.set()
        assert await worker.run(tuple) == ()


def count_to(number):
    def count(resource):
        for n in range(number):
            resource.append(n)
            yield
        return number

    return count


async def test_other_jobs_run_between_two_steps():
    def wait_until_another_job_has_run(resource):
        while "other" not in resource:
            yield
        return "done"

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            for operation in (count_to(3), wait_until_another_job_has_run):
                tasks.start_soon(worker.run_in_steps, operation)
            await anyio.wait_all_tasks_blocked()
            await worker.run(lambda resource: resource.append("other"))
        assert await worker.run_in_steps(count_to(5)) == 5


async def test_a_job_in_steps_that_is_cancelled_is_closed():
    begun, closed = threading.Event(), threading.Event()

    def go_on(_resource):
        begun.set()
        try:
            while True:
                yield
        finally:
            closed.set()

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run_in_steps, go_on)
            await until(begun.is_set)
            tasks.cancel_scope.cancel()
        await until(closed.is_set)


async def test_a_stopped_thread_finishes_the_jobs_that_were_queued_before():
    outcomes = []

    async def call(run, operation):
        outcomes.append(await run(operation))

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            with busy(worker, tasks) as begun:
                await until(begun.is_set)
                tasks.start_soon(call, worker.run_in_steps, count_to(1000))
                tasks.start_soon(call, worker.run, lambda _: "run")
                await anyio.wait_all_tasks_blocked()
                worker.queue.stop()
    assert Counter(outcomes) == {1000: 1, "run": 1}


async def test_a_thousand_outcomes_do_not_stall_the_event_loop():
    rounds = []
    number = 0

    async def count_rounds():
        nonlocal number
        while True:
            number += 1
            await anyio.lowlevel.checkpoint()

    async def call():
        await worker.run(len)
        rounds.append(number)

    with working() as worker:
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as calls:
                with busy(worker, calls) as begun:
                    await until(begun.is_set)
                    for _ in range(1000):
                        calls.start_soon(call)
                    await anyio.wait_all_tasks_blocked()
                    tasks.start_soon(count_rounds)
            tasks.cancel_scope.cancel()
    assert len(rounds) == 1000
    assert max(Counter(rounds).values()) <= 2 * 64


async def test_callers_of_several_event_loops_share_a_thread():
    with working() as worker:
        await anyio.to_thread.run_sync(lambda: anyio.run(worker.run, len, backend="asyncio"))
        await anyio.to_thread.run_sync(lambda: anyio.run(worker.run, len, backend="trio"))
        assert await worker.run(len) == 0


def refuse_three(resource):
    """Refuse a list that holds a 3."""
    if 3 in resource:
        msg = "it holds a 3"
        raise LookupError(msg)


async def test_no_job_but_one_that_needs_no_check_runs_on_a_refused_resource():
    with working(check=refuse_three) as worker:
        await worker.run(lambda resource: resource.append(3))
        with pytest.raises(LookupError, match="holds a 3"):
            await worker.run(tuple)
        with pytest.raises(LookupError, match="holds a 3"):
            await worker.run_in_steps(lambda _: count_to(2))

        await worker.run(list.clear, needs_check=False)
        assert await worker.run(tuple) == ()


async def test_a_job_in_steps_ends_when_the_resource_is_refused_between_two_steps():
    steps = []

    def add(resource):
        for number in range(5):
            resource.append(number)
            steps.append(number)
            yield

    with working(check=refuse_three) as worker:
        with pytest.raises(LookupError, match="holds a 3"):
            await worker.run_in_steps(add)
        assert steps == [0, 1, 2, 3]


async def test_the_error_of_a_job_is_explained_by_the_resource():
    def explain(resource, error):
        return RuntimeError(f"{resource}: {error}")

    def fail(_resource):
        msg = "a fault"
        raise ValueError(msg)

    with working(explain=explain) as worker, pytest.raises(RuntimeError, match=r"\[\]: a fault"):
        await worker.run(fail)


async def test_a_job_that_is_queued_after_the_end_of_the_thread_is_refused():
    with working() as worker:
        pass
    with pytest.raises(RetryLater):
        await worker.run(lambda resource: resource.append("late"))
    assert worker.list == []
