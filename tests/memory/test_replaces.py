"""Replaced turns: regenerated and edited, as a whole or not at all."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest

from helpers.cancelling import by_scope, cancel_at_every_suspension, every_cancellation
from helpers.layers import memory_over
from helpers.locks import assert_no_lock_is_left
from helpers.messages import INTERRUPTED_REPLY, assistant, calling, result, user
from helpers.services import BlockingModel, Boom, must_not_be_called, repeat_last
from helpers.stores import assert_store_works
from helpers.streams import ClientStream, TextStream, raise_boom, read_all, stream_last
from helpers.waiting import until
from tower_memory import (
    History,
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveError,
    SaveSession,
    SessionConflict,
    SessionError,
    TimeoutLayer,
    Turn,
    TurnExists,
    TurnMissing,
)
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns

OVERLAPS = ["serialize", "append", "reject"]
every_overlap = pytest.mark.parametrize("overlap", OVERLAPS)

FIRST = [user("a"), assistant("re: a")]
SECOND = [user("b"), assistant("re: b")]
THIRD = [user("c"), assistant("re: c")]


def replacing(store, session_id="s", **parameters):
    """Return a layer whose requests name the turn to replace, and perhaps their own turn id."""
    return memory_over(
        store, session_id, replaces=lambda request: request.get("replaces"), **parameters
    )


def numbered(store, **parameters):
    return replacing(store, turn_id=lambda request: request["id"], **parameters)


def asking(text, replaces=None, turn_id=None):
    return {"messages": [user(text)], "replaces": replaces, "id": turn_id}


async def answer(request):
    return await repeat_last(request["messages"])


async def stream(request):
    return await stream_last(request["messages"])


async def fill(store, *, until_turn=3):
    """Store the turns t1, t2 and t3; return the session's revision."""
    revision = 0
    for number, items in enumerate((FIRST, SECOND, THIRD)[:until_turn], 1):
        revision = await store.append(Turn("s", items, turn_id=f"t{number}"))
    return revision


def ids(history):
    return [turn.turn_id for turn in history.turns]


@every_overlap
async def test_the_model_sees_the_history_before_the_turn_and_its_reply_takes_its_place(
    store, overlap
):
    await fill(store)
    model = ScriptedService("new")
    await replacing(store, overlap=overlap)(model)(asking("b", "t2"))

    assert model.requests[0]["messages"] == [*FIRST, user("b")]
    history = await store.load("s")
    assert history == [*FIRST, user("b"), assistant("new")]
    assert ids(history)[0] == "t1"
    assert len(history.turns) == 2


async def test_the_first_turn_can_be_replaced(store):
    await fill(store)
    model = ScriptedService("new")
    await replacing(store)(model)(asking("edited", "t1"))
    assert model.requests[0]["messages"] == [user("edited")]
    assert await store.load("s") == [user("edited"), assistant("new")]


@every_overlap
async def test_a_request_that_replaces_nothing_adds_a_turn(store, overlap):
    await fill(store)
    assert await replacing(store, overlap=overlap)(answer)(asking("d")) == "re: d"
    assert len(await store.load("s")) == 8


@every_overlap
async def test_a_streamed_reply_replaces_a_turn_at_its_end(store, overlap):
    await fill(store)
    got = await replacing(store, overlap=overlap)(stream)(asking("new", "t2"))
    assert await store.load("s") == [*FIRST, *SECOND, *THIRD]
    assert "".join(await read_all(got)) == "re: new"
    assert await store.load("s") == [*FIRST, user("new"), assistant("re: new")]


@every_overlap
async def test_a_model_that_fails_leaves_the_old_turns(store, overlap):
    revision = await fill(store)

    async def model(_request):
        raise Boom

    with pytest.raises(Boom):
        await replacing(store, overlap=overlap)(model)(asking("new", "t2"))
    history = await store.load("s")
    assert (ids(history), history.revision) == (["t1", "t2", "t3"], revision)


@pytest.mark.parametrize("window", [None, LastItems(2), LastTurns(1)])
@pytest.mark.parametrize("limit", [None, 3, 2])
async def test_windows_and_limits_count_from_the_replaced_turn(store, window, limit):
    await fill(store)
    model = ScriptedService("new")
    layer = MemoryLayer(
        RetryLayer(on=OSError)(TimeoutLayer(60)(LoadSession(store, limit=limit))),
        SaveSession(store),
        session_id="s",
        window=window,
        replaces=lambda request: request["replaces"],
    )
    await layer(model)(asking("c", "t3"))

    is_whole = window is None and limit is None
    assert model.requests[0]["messages"] == [*(FIRST if is_whole else ()), *SECOND, user("c")]
    assert len(await store.load("s")) == 6


@pytest.mark.parametrize("before", ["t1", "t2", "t3"])
async def test_a_window_is_given_the_place_of_a_history_that_ends_early(store, before):
    await fill(store)
    given = []

    async def window(history):
        given.append(history)
        return history

    layer = replacing(store, window=window)
    await layer(answer)(asking("new", before))
    (history,) = given
    count = int(before[1]) - 1
    assert ids(history) == ["t1", "t2", "t3"][:count]
    assert (history.is_cut, history.offset, history.session_id) == (False, 0, "s")


async def test_a_whole_request_is_compared_with_the_history_before_the_turn(store):
    await fill(store)
    model = ScriptedService("new", "other")
    service = replacing(store, whole_requests=True)(model)

    edited = {"messages": [*FIRST, user("edited")], "replaces": "t2"}
    await service(edited)
    assert model.requests[0]["messages"] == [*FIRST, user("edited")]
    assert await store.load("s") == [*FIRST, user("edited"), assistant("new")]

    with pytest.raises(SessionConflict, match="no new items"):
        await service({"messages": FIRST, "replaces": (await store.load("s")).turns[1].turn_id})


async def test_the_results_of_calls_that_stay_may_be_sent_again(store):
    called = [user("a"), calling("x")]
    await store.append(Turn("s", called, turn_id="t1"))
    await store.append(Turn("s", [result("x"), assistant("done")], turn_id="t2"))
    model = ScriptedService("again")
    await replacing(store)(model)({"messages": [result("x", "other")], "replaces": "t2"})
    assert model.requests[0]["messages"] == [*called, result("x", "other")]
    assert await store.load("s") == [*called, result("x", "other"), assistant("again")]


# The revision that the user saw


@every_overlap
async def test_the_revision_that_the_user_saw_is_accepted(store, overlap):
    revision = await fill(store)
    await replacing(store, overlap=overlap)(answer)(asking("new", ("t2", revision)))
    assert len(await store.load("s")) == 4


@every_overlap
@pytest.mark.parametrize("turn_id", ["t2", "gone"])
@pytest.mark.parametrize("pair", [tuple, list])
async def test_another_revision_than_the_user_saw_raises_before_the_model_call(
    store, overlap, turn_id, pair
):
    revision = await fill(store)
    with pytest.raises(SessionConflict, match="revision .* was expected") as caught:
        await replacing(store, overlap=overlap)(must_not_be_called)(
            asking("new", pair([turn_id, revision - 1]))
        )
    error = caught.value
    assert (error.expected, error.actual) == (revision - 1, revision)
    assert (error.response, error.turn) == (None, None)
    assert len(await store.load("s")) == 6


@every_overlap
@pytest.mark.parametrize("is_pair", [False, True])
async def test_a_turn_that_is_not_held_raises_before_the_model_call(store, overlap, is_pair):
    revision = await fill(store)
    replaced = ("gone", revision) if is_pair else "gone"
    with pytest.raises(TurnMissing, match="does not hold the turn 'gone'") as caught:
        await replacing(store, overlap=overlap)(must_not_be_called)(asking("new", replaced))
    assert (caught.value.turn_id, caught.value.response) == ("gone", None)
    assert len(await store.load("s")) == 6


@every_overlap
async def test_a_turn_that_comes_during_the_model_call_is_not_removed(store, overlap):
    await fill(store)

    async def model(request):
        await store.append(Turn("s", [user("newer")], turn_id="t4"))
        return await answer(request)

    with pytest.raises(SessionConflict) as caught:
        await replacing(store, overlap=overlap)(model)(asking("new", "t2"))
    error = caught.value
    assert error.response == "re: new"
    assert error.turn.items == (user("new"), assistant("re: new"))
    assert (error.turn.replaces, error.turn.expected_revision) == ("t2", error.expected)
    assert ids(await store.load("s")) == ["t1", "t2", "t3", "t4"]


# Overlapping calls


async def outcomes_of(service, *requests):
    """Make the *requests* at the same time; return their outcomes in the order of their ends."""
    outcomes = []

    async def call(request):
        try:
            outcomes.append(await service(request))
        except SessionError as error:
            outcomes.append(error)

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(call, request)
    return outcomes


async def test_of_two_tabs_that_replace_a_turn_in_order_the_later_finds_it_gone(store):
    await fill(store)
    model = ScriptedService("one", "two")
    first, second = await outcomes_of(replacing(store)(model), asking("x", "t2"), asking("x", "t2"))
    assert first == "one"
    assert isinstance(second, TurnMissing)
    assert (second.turn_id, second.response) == ("t2", None)
    assert len(model.requests) == 1
    assert await store.load("s") == [*FIRST, user("x"), assistant("one")]


async def test_of_two_tabs_that_replace_a_turn_side_by_side_the_later_gets_its_paid_reply(store):
    await fill(store)
    ready = [anyio.Event(), anyio.Event()]

    async def model(request):
        text = request["messages"][-1]["content"]
        ready[int(text)].set()
        for each in ready:
            await each.wait()
        return f"re: {text}"

    service = replacing(store, overlap="append")(model)
    outcomes = await outcomes_of(service, asking("0", "t2"), asking("1", "t2"))
    (winner,) = (each for each in outcomes if isinstance(each, str))
    (error,) = (each for each in outcomes if isinstance(each, SessionConflict))

    assert {winner, error.response} == {"re: 0", "re: 1"}
    assert error.turn.items[-1] == assistant(error.response)
    assert (await store.load("s"))[-1] == assistant(winner)
    assert len(await store.load("s")) == 4


async def test_a_turn_that_adds_to_replaced_turns_is_refused_with_its_reply(store):
    """It was answered on the ground of a history that is gone."""
    await fill(store)

    async def model(request):
        await replacing(store, overlap="append")(answer)(asking("edited", "t2"))
        return await answer(request)

    with pytest.raises(SessionConflict, match="turns were replaced") as caught:
        await replacing(store, overlap="append")(model)(asking("d"))
    assert caught.value.response == "re: d"
    assert caught.value.turn.items == (user("d"), assistant("re: d"))
    assert await store.load("s") == [*FIRST, user("edited"), assistant("re: edited")]


@pytest.mark.parametrize("overlap", ["serialize", "append"])
async def test_a_turn_that_is_removed_during_the_model_call_is_a_conflict(store, overlap):
    await fill(store)

    async def model(request):
        for _ in THIRD:
            await store.pop("s")
        return await answer(request)

    with pytest.raises(SessionConflict) as caught:
        await replacing(store, overlap=overlap)(model)(asking("new", "t3"))
    assert caught.value.response == "re: new"
    assert ids(await store.load("s")) == ["t1", "t2"]


async def test_a_save_that_finds_the_turn_missing_raises_with_the_reply():
    async def save(turn):
        raise TurnMissing(turn.session_id, turn_id=turn.replaces)

    store = InMemorySessionStore()
    await fill(store)
    layer = MemoryLayer(
        LoadSession(store), save, session_id="s", store=store, replaces=lambda _: "t2"
    )
    with pytest.raises(TurnMissing) as caught:
        await layer(answer)(asking("new"))
    error = caught.value
    assert (error.turn_id, error.response, error.turn.replaces) == ("t2", "re: new", "t2")


# Cancellation


@every_cancellation
@every_overlap
async def test_a_call_cancelled_anywhere_leaves_the_old_turns_or_the_whole_new_one(
    sqlite, cancelled, overlap
):
    answered = set()

    async def model(request):
        await anyio.lowlevel.checkpoint()
        answered.add(request["session"])
        return await answer(request)

    service = numbered(sqlite, overlap=overlap, session_id=lambda request: request["session"])(
        model
    )

    async def call(nth):
        session_id = f"s{nth}"
        await sqlite.append(Turn(session_id, FIRST, turn_id="t1"))
        await sqlite.append(Turn(session_id, SECOND, turn_id="t2"))
        return await service({**asking("new", "t2", "t3"), "session": session_id})

    async def check(nth, reply, was_cancelled):
        history = await sqlite.load(f"s{nth}")
        new = [*FIRST, user("new"), assistant("re: new")]
        if f"s{nth}" not in answered:
            assert was_cancelled
            assert list(history) in ([], FIRST, [*FIRST, *SECOND])
        elif cancelled is by_scope:
            assert (reply, list(history)) == ("re: new", new)
        else:
            assert list(history) in ([*FIRST, *SECOND], new)
        assert_no_lock_is_left()
        await assert_store_works(sqlite)

    await cancel_at_every_suspension(call, cancelled, check)
    assert answered


# Turn ids


@every_overlap
@pytest.mark.parametrize(
    ("later", "length"),
    [
        *[(0, length) for length in (1, 15, 16, 17, 40)],
        *[(later, 16) for later in (1, 3)],
        *[
            pytest.param(later, length, marks=pytest.mark.long)
            for later in (1, 3)
            for length in (1, 15, 17, 40)
        ],
    ],
)
async def test_a_repeated_call_finds_its_turn_though_the_replaced_one_is_gone(
    store, overlap, later, length
):
    await fill(store)
    model = ScriptedService(*[f"re: {number}" for number in range(4)])
    layer = numbered(store, overlap=overlap, window=LastItems(2))
    asked = [user(f"{number}") for number in range(length)]
    request = {"messages": asked, "replaces": "t2", "id": "r"}

    await layer(model)(request)
    for number in range(later):
        await layer(model)(asking("more", None, f"later {number}"))

    with pytest.raises(TurnExists, match="'r' is already saved") as caught:
        await layer(must_not_be_called)(request)
    assert caught.value.items == (*asked, assistant("re: 0"))
    assert caught.value.response is None


async def test_a_turn_without_items_that_removed_turns_is_held(store):
    revision = await fill(store)
    await store.append(Turn("s", [], turn_id="r", replaces="t2", expected_revision=revision))
    with pytest.raises(TurnExists) as caught:
        await numbered(store)(must_not_be_called)(asking("x", "t2", "r"))
    assert caught.value.items == ()


async def test_without_a_store_the_whole_history_shows_whether_the_turn_is_held(store):
    await fill(store)

    async def load(session_id):
        return await store.load(session_id)

    async def save(turn):
        return await store.append(turn)

    layer = MemoryLayer(
        load,
        save,
        session_id="s",
        overlap="append",
        replaces=lambda request: request["replaces"],
        turn_id=lambda request: request["id"],
    )
    assert await layer(answer)(asking("x", "t2", "r")) == "re: x"
    with pytest.raises(TurnExists) as caught:
        await layer(must_not_be_called)(asking("x", "t2", "r"))
    assert caught.value.items == (user("x"), assistant("re: x"))
    with pytest.raises(TurnMissing):
        await layer(must_not_be_called)(asking("x", "t2", "s"))


async def test_a_late_save_of_a_replaced_turn_does_not_revive_it(store):
    """Its first attempt saved the turn, then its connection broke; meanwhile it was replaced."""
    await fill(store)

    async def save(turn):
        await store.append(turn)
        raise OSError

    layer = MemoryLayer(
        LoadSession(store), save, session_id="s", store=store, turn_id=lambda _: "t4"
    )
    with pytest.raises(SaveError) as caught:
        await layer(answer)(asking("d"))
    await replacing(store)(answer)(asking("edited", "t4"))

    with pytest.raises(SessionConflict, match="turns were replaced"):
        await store.append(caught.value.turn)
    assert (await store.load("s"))[-1] == assistant("re: edited")
    assert len(await store.load("s")) == 8


async def test_a_late_reply_of_a_replaced_turn_does_not_revive_it(store):
    """Two calls have one turn id; the first is saved and replaced before the second is answered."""
    await fill(store)
    model = BlockingModel()

    async def slow(request):
        return await model(request["messages"])

    service = numbered(store, overlap="append")(slow)

    async def replace():
        await until(lambda: model.called)
        await numbered(store, overlap="append")(answer)(asking("d", None, "t4"))
        await replacing(store, overlap="append")(answer)(asking("edited", "t4"))
        model.go_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replace)
        with pytest.raises(SessionConflict) as caught:
            await service(asking("d", None, "t4"))

    assert caught.value.response == "re: d"
    assert (await store.load("s"))[-2:] == (user("edited"), assistant("re: edited"))


# Interrupted replies


async def leave(got):
    async with got as opened:
        async for _ in opened:
            break


async def close(got):
    await anext(got)
    await got.aclose()


async def close_a_generator_around_it(got):
    async def around():
        async with got as opened:
            async for chunk in opened:
                yield chunk

    chunks = around()
    await anext(chunks)
    await chunks.aclose()


async def leave_by_an_error(got):
    with suppress(Boom):
        async with got:
            await anext(got)
            raise Boom


async def cancel(got):
    with anyio.CancelScope() as scope:
        async with got as opened:
            async for _ in opened:
                scope.cancel()


async def fail(got):
    with suppress(Boom):
        async with got as opened:
            await read_all(opened)


def failing(text):
    """Return a stream of one character that then fails."""
    return TextStream(text, raise_boom)


@every_overlap
@pytest.mark.parametrize("end", [leave, close, close_a_generator_around_it])
@pytest.mark.parametrize("keep", [False, True])
async def test_an_interrupted_reply_replaces_the_turn_if_its_reader_closed_it_and_it_is_kept(
    store, overlap, end, keep
):
    await fill(store)
    layer = replacing(store, overlap=overlap, keep_interrupted=keep)
    await end(await layer(stream)(asking("new", "t3")))
    kept = [user("new"), assistant(f"r\n\n{INTERRUPTED_REPLY}")]
    assert await store.load("s") == [*FIRST, *SECOND, *(kept if keep else THIRD)]


@every_overlap
@pytest.mark.parametrize("end", [leave_by_an_error, cancel, fail])
async def test_a_reply_that_failed_or_was_dropped_never_replaces_the_turn(store, overlap, end):
    await fill(store)

    async def model(_request):
        return failing("re")

    layer = replacing(store, overlap=overlap, keep_interrupted=True)
    await end(await layer(model)(asking("new", "t3")))
    assert await store.load("s") == [*FIRST, *SECOND, *THIRD]

    await end(await layer(model)(asking("new")))  # it is kept if it replaces nothing
    assert len(await store.load("s")) == 8


async def test_a_closed_stream_without_a_chunk_leaves_the_turn(store):
    await fill(store)
    got = await replacing(store, keep_interrupted=True)(stream)(asking("new", "t3"))
    await got.aclose()
    assert ids(await store.load("s")) == ["t1", "t2", "t3"]


async def test_a_client_that_closes_a_stream_itself_replaces_the_turn(store):
    await fill(store)

    async def model(_request):
        return ClientStream("new")

    got = await replacing(store, keep_interrupted=True)(model)(asking("x", "t3"))
    await anext(got)
    await got.close()
    assert (await store.load("s"))[4] == user("x")


# Parameters


@pytest.mark.parametrize(
    ("replaces", "error", "message"),
    [
        (3, TypeError, "replaces.request. must be a turn id, a pair .* or None, got 3"),
        (b"t", TypeError, "or None, got bytes"),
        ({"id": "t"}, TypeError, "or None, got dict"),
        (("t",), TypeError, "or None, got tuple"),
        (("t", 1, 2), TypeError, "or None, got tuple"),
        ((1, "t"), TypeError, r"or None, got \(1, str\)"),
        (("t", None), TypeError, r"or None, got \(str, None\)"),
        (("t", True), TypeError, "the revision in the result of replaces.* whole number, got True"),
        (("t", 2**63), ValueError, "the revision in the result of replaces.* below"),
        (("", 1), ValueError, "the turn id in the result of replaces.* must not be empty"),
        ("", ValueError, "the turn id in the result of replaces.* must not be empty"),
        ("\ud800", ValueError, "the turn id in the result of replaces.* valid Unicode"),
        ("own", ValueError, "must be another turn than turn_id.request., got 'own' for both"),
    ],
)
async def test_a_bad_result_is_refused_before_anything_else(replaces, error, message):
    async def load(_session_id):
        pytest.fail("the session was loaded")

    layer = MemoryLayer(
        load,
        SaveSession(InMemorySessionStore()),
        session_id="s",
        turn_id=lambda _: "own",
        replaces=lambda _: replaces,
    )
    with pytest.raises(error, match=message):
        await layer(must_not_be_called)(["a request that no dialect can read"])


@pytest.mark.parametrize("bad", ["t1", repeat_last, BlockingModel()])
def test_a_parameter_that_is_no_plain_function_is_refused(bad):
    store = InMemorySessionStore()
    with pytest.raises(TypeError, match="replaces must be a plain function of the request"):
        memory_over(store, replaces=bad)
    with pytest.raises(TypeError, match="replaces must be a plain function of the request"):
        MemoryLayer.over(store, session_id="s", replaces=bad)


async def test_an_error_of_the_function_reaches_the_caller(store):
    with pytest.raises(ZeroDivisionError):
        await memory_over(store, replaces=lambda _: 1 // 0)(must_not_be_called)([user("a")])
    assert (await store.load("s")).revision == 0


# Custom loads and stores


class OlderStore:
    """A store whose load does not know *before*."""

    def __init__(self):
        self.store = InMemorySessionStore()
        self.append, self.pop, self.clear = self.store.append, self.store.pop, self.store.clear

    async def load(self, session_id, *, limit=None):
        return await self.store.load(session_id, limit=limit)


async def test_a_store_that_does_not_know_before_works_until_a_turn_is_replaced():
    store = OlderStore()
    layer = replacing(store, window=LastTurns(1))
    await layer(answer)(asking("a"))
    assert await layer(answer)(asking("b")) == "re: b"
    turn_id = (await store.load("s")).turns[0].turn_id
    with pytest.raises(TypeError, match="before"):
        await layer(must_not_be_called)(asking("c", turn_id))


async def test_a_load_that_knows_no_selection_is_cut_before_the_turn(store):
    await fill(store)
    model = ScriptedService("new")

    async def load(session_id):
        return await store.load(session_id)

    layer = MemoryLayer(
        load,
        SaveSession(store),
        session_id="s",
        window=LastTurns(1),
        replaces=lambda request: request["replaces"],
    )
    await layer(model)(asking("c", "t3"))
    assert model.requests[0]["messages"] == [*SECOND, user("c")]
    assert len(await store.load("s")) == 6
    with pytest.raises(TurnMissing):
        await layer(must_not_be_called)(asking("c", "gone"))


async def test_a_selection_ends_with_its_load(store):
    """A load that calls another service with memory does not pass its selection on."""
    await fill(store)
    seen = ScriptedService("inner", "outer")

    async def load(session_id):
        await memory_over(store, "other")(seen)([user("first")])
        return await LoadSession(store)(session_id)

    await store.append(Turn("other", FIRST))
    layer = MemoryLayer(load, SaveSession(store), session_id="s", replaces=lambda _: "t2")
    await layer(seen)(asking("x"))
    assert seen.requests[0] == [*FIRST, user("first")]
    assert seen.requests[1]["messages"] == [*FIRST, user("x")]


async def test_a_load_that_returns_no_history_raises_before_the_model_call():
    async def load(_session_id):
        return []

    layer = MemoryLayer(
        load, SaveSession(InMemorySessionStore()), session_id="s", replaces=lambda _: "t"
    )
    with pytest.raises(TypeError, match="load must give a History, got list"):
        await layer(must_not_be_called)([user("a")])


async def test_a_history_without_turns_holds_no_turn_to_replace():
    async def load(_session_id):
        return History(FIRST, revision=1)

    layer = MemoryLayer(
        load, SaveSession(InMemorySessionStore()), session_id="s", replaces=lambda _: "t1"
    )
    with pytest.raises(TurnMissing):
        await layer(must_not_be_called)([user("a")])
