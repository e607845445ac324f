"""Overlapping turns of one session: serialize, append, reject."""

from __future__ import annotations

import asyncio
import contextvars
import functools

import anyio
import pytest

from helpers.layers import memory_over
from helpers.locks import (
    acquire,
    assert_no_lock_is_left,
    count_enclosing_turns,
    count_waiters,
    wait_beside_no_time,
)
from helpers.messages import user
from helpers.services import BlockingModel, repeat_last
from helpers.streams import TextStream
from helpers.waiting import until
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
)
from tower_memory.windows import LastItems


@pytest.fixture(autouse=True)
async def no_lock_is_left_behind(anyio_backend):
    yield
    assert_no_lock_is_left()


def layers_over(store):
    """Return layers that save to *store* directly, through a layer, and through a decorator."""
    save = SaveSession(store)

    @functools.wraps(save.__call__)
    async def decorated(turn):
        return await save(turn)

    return [
        memory_over(store),
        MemoryLayer(LoadSession(store), RetryLayer(on=OSError)(save), session_id="s"),
        MemoryLayer(LoadSession(store), decorated, session_id="s"),
    ]


async def test_serialized_turns_run_one_after_another_in_order_through_every_stack(store):
    model = BlockingModel()
    async with anyio.create_task_group() as tasks:
        for n, layer in enumerate(layers_over(store)):
            tasks.start_soon(layer(model), [user(str(n))])
            await until(lambda n=n: len(model.called) == 1 and count_waiters() == n)
        model.go_on.set()
    assert model.most_at_once == 1
    assert model.called == ["0", "1", "2"]
    history = await store.load("s")
    assert [item["content"] for item in history] == ["0", "re: 0", "1", "re: 1", "2", "re: 2"]


async def test_stores_on_one_file_are_one_store(tmp_path):
    model = BlockingModel()
    one, two = (SqliteSessionStore(tmp_path / "a.db", busy_timeout=n) for n in (1, 2))
    async with one, two, anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(one)(model), [user("a")])
        tasks.start_soon(memory_over(two)(model), [user("b")])
        await until(count_waiters)
        model.go_on.set()
    assert model.most_at_once == 1


async def test_turns_of_other_sessions_and_other_stores_do_not_wait(store):
    model = BlockingModel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store)(model), [user("a")])
        tasks.start_soon(memory_over(store, "other")(model), [user("b")])
        tasks.start_soon(memory_over(InMemorySessionStore())(model), [user("c")])
        await until(lambda: model.under_way == 3)
        model.go_on.set()
    assert sorted(model.called) == ["a", "b", "c"]


async def test_appended_turns_run_at_the_same_time_and_are_both_saved_whole(store):
    model = BlockingModel()
    async with anyio.create_task_group() as tasks:
        for text in "ab":
            tasks.start_soon(memory_over(store, overlap="append")(model), [user(text)])
        await until(lambda: model.under_way == 2)
        model.go_on.set()
    contents = [item["content"] for item in await store.load("s")]
    assert sorted([contents[:2], contents[2:]]) == [["a", "re: a"], ["b", "re: b"]]


async def test_a_turn_is_rejected_without_a_model_call_while_another_is_in_progress(store):
    model = BlockingModel()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store, overlap="reject")(model), [user("a")])
        await until(lambda: model.called)
        with pytest.raises(
            SessionConflict, match="another turn of the session is in progress"
        ) as caught:
            await memory_over(store, overlap="reject")(model)([user("b")])
        assert (caught.value.session_id, caught.value.expected) == ("s", None)
        model.go_on.set()
    assert model.called == ["a"]
    assert await memory_over(store, overlap="reject")(model)([user("c")]) == "re: c"


@pytest.mark.parametrize("through_a_task", [False, True])
async def test_a_turn_that_would_deadlock_with_itself_raises(store, through_a_task):
    async def model(messages):
        if not through_a_task:
            return await service(messages)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service, messages)
        return "unreachable"

    service = memory_over(store)(model)
    with pytest.raises((SessionError, ExceptionGroup)) as caught:
        await service([user("a")])

    error = caught.value
    if isinstance(error, ExceptionGroup):
        (error,) = error.exceptions

    assert "would wait for itself" in str(error)
    assert (await store.load("s")).revision == 0


async def test_memory_applied_twice_for_one_session_raises(store):
    async def model(_messages):
        pytest.fail("the model was called")

    with pytest.raises(SessionError, match="session 's': this turn would wait for itself"):
        await memory_over(store)(memory_over(store)(model))([user("a")])


async def test_memory_nested_for_different_sessions_works(store):
    async def model(messages):
        return f"given {len(messages)}"

    service = memory_over(store, "outer")(memory_over(store, "inner")(model))
    assert await service([user("a")]) == "given 1"
    # All items that the outer layer adds are new to the inner layer.
    assert await service([user("b")]) == "given 5"


async def test_two_turns_that_would_deadlock_raise(store):
    inside = {"a": anyio.Event(), "b": anyio.Event()}
    outcomes = []

    async def model(_messages):
        return "done"

    def crossing(mine, other):
        async def call(messages):
            inside[mine].set()
            await inside[other].wait()
            return await memory_over(store, other)(model)(messages)

        return memory_over(store, mine)(call)

    async def run(service):
        try:
            outcomes.append(await service([user("x")]))
        except SessionError as error:
            outcomes.append("would wait for itself" in str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, crossing("a", "b"))
        tasks.start_soon(run, crossing("b", "a"))

    assert sorted(outcomes, key=str) == [True, "done"]


async def test_a_task_that_outlives_the_turn_that_started_it_may_take_its_own_turn(store):
    turn_over = anyio.Event()
    replies = []

    async def model(_messages):
        return "ok"

    async def later():
        await turn_over.wait()
        replies.append(await memory_over(store)(model)([user("later")]))

    async def starting(messages):
        tasks.start_soon(later)
        return await model(messages)

    async with anyio.create_task_group() as tasks:
        await memory_over(store)(starting)([user("first")])
        turn_over.set()

    assert replies == ["ok"]


class LazyWorker:
    """A turn of session s whose model starts a worker, which takes a turn of that session too.

    Attributes:
        start: Starts the worker.
        outcomes: The worker's reply, or the error of its turn.
    """

    def __init__(self, store, start):
        self.memory = memory_over(store)
        self.start = start
        self.outcomes = []
        self.has_ended = anyio.Event()

    async def work(self):
        try:
            self.outcomes.append(await self.memory(repeat_last)([user("job")]))
        except SessionError as error:
            self.outcomes.append(str(error))
        self.has_ended.set()

    async def model(self, messages):
        self.start(self.work)
        await until(lambda: count_waiters() or self.outcomes)
        return await repeat_last(messages)

    async def waiting_model(self, messages):
        self.start(self.work)
        await self.has_ended.wait()
        return await repeat_last(messages)


async def assert_both_turns_were_saved(store, worker):
    """Check that the worker's turn came after the turn in which it was started."""
    assert worker.outcomes == ["re: job"]
    contents = [item["content"] for item in await store.load("s")]
    assert contents == ["first", "re: first", "job", "re: job"]


async def test_a_worker_started_in_a_turn_may_wait_for_it_if_its_task_group_is_outside(store):
    async with anyio.create_task_group() as tasks:
        worker = LazyWorker(store, tasks.start_soon)
        tasks.start_soon(worker.memory(worker.model), [user("first")])
    await assert_both_turns_were_saved(store, worker)


async def test_a_worker_started_in_a_turn_may_wait_for_it_if_its_context_is_empty(store):
    async with anyio.create_task_group() as tasks:
        worker = LazyWorker(store, lambda work: contextvars.Context().run(tasks.start_soon, work))
        await worker.memory(worker.model)([user("first")])
    await assert_both_turns_were_saved(store, worker)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bare_task_started_in_a_turn_may_wait_for_it_if_its_context_is_empty(store):
    started = []
    worker = LazyWorker(
        store,
        lambda work: started.append(asyncio.create_task(work(), context=contextvars.Context())),
    )
    await worker.memory(worker.model)([user("first")])
    await started[0]
    await assert_both_turns_were_saved(store, worker)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("group", [anyio.create_task_group, asyncio.TaskGroup, None])
async def test_a_task_that_the_turn_may_wait_for_raises_and_the_error_names_the_remedy(
    store, group
):
    started = []

    async def run(group):
        def start(work):
            if isinstance(group, anyio.abc.TaskGroup):
                group.start_soon(work)
            else:
                started.append((group or asyncio).create_task(work()))

        worker = LazyWorker(store, start)
        await worker.memory(worker.model)([user("first")])
        return worker

    if group is None:
        worker = await run(None)
    else:
        async with group() as tasks:
            worker = await run(tasks)

    (error,) = worker.outcomes
    assert "would wait for itself" in error
    assert "asyncio.create_task(..., context=contextvars.Context())" in error


async def test_a_task_deep_in_a_task_group_of_the_turn_raises(store):
    outcomes = []

    async def work():
        worker = LazyWorker(store, None)
        await worker.work()
        outcomes.extend(worker.outcomes)

    async def nest(levels):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(*((nest, levels - 1) if levels else (work,)))

    async def model(messages):
        await nest(2)
        return await repeat_last(messages)

    with anyio.fail_after(30):  # it raises at once
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memory_over(store)(model), [user("first")])

    assert len(outcomes) == 1
    assert "would wait for itself" in outcomes[0]


@pytest.mark.parametrize("names_the_loop", [False, True])
async def test_a_task_that_a_thread_of_the_turn_starts_raises(store, names_the_loop):
    token = anyio.lowlevel.current_token() if names_the_loop else None

    async def model(messages):
        worker = LazyWorker(store, None)
        run = functools.partial(anyio.from_thread.run, worker.work, token=token)
        await anyio.to_thread.run_sync(run)
        outcomes.extend(worker.outcomes)
        return await repeat_last(messages)

    outcomes = []
    with anyio.fail_after(30):  # it raises at once
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(memory_over(store)(model), [user("first")])
    assert "would wait for itself" in outcomes[0]


async def test_a_turn_that_waits_for_its_worker_does_not_hang_for_ever(store, monkeypatch):
    wait_beside_no_time(monkeypatch)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            worker = LazyWorker(store, tasks.start_soon)
            tasks.start_soon(worker.memory(worker.waiting_model), [user("first")])

    assert "would wait for itself" in worker.outcomes[0]
    assert [item["content"] for item in await store.load("s")] == ["first", "re: first"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_worker_of_another_tree_of_tasks_than_its_turn_raises(store):
    async with anyio.create_task_group() as tasks:
        worker = LazyWorker(store, tasks.start_soon)
        await asyncio.create_task(worker.memory(worker.model)([user("first")]))
    assert "would wait for itself" in worker.outcomes[0]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only asyncio keeps a finished task
async def test_a_worker_raises_if_the_task_that_started_it_has_finished_before_its_turn(store):
    is_over = anyio.Event()

    async def later():
        await is_over.wait()
        await worker.work()

    async def stream(_messages):
        tasks.start_soon(later)
        return TextStream("a")

    worker = LazyWorker(store, None)
    async with anyio.create_task_group() as tasks:
        call = asyncio.create_task(memory_over(store)(stream)([user("first")]))
        async with await call:
            is_over.set()
            await worker.has_ended.wait()
    assert "would wait for itself" in worker.outcomes[0]


async def test_turns_that_each_start_the_task_of_the_next_do_not_accumulate(store):
    known = []

    async def generation(number, over=None):
        if over:
            await over.wait()

        async def starting(_messages):
            known.append(count_enclosing_turns())
            if number:
                tasks.start_soon(generation, number - 1, mine)
            return "ok"

        mine = anyio.Event()
        await memory_over(store)(starting)([user("x")])
        mine.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generation, 4)
    assert known == [1] * 5


async def test_a_waiter_that_is_cancelled_does_not_change_the_order_of_the_others(store):
    model = BlockingModel()
    scope = anyio.CancelScope()

    async def call(text, scope=None):
        with scope or anyio.CancelScope():
            await memory_over(store)(model)([user(text)])

    async with anyio.create_task_group() as tasks:
        for n, (text, each) in enumerate([("a", None), ("b", scope), ("c", None)]):
            tasks.start_soon(call, text, each)
            await until(lambda n=n: model.called and count_waiters() == n)
        scope.cancel()
        await until(lambda: count_waiters() == 1)
        model.go_on.set()

    assert model.called == ["a", "c"]


async def test_a_turn_cancelled_as_it_gets_the_lock_passes_it_to_the_next_waiter(store):
    first = await acquire(store, "s", wait=True)
    scope = anyio.CancelScope()
    taken = []

    async def wait(name, scope):
        with scope:
            turn = await acquire(store, "s", wait=True)
            taken.append(name)
            turn.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "cancelled", scope)
        await until(lambda: count_waiters() == 1)
        tasks.start_soon(wait, "next", anyio.CancelScope())
        await until(lambda: count_waiters() == 2)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        first.release()

    assert taken == ["next"]


async def test_a_store_that_cannot_be_hashed_or_is_falsy_is_identified_by_equality():
    class Odd:
        def __init__(self):
            self.kept = InMemorySessionStore()

        def __hash__(self):
            raise TypeError

        def __eq__(self, other):
            return self is other

        def __len__(self):
            return 0

        async def load(self, session_id, *, limit=None):
            return await self.kept.load(session_id, limit=limit)

        async def append(self, turn):
            return await self.kept.append(turn)

        async def pop(self, session_id):
            return await self.kept.pop(session_id)

        async def clear(self, session_id):
            return await self.kept.clear(session_id)

    model = BlockingModel()
    store = Odd()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory_over(store)(model), [user("a")])
        tasks.start_soon(memory_over(store)(model), [user("b")])
        await until(count_waiters)
        model.go_on.set()

    assert model.most_at_once == 1


async def test_ending_a_turn_twice_does_not_end_the_next_turn(store):
    first = await acquire(store, "s", wait=True)
    first.release()
    second = await acquire(store, "s", wait=True)
    first.release()
    with pytest.raises(SessionConflict):
        await acquire(store, "s", wait=False)
    second.release()


async def test_waiters_get_the_lock_in_order_even_if_some_are_cancelled(store):
    asked, came = range(30), []
    scopes = {number: anyio.CancelScope() for number in asked}

    async def take(number):
        with scopes[number]:
            turn = await acquire(store, "s", wait=True)
            came.append(number)
            await anyio.lowlevel.checkpoint()
            turn.release()

    first = await acquire(store, "s", wait=True)
    async with anyio.create_task_group() as tasks:
        for number in asked:
            tasks.start_soon(take, number)
            await until(lambda number=number: count_waiters() == number + 1)
        for number in asked[::3]:  # the first waiter is cancelled, too
            scopes[number].cancel()
        first.release()

    assert came == [number for number in asked if number % 3]


async def stepping(_messages):
    while True:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # its coroutines can be run by hand
@pytest.mark.parametrize("window", [None, LastItems(2)])
async def test_a_call_may_be_finalized_in_another_context_than_its_own(window):
    for steps in range(1, 5):
        call = memory_over(InMemorySessionStore(), window=window)(stepping)([user("a")])
        context = contextvars.copy_context()
        for _ in range(steps):
            context.run(call.send, None)
        call.close()
    assert_no_lock_is_left()
