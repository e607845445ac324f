"""Overlapping turns of one session: serialize, append, reject."""

from __future__ import annotations

import contextvars
import functools

import anyio
import pytest

from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
)
from tower_memory._overlap import _all_locks, _part_of, begin_turn
from tower_memory.windows import LastItems


def user(text):
    return {"role": "user", "content": text}


def remembering(store, session_id="s", **parameters):
    return MemoryLayer(LoadSession(store), SaveSession(store), session_id=session_id, **parameters)


@pytest.fixture(autouse=True)
async def no_lock_is_left_behind(anyio_backend):
    yield
    assert not _all_locks.get({})


class Model:
    """A model that answers when told to, and knows how many calls are under way."""

    def __init__(self):
        self.called = []
        self.most_at_once = 0
        self.under_way = 0
        self.go_on = anyio.Event()

    async def __call__(self, messages):
        self.called.append(messages[-1]["content"])
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.go_on.wait()
        finally:
            self.under_way -= 1
        return f"re: {messages[-1]['content']}"


async def until(condition):
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()


def layers_over(store):
    """Three ways to the same store: directly, through a layer, and through a decorator."""
    save = SaveSession(store)

    @functools.wraps(save.__call__)
    async def decorated(turn):
        return await save(turn)

    return [
        remembering(store),
        MemoryLayer(LoadSession(store), RetryLayer(on=OSError)(save), session_id="s"),
        MemoryLayer(LoadSession(store), decorated, session_id="s"),
    ]


async def test_serialized_turns_run_one_after_another_in_order_through_whatever_stack(store):
    model = Model()
    async with anyio.create_task_group() as tasks:
        for n, layer in enumerate(layers_over(store)):
            tasks.start_soon(layer(model), [user(str(n))])
            await until(lambda n=n: len(model.called) == 1 and waiting() == n)
        model.go_on.set()
    assert model.most_at_once == 1
    assert model.called == ["0", "1", "2"]
    history = await store.load("s")
    assert [item["content"] for item in history] == ["0", "re: 0", "1", "re: 1", "2", "re: 2"]


def waiting():
    """How many turns wait for a lock."""
    return sum(len(lock.waiting) for lock in _all_locks.get({}).values())


async def test_stores_on_one_file_are_one_store(tmp_path):
    model = Model()
    one, two = (SqliteSessionStore(tmp_path / "a.db", busy_timeout=n) for n in (1, 2))
    async with one, two, anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(one)(model), [user("a")])
        tasks.start_soon(remembering(two)(model), [user("b")])
        await until(waiting)
        model.go_on.set()
    assert model.most_at_once == 1


async def test_turns_of_other_sessions_and_other_stores_do_not_wait(store):
    model = Model()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(store)(model), [user("a")])
        tasks.start_soon(remembering(store, "other")(model), [user("b")])
        tasks.start_soon(remembering(InMemorySessionStore())(model), [user("c")])
        await until(lambda: model.under_way == 3)
        model.go_on.set()
    assert sorted(model.called) == ["a", "b", "c"]


async def test_appended_turns_run_side_by_side_and_both_are_kept_whole(store):
    model = Model()
    async with anyio.create_task_group() as tasks:
        for text in "ab":
            tasks.start_soon(remembering(store, overlap="append")(model), [user(text)])
        await until(lambda: model.under_way == 2)
        model.go_on.set()
    contents = [item["content"] for item in await store.load("s")]
    assert sorted([contents[:2], contents[2:]]) == [["a", "re: a"], ["b", "re: b"]]


async def test_a_rejected_turn_costs_no_call_while_the_other_is_under_way(store):
    model = Model()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(store, overlap="reject")(model), [user("a")])
        await until(lambda: model.called)
        with pytest.raises(SessionConflict, match="another turn of it is under way") as caught:
            await remembering(store, overlap="reject")(model)([user("b")])
        assert (caught.value.session_id, caught.value.expected) == ("s", None)
        model.go_on.set()
    assert model.called == ["a"]
    assert await remembering(store, overlap="reject")(model)([user("c")]) == "re: c"


async def test_a_session_cleared_during_a_turn_gets_that_turn(store):
    await store.append(Turn("s", [user("old")]))

    async def model(_messages):
        await store.clear("s")
        return "cleared"

    await remembering(store)(model)([user("clear it")])
    assert [item["content"] for item in await store.load("s")] == ["clear it", "cleared"]


@pytest.mark.parametrize("through_a_task", [False, True])
async def test_a_turn_that_would_wait_for_itself_raises(store, through_a_task):
    async def model(messages):
        if not through_a_task:
            return await service(messages)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service, messages)
        return "unreachable"

    service = remembering(store)(model)
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
        await remembering(store)(remembering(store)(model))([user("a")])


async def test_memory_nested_for_different_sessions_works(store):
    async def model(messages):
        return f"given {len(messages)}"

    service = remembering(store, "outer")(remembering(store, "inner")(model))
    assert await service([user("a")]) == "given 1"
    # What the outer memory adds is new to the inner one.
    assert await service([user("b")]) == "given 5"


async def test_two_turns_that_would_wait_for_each_other_do_not_wait_for_ever(store):
    inside = {"a": anyio.Event(), "b": anyio.Event()}
    outcomes = []

    async def model(_messages):
        return "done"

    def crossing(mine, other):
        async def call(messages):
            inside[mine].set()
            await inside[other].wait()
            return await remembering(store, other)(model)(messages)

        return remembering(store, mine)(call)

    async def run(service):
        try:
            outcomes.append(await service([user("x")]))
        except SessionError as error:
            outcomes.append("would wait for itself" in str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, crossing("a", "b"))
        tasks.start_soon(run, crossing("b", "a"))
    assert sorted(outcomes, key=str) == [True, "done"]


async def test_a_task_that_outlives_the_turn_it_was_started_in_may_take_its_own(store):
    turn_over = anyio.Event()
    replies = []

    async def model(_messages):
        return "ok"

    async def later():
        await turn_over.wait()
        replies.append(await remembering(store)(model)([user("later")]))

    async def starting(messages):
        tasks.start_soon(later)
        return await model(messages)

    async with anyio.create_task_group() as tasks:
        await remembering(store)(starting)([user("first")])
        turn_over.set()
    assert replies == ["ok"]


async def test_turns_that_each_start_the_task_of_the_next_do_not_pile_up(store):
    known = []

    async def generation(number, over=None):
        if over:
            await over.wait()

        async def starting(_messages):
            known.append(len(_part_of.get()))
            if number:
                tasks.start_soon(generation, number - 1, mine)
            return "ok"

        mine = anyio.Event()
        await remembering(store)(starting)([user("x")])
        mine.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generation, 4)
    assert known == [1] * 5


async def test_a_turn_cancelled_while_it_waits_leaves_the_others_their_places(store):
    model = Model()
    scope = anyio.CancelScope()

    async def call(text, scope=None):
        with scope or anyio.CancelScope():
            await remembering(store)(model)([user(text)])

    async with anyio.create_task_group() as tasks:
        for n, (text, each) in enumerate([("a", None), ("b", scope), ("c", None)]):
            tasks.start_soon(call, text, each)
            await until(lambda n=n: model.called and waiting() == n)
        scope.cancel()
        await until(lambda: waiting() == 1)
        model.go_on.set()
    assert model.called == ["a", "c"]


async def test_a_turn_cancelled_as_its_turn_comes_leaves_it_to_the_next(store):
    first = await begin_turn(store, "s", wait=True)
    scope = anyio.CancelScope()
    taken = []

    async def wait(name, scope):
        with scope:
            turn = await begin_turn(store, "s", wait=True)
            taken.append(name)
            turn.end()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "cancelled", scope)
        await until(lambda: waiting() == 1)
        tasks.start_soon(wait, "next", anyio.CancelScope())
        await until(lambda: waiting() == 2)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        first.end()
    assert taken == ["next"]


async def test_a_store_that_cannot_be_hashed_or_is_empty_is_told_by_what_it_is():
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

    model = Model()
    store = Odd()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(store)(model), [user("a")])
        tasks.start_soon(remembering(store)(model), [user("b")])
        await until(waiting)
        model.go_on.set()
    assert model.most_at_once == 1


async def test_a_turn_that_was_ended_does_not_end_the_next_one(store):
    first = await begin_turn(store, "s", wait=True)
    first.end()
    second = await begin_turn(store, "s", wait=True)
    first.end()
    with pytest.raises(SessionConflict):
        await begin_turn(store, "s", wait=False)
    second.end()


async def test_turns_come_in_the_order_they_were_asked_for_though_some_are_cancelled(store):
    asked, came = range(30), []
    scopes = {number: anyio.CancelScope() for number in asked}

    async def take(number):
        with scopes[number]:
            turn = await begin_turn(store, "s", wait=True)
            came.append(number)
            await anyio.lowlevel.checkpoint()
            turn.end()

    first = await begin_turn(store, "s", wait=True)
    async with anyio.create_task_group() as tasks:
        for number in asked:
            tasks.start_soon(take, number)
            await until(lambda number=number: waiting() == number + 1)
        for number in asked[::3]:  # the first in line is one
            scopes[number].cancel()
        first.end()
    assert came == [number for number in asked if number % 3]


async def stepping(_messages):
    while True:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # whose calls can be run by hand
@pytest.mark.parametrize("window", [None, LastItems(2)])
async def test_a_call_may_be_finalized_in_another_context_than_it_began_in(window):
    for steps in range(1, 5):
        call = remembering(InMemorySessionStore(), window=window)(stepping)([user("a")])
        context = contextvars.copy_context()
        for _ in range(steps):
            context.run(call.send, None)
        call.close()
    assert not _all_locks.get({})
