"""The memory layer: what reaches the model, what is saved, and what happens when something fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from weakref import ref

import anyio
import pytest

from tower_memory import (
    CorruptSessionError,
    History,
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    RunItem,
    SaveError,
    SaveSession,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    Turn,
    TurnExists,
    UnencodableItemError,
)
from tower_memory._history import TurnStart
from tower_memory.dialects import ChatCompletions
from tower_memory.windows import LastTurns


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def remembering(store, **parameters):
    return MemoryLayer(LoadSession(store), SaveSession(store), **{"session_id": "s", **parameters})


class Boom(Exception):
    pass


async def echo(messages):
    """A model that repeats what it was told last."""
    return f"re: {messages[-1]['content']}"


async def not_called(request):
    pytest.fail(f"the model was called with {request!r}")


async def test_the_model_gets_the_history_before_the_new_messages(store):
    given = []

    async def model(messages):
        given.append(messages)
        return await echo(messages)

    service = remembering(store)(model)
    assert await service([user("a")]) == "re: a"
    assert await service([user("b")]) == "re: b"
    turns = [user("a"), assistant("re: a"), user("b"), assistant("re: b")]
    assert given == [turns[:1], turns[:3]]
    assert await store.load("s") == turns


async def test_a_turn_is_saved_in_one_write(store):
    await remembering(store)(echo)([user("a"), user("b")])
    (start,) = (await store.load("s")).turns
    assert start.position == 0


async def test_the_request_is_not_changed_and_the_response_is_the_same_object(store):
    @dataclass
    class Reply:
        role: str
        content: str

    reply = Reply("assistant", "Hi")
    request = {"model": "m", "messages": [user("a")], "tools": [object()]}
    before = {**request, "messages": list(request["messages"])}

    async def model(given):
        assert given["tools"] is request["tools"]
        given["messages"].append("the model's own")
        given["messages"][0]["content"] = "changed"
        return reply

    await store.append(Turn("s", [user("old")]))
    assert await remembering(store)(model)(request) is reply
    assert request == before
    assert await store.load("s") == [user("old"), user("a"), assistant("Hi")]


async def test_what_the_model_does_to_the_request_does_not_change_what_is_saved(store):
    async def model(messages):
        messages[-1]["content"] = "changed"
        return "ok"

    await remembering(store)(model)([user("said")])
    assert await store.load("s") == [user("said"), assistant("ok")]


async def test_one_layer_serves_many_sessions(store):
    service = remembering(store, session_id=lambda request: request["user"])(
        lambda request: echo(request["messages"])
    )
    for name in ("ann", "bob", "ann"):
        await service({"user": name, "messages": [user(name)]})
    assert len(await store.load("ann")) == 4
    assert len(await store.load("bob")) == 2


async def test_any_service_may_load_and_save():
    saved = []

    async def load(session_id):
        return History([user(f"loaded for {session_id}")], revision=1)

    async def save(turn):
        saved.append(turn)
        return 2

    async def model(messages):
        return f"given {len(messages)}"

    assert await MemoryLayer(load, save, session_id="s")(model)([user("a")]) == "given 2"
    (turn,) = saved
    assert (turn.session_id, list(turn.items)) == ("s", [user("a"), assistant("given 2")])


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_history_is_let_go_of_once_the_model_has_answered(is_streamed):
    class Message(dict):
        """One that can be watched."""

    watched, held = [], []

    async def load(_session_id):
        loaded = Message(user("a"))
        watched.append(ref(loaded))
        return History([loaded])

    async def model(_messages):
        async def chunks():
            held.append(watched[0]())
            yield "done"

        return chunks() if is_streamed else "done"

    async def save(_turn):
        held.append(watched[0]())
        return 1

    response = await MemoryLayer(load, save, session_id="s")(model)([user("b")])
    if is_streamed:
        assert [chunk async for chunk in response] == ["done"]
    assert held == [None] * (2 if is_streamed else 1)


async def test_an_agent_that_adds_to_the_list_it_was_given_is_stored_whole(store):
    async def agent(request):
        request["messages"].append(assistant("step"))
        request["messages"].append(assistant("done"))
        return request

    service = remembering(store)(agent)
    for text in ("a", "a"):
        await service({"messages": [{"role": "system", "content": "x"}, user(text)]})
    assert await store.load("s") == [user("a"), assistant("step"), assistant("done")] * 2


async def test_a_load_that_gives_no_history_costs_no_call():
    async def load(_session_id):
        return []

    for overlap in ("append", "reject"):
        layer = MemoryLayer(load, echo, session_id="s", overlap=overlap)
        with pytest.raises(TypeError, match="load must give a History, got list"):
            await layer(not_called)([user("a")])


async def test_a_dialect_that_fails_while_it_reads_the_reply_does_not_lose_it(store):
    class Failing:
        new_items = staticmethod(ChatCompletions().new_items)
        with_history = staticmethod(ChatCompletions().with_history)

        def reply_items(self, _request, _response):
            yield assistant("half")
            raise Boom

    with pytest.raises(SaveError) as caught:
        await remembering(store, dialect=Failing())(echo)([user("a")])
    assert caught.value.response == "re: a"
    assert await store.load("s") == []


async def test_a_revision_that_cannot_be_expected_costs_no_call():
    async def load(_session_id):
        return History(revision=2**64)

    layer = MemoryLayer(load, echo, session_id="s", overlap="reject")
    with pytest.raises(ValueError, match="expected_revision"):
        await layer(not_called)([user("a")])


async def test_an_error_that_cannot_say_what_it_is_does_not_lose_the_reply(store):
    class Speechless(Exception):
        def __str__(self):
            raise Boom

    async def save(_turn):
        raise Speechless

    layer = MemoryLayer(LoadSession(store), save, session_id="s")
    with pytest.raises(SaveError, match="Speechless") as caught:
        await layer(echo)([user("a")])
    assert caught.value.response == "re: a"


async def test_a_store_that_orders_keys_its_own_way_holds_the_same_turn():
    turns = []

    async def load(_session_id):
        items = [dict(sorted(item.items())) for turn in turns for item in turn.items]
        return History(
            items, revision=len(turns), turns=[TurnStart(0, turn.turn_id) for turn in turns]
        )

    async def save(turn):
        turns.append(turn)
        return len(turns)

    layer = MemoryLayer(load, save, session_id="s", turn_id=lambda _: "t")
    assert await layer(echo)([user("a")]) == "re: a"


async def test_services_that_make_up_attributes_or_contain_themselves_may_load_and_save():
    class Endless:
        def __init__(self):
            self.inner = self

        def __getattr__(self, name):
            return Endless()

        async def __call__(self, _turn):
            return 1

    async def load(_session_id):
        return History()

    assert await MemoryLayer(load, Endless(), session_id="s")(echo)([user("a")]) == "re: a"


async def test_methods_may_load_and_save_whatever_they_are_called():
    class Repository:
        def __init__(self):
            self.turns = []

        async def inner(self, _session_id):
            return History(revision=len(self.turns))

        async def store(self, turn):
            self.turns.append(turn)
            return len(self.turns)

    repository = Repository()
    layer = MemoryLayer(repository.inner, repository.store, session_id="s")
    assert layer.store is repository
    assert await layer(echo)([user("a")]) == "re: a"
    assert len(repository.turns) == 1


async def test_an_item_of_another_type_than_the_stores_costs_no_call():
    store = InMemorySessionStore(item_type=RunItem)
    with pytest.raises(UnencodableItemError, match=r"items\[0\]"):
        await remembering(store)(not_called)([user("a")])


async def test_a_custom_dialect_spells_requests_and_responses_its_own_way(store):
    class Lines:
        def new_items(self, request):
            return [{"asked": request}]

        def with_history(self, request, history):
            return "\n".join([*(str(item) for item in history), request])

        def reply_items(self, request, response):
            return [{"answer to": request, "answer": response}]

    async def model(prompt):
        return len(prompt.splitlines())

    service = remembering(store, dialect=Lines())(model)
    assert [await service("one"), await service("two")] == [1, 3]
    assert (await store.load("s"))[-2:] == (
        {"asked": "two"},
        {"answer to": "two", "answer": 3},
    )


# What fails


async def test_a_call_that_fails_leaves_its_session_as_it_was(store):
    async def model(_messages):
        raise Boom

    with pytest.raises(Boom):
        await remembering(store)(model)([user("a")])
    assert (await store.load("s")).revision == 0


async def test_a_call_that_is_cancelled_leaves_its_session_as_it_was(store):
    called = anyio.Event()

    async def model(_messages):
        called.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(remembering(store)(model), [user("a")])
        await called.wait()
        tasks.cancel_scope.cancel()
    assert (await store.load("s")).revision == 0
    assert await remembering(store)(echo)([user("b")]) == "re: b"  # and nothing is held


async def test_a_save_under_way_runs_to_its_end_and_the_reply_is_returned(store):
    saving, go_on = anyio.Event(), anyio.Event()
    replies = []

    async def save(turn):
        saving.set()
        await go_on.wait()
        return await store.append(turn)

    async def call(scope):
        with scope:
            replies.append(
                await MemoryLayer(LoadSession(store), save, session_id="s")(echo)([user("a")])
            )

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, scope)
        await saving.wait()
        scope.cancel()
        go_on.set()
    assert replies == ["re: a"]
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_reply_that_came_as_the_time_ran_out_is_saved_and_returned(store):
    async def just_in_time(messages):
        scope.deadline = anyio.current_time()
        return await echo(messages)

    with anyio.fail_after(3600) as scope:
        assert await remembering(store)(just_in_time)([user("a")]) == "re: a"
    assert len(await store.load("s")) == 2


async def test_a_save_that_outlasts_the_grace_past_a_deadline_raises_with_the_reply():
    store = InMemorySessionStore()

    async def save(_turn):
        await anyio.sleep_forever()

    async def just_in_time(messages):
        scope.deadline = anyio.current_time()
        return await echo(messages)

    layer = MemoryLayer(LoadSession(store), save, session_id="s", grace=0.05)
    with anyio.fail_after(3600) as scope, pytest.raises(SaveError) as caught:
        await layer(just_in_time)([user("a")])
    error = caught.value
    assert error.response == "re: a"
    assert isinstance(error.__cause__, TimeoutError)
    await store.append(error.turn)
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_the_grace_is_the_stores_busy_timeout_unless_told_otherwise():
    class Patient(InMemorySessionStore):
        busy_timeout = 0.05

        async def append(self, turn):
            await anyio.sleep_forever()

    async def just_in_time(messages):
        scope.deadline = anyio.current_time()
        return await echo(messages)

    store = Patient()
    save = RetryLayer(on=SessionError)(SaveSession(store))
    layer = MemoryLayer(LoadSession(store), save, session_id="s")
    with anyio.fail_after(3600) as scope, pytest.raises(SaveError):
        await layer(just_in_time)([user("a")])
    assert layer.saving.grace == 0.05
    assert remembering(store, grace=1).saving.grace == 1
    assert remembering(InMemorySessionStore()).saving.grace == 5
    assert remembering(SqliteSessionStore("a.db", busy_timeout=2.5)).saving.grace == 2.5


async def test_when_a_save_fails_the_error_has_the_reply_and_the_turn_to_save_again(store):
    failures = [OSError("disk full")]

    async def save(turn):
        if failures:
            raise failures.pop()
        return await store.append(turn)

    layer = MemoryLayer(LoadSession(store), save, session_id="s")
    with pytest.raises(
        SaveError, match="session 's': the reply is on this error.*disk full"
    ) as caught:
        await layer(echo)([user("a")])
    error = caught.value
    assert (error.session_id, error.response) == ("s", "re: a")
    assert isinstance(error.__cause__, OSError)
    assert await store.load("s") == []
    await save(error.turn)
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_save_that_failed_late_can_be_retried_and_is_made_once(store):
    failures = [OSError("after committing")]

    async def save(turn):
        revision = await store.append(turn)
        if failures:
            raise failures.pop()
        return revision

    retried = RetryLayer(on=lambda _error: 0.0, attempts=2)(save)
    await MemoryLayer(LoadSession(store), retried, session_id="s")(echo)([user("a")])
    assert await store.load("s") == [user("a"), assistant("re: a")]


async def test_a_request_item_that_cannot_be_stored_is_refused_before_the_model_is_called(store):
    with pytest.raises(UnencodableItemError) as caught:
        await remembering(store)(not_called)([user("a"), user(float("nan"))])
    assert (caught.value.session_id, caught.value.where) == ("s", "items[1].content")


async def test_a_request_item_that_contains_itself_is_refused_before_the_model_is_called(store):
    content = []
    content.append(content)
    with pytest.raises(UnencodableItemError, match="contains itself"):
        await remembering(store)(not_called)([user(content)])


async def test_a_reply_that_cannot_be_stored_or_read_comes_back_on_the_error(store):
    async def unencodable(_messages):
        return {"role": "assistant", "content": {1, 2}}

    with pytest.raises(SaveError, match=r"items\[1\]\.content") as caught:
        await remembering(store)(unencodable)([user("a")])
    assert caught.value.response["content"] == {1, 2}
    assert isinstance(caught.value.__cause__, UnencodableItemError)

    async def unreadable(_messages):
        return 42

    with pytest.raises(SaveError, match="response must be a chat completion.* got int") as caught:
        await remembering(store)(unreadable)([user("a")])
    assert (caught.value.response, caught.value.turn) == (42, None)
    assert await store.load("s") == []


@pytest.mark.parametrize("request_", [None, "text", {"prompt": "Hi"}, [], {"messages": "Hi"}, [1]])
async def test_a_request_the_dialect_cannot_read_is_refused_before_the_model_is_called(
    store, request_
):
    with pytest.raises((TypeError, ValueError), match="request"):
        await remembering(store)(not_called)(request_)


async def test_a_session_that_cannot_be_loaded_costs_no_call():
    async def load(session_id):
        raise CorruptSessionError(session_id, row=3, reason="torn")

    layer = MemoryLayer(load, SaveSession(InMemorySessionStore()), session_id="s")
    with pytest.raises(CorruptSessionError):
        await layer(not_called)([user("a")])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"session_id": ""}, ValueError, "session_id must not be empty"),
        ({"session_id": None}, TypeError, "session_id must be a string, got None"),
        ({"overlap": "wait"}, ValueError, "overlap must be one of .*, got 'wait'"),
        ({"grace": -1}, ValueError, "grace must be 0 or more seconds, got -1"),
        ({"grace": "1"}, TypeError, "grace must be a number"),
        ({"turn_id": "t"}, TypeError, "turn_id must be a plain function of the request, got 't'"),
        ({"turn_id": echo}, TypeError, "turn_id must be a plain function"),
        ({"session_id": echo}, TypeError, "session_id must be a plain function"),
        ({"dialect": ChatCompletions}, TypeError, r"such as ChatCompletions\(\), got <class"),
        ({"dialect": "chat"}, TypeError, "dialect must have new_items, .*, got 'chat'"),
        ({"window": LastTurns}, TypeError, r"such as LastTurns\(20\), got <class"),
    ],
)
def test_bad_parameters_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        remembering(InMemorySessionStore(), **parameters)


def test_what_is_no_service_is_refused_by_name():
    store = InMemorySessionStore()
    with pytest.raises(TypeError, match="load must be a service, such as LoadSession"):
        MemoryLayer(store, SaveSession(store), session_id="s")
    with pytest.raises(TypeError, match="save must be a service"):
        MemoryLayer(LoadSession(store), store, session_id="s")


@pytest.mark.parametrize(("bad", "error"), [(None, TypeError), ("", ValueError)])
async def test_a_bad_id_from_a_function_is_refused_before_the_model_is_called(store, bad, error):
    with pytest.raises(error, match="session_id"):
        await remembering(store, session_id=lambda _: bad)(not_called)([user("a")])
    with pytest.raises(error, match="turn_id"):
        await remembering(store, turn_id=lambda _: bad)(not_called)([user("a")])


# The same turn again


def numbered(store, **parameters):
    return remembering(store, turn_id=lambda messages: messages[-1]["content"], **parameters)


async def test_a_turn_already_in_the_history_is_raised_with_its_items_and_costs_no_call(store):
    await numbered(store)(echo)([user("a")])
    with pytest.raises(TurnExists, match="turn 'a' is already saved") as caught:
        await numbered(store)(not_called)([user("a")])
    assert caught.value.items == (user("a"), assistant("re: a"))
    assert caught.value.response is None


async def overlapping(service, *replies):
    """Call *service* with one request as often as there are *replies*, all under way at once."""
    outcomes = []
    ready = [anyio.Event() for _ in replies]
    under_way = iter(range(len(replies)))

    async def model(_messages):
        mine = next(under_way)
        ready[mine].set()
        for each in ready:
            await each.wait()
        return replies[mine]

    async def call():
        try:
            outcomes.append(await service(model)([user("a")]))
        except SessionError as error:
            outcomes.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in replies:
            tasks.start_soon(call)
    return outcomes


@pytest.mark.parametrize("limit", [None, 5, 0])
async def test_a_turn_that_another_saved_meanwhile_is_raised_with_the_reply(store, limit):
    layer = MemoryLayer(
        LoadSession(store, limit=limit),
        SaveSession(store),
        session_id="s",
        overlap="append",
        turn_id=lambda messages: messages[-1]["content"],
    )
    outcomes = await overlapping(layer, "first", "second")
    (error,) = (outcome for outcome in outcomes if isinstance(outcome, TurnExists))
    (reply,) = (outcome for outcome in outcomes if isinstance(outcome, str))
    assert {reply, error.response} == {"first", "second"}
    assert error.items == (user("a"), assistant(reply))
    assert await store.load("s") == [user("a"), assistant(reply)]


async def test_a_turn_that_another_saved_with_the_same_reply_is_the_same_turn(store):
    assert await overlapping(numbered(store, overlap="append"), "same", "same") == ["same"] * 2
    assert await store.load("s") == [user("a"), assistant("same")]


class Saving:
    """A service that saves and then has something else happen."""

    def __init__(self, store, then):
        self.store = store
        self.then = then

    async def __call__(self, turn):
        revision = await self.store.append(turn)
        await self.then()
        return revision


async def test_a_turn_is_known_for_its_own_whatever_happens_after_it_was_saved(store):
    async def another_turn():
        await store.append(Turn("s", [user("another")]))

    async def cleared():
        await store.clear("s")

    async def popped():
        await store.pop("s")

    for then, left in [(another_turn, 3), (popped, 1), (cleared, 0)]:
        layer = MemoryLayer(
            LoadSession(store), Saving(store, then), session_id="s", turn_id=lambda _: "t"
        )
        assert await layer(echo)([user("a")]) == "re: a"
        assert len(await store.load("s")) == left
        await store.clear("s")


async def test_where_there_is_no_store_to_ask_the_services_tell_whose_turn_was_saved():
    revisions = iter([1, 1])

    async def load(_session_id):
        return History(revision=next(revisions))

    async def save(_turn):
        return 1

    layer = MemoryLayer(load, save, session_id="s", turn_id=lambda _: "t")
    with pytest.raises(TurnExists) as caught:  # the revision stayed as it was
        await layer(echo)([user("a")])
    assert (caught.value.items, caught.value.response) == (None, "re: a")


async def test_a_turn_that_holds_nothing_is_no_turn_that_exists(store):
    class Silent:
        def new_items(self, _request):
            return []

        def with_history(self, request, _history):
            return request

        def reply_items(self, _request, _response):
            return []

    service = remembering(store, dialect=Silent(), turn_id=lambda _: "t")(echo)
    assert await service([user("a")]) == await service([user("a")]) == "re: a"


# Natively cancelled


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the only one to have it
async def test_a_natively_cancelled_turn_is_absent_and_others_go_on(store):
    called = asyncio.Event()

    async def model(_messages):
        called.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(remembering(store)(model)([user("a")]))
    await called.wait()
    waiting = asyncio.create_task(remembering(store)(echo)([user("b")]))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await waiting == "re: b"
    assert await store.load("s") == [user("b"), assistant("re: b")]


async def test_a_conflict_at_the_commit_has_the_reply_and_the_turn(store):
    async def model(messages):
        await store.append(Turn("s", [user("from elsewhere")]))
        return await echo(messages)

    with pytest.raises(SessionConflict) as caught:
        await remembering(store, overlap="reject")(model)([user("a")])
    error = caught.value
    assert (error.expected, error.actual) == (0, (await store.load("s")).revision)
    assert error.response == "re: a"
    assert list(error.turn.items) == [user("a"), assistant("re: a")]
    assert isinstance(error.__cause__, SessionConflict)
    assert await store.load("s") == [user("from elsewhere")]
