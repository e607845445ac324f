"""Rules of our stores, turns and histories beyond the contract, which testing_kit checks."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.deep_stacks import await_deep, nested
from helpers.json_values import JSON
from helpers.messages import user
from tower_memory import (
    Erasure,
    History,
    InMemorySessionStore,
    LoadSession,
    SaveSession,
    SessionConflict,
    SessionStore,
    Turn,
    TurnMissing,
    UnencodableItemError,
)

A, B, C = (user(text) for text in "abc")


async def test_items_come_back_oldest_first_with_the_start_of_each_turn(store):
    one, two = Turn("s", [A, B]), Turn("s", [C])
    await store.append(one)
    revision = await store.append(two)
    history = await store.load("s")
    assert history == [A, B, C]
    assert history.revision == revision
    found = [(turn.turn_id, turn.position) for turn in history.turns]
    assert found == [(one.turn_id, 0), (two.turn_id, 2)]
    assert history.turn(one.turn_id) == (A, B)
    assert history.turn(two.turn_id) == (C,)
    assert history.turn("another") is None


@settings(max_examples=20)
@given(items=st.lists(JSON, max_size=5), session=st.text(min_size=1), turn=st.text(min_size=1))
async def test_any_json_value_under_any_ids_comes_back_as_it_was(store, items, session, turn):
    await store.clear(session)
    await store.append(Turn(session, items, turn_id=turn))
    history = await store.load(session)
    assert repr(list(history)) == repr(items)
    assert history.turn(turn) == (tuple(items) or None)
    assert [await store.pop(session) for _ in items] == items[::-1]


async def test_a_turn_without_items_is_listed_after_a_load_before_a_missing_turn(store):
    revision = await store.append(Turn("s", [A], turn_id="a"))
    rewind = Turn("s", [], turn_id="rewind", replaces="a", expected_revision=revision)
    await store.append(rewind)
    with pytest.raises(TurnMissing):
        await store.load("s", before="a")
    assert [turn.turn_id for turn in (await store.load("s")).turns] == ["rewind"]

    await store.append(Turn("s", [B], turn_id="b"))
    assert [turn.turn_id for turn in (await store.load("s")).turns] == ["rewind", "b"]


async def test_an_outdated_revision_conflicts_and_writes_nothing(store):
    seen = await store.append(Turn("s", [A]))
    actual = await store.append(Turn("s", [B]))
    with pytest.raises(SessionConflict, match=f"revision {seen} was expected, {actual}") as caught:
        await store.append(Turn("s", [C], expected_revision=seen))
    error = caught.value
    assert (error.session_id, error.expected, error.actual) == ("s", seen, actual)
    assert await store.load("s") == [A, B]
    assert await store.append(Turn("s", [C], expected_revision=actual)) > actual


async def test_a_turn_is_no_longer_held_after_all_its_items_were_popped(store):
    turn = Turn("s", [A, B])
    await store.append(turn)
    await store.pop("s")
    await store.append(turn)
    assert await store.load("s") == [A]  # the first item of the turn is still stored
    await store.pop("s")
    await store.append(turn)
    assert await store.load("s") == [A, B]


@settings(max_examples=30)
@given(steps=st.lists(st.sampled_from(["append a", "append b", "pop", "clear"]), max_size=12))
async def test_no_two_contents_of_a_session_share_a_revision(store, steps):
    await store.clear("s")
    seen = {}

    for step in steps:
        match step.split():
            case ["append", text]:
                assert await store.append(Turn("s", [text, text])) > 0
            case ["pop"]:
                await store.pop("s")
            case _:
                await store.clear("s")

        history = await store.load("s")
        content = (tuple(history), history.turns)

        assert seen.setdefault(history.revision, content) == content
        assert history.revision > 0


async def test_an_item_that_cannot_be_stored_refuses_its_whole_turn(store):
    with pytest.raises(UnencodableItemError) as caught:
        await store.append(Turn("s", [A, {"bad": float("nan")}]))
    assert (caught.value.session_id, caught.value.where) == ("s", "items[1].bad")
    assert await store.load("s") == []


async def test_turns_appended_at_once_are_all_kept_whole(store):
    turns = [Turn(f"s{n % 3}", [{"n": n}, {"n": n, "reply": True}]) for n in range(60)]
    async with anyio.create_task_group() as tasks:
        for turn in turns:
            tasks.start_soon(store.append, turn)
    for session in range(3):
        history = await store.load(f"s{session}")
        mine = {turn.turn_id: tuple(turn.items) for turn in turns[session::3]}
        assert {start.turn_id: history.turn(start.turn_id) for start in history.turns} == mine
        assert len(history) == 40


BAD_IDS = [("", ValueError), ("\ud800", ValueError), (None, TypeError), (3, TypeError)]


@pytest.mark.parametrize(("bad", "error"), BAD_IDS)
async def test_a_bad_session_id_is_refused_by_name(store, bad, error):
    for operation in (store.load, store.pop, store.clear, LoadSession(store)):
        with pytest.raises(error, match="session_id must"):
            await operation(bad)
    with pytest.raises(error, match="session_id must"):
        Turn(bad, [A])
    with pytest.raises(error, match="turn_id must"):
        Turn("s", [A], turn_id=bad)


@pytest.mark.parametrize(("bad", "error"), [(-1, ValueError), ("1", TypeError), (True, TypeError)])
async def test_a_bad_limit_is_refused_by_name(store, bad, error):
    with pytest.raises(error, match="limit must be .*, got"):
        await store.load("s", limit=bad)
    with pytest.raises(error, match="limit must be .*, got"):
        LoadSession(store, limit=bad)


@pytest.mark.parametrize(
    ("bad", "error"),
    [(2**63, ValueError), (-(2**63) - 1, ValueError), (1.0, TypeError), ("1", TypeError)],
)
def test_a_revision_that_is_no_64_bit_integer_is_refused_by_name(bad, error):
    with pytest.raises(error, match="expected_revision must"):
        Turn("s", [A], expected_revision=bad)


@pytest.mark.parametrize("bad", [{"role": "user"}, "text", b"bytes", None, 3])
def test_items_that_are_no_sequence_are_refused(bad):
    with pytest.raises(TypeError, match="items must be a sequence of items, got"):
        Turn("s", bad)


@pytest.mark.parametrize("bad", [None, {"session_id": "s", "items": []}, "s"])
async def test_an_append_of_a_value_that_is_no_turn_is_refused(store, bad):
    with pytest.raises(TypeError, match="turn must be a Turn, got"):
        await store.append(bad)


def test_a_turn_that_replaces_others_needs_another_id_and_the_revision():
    with pytest.raises(ValueError, match="replaces must name another turn"):
        Turn("s", [A], turn_id="t", replaces="t", expected_revision=1)
    with pytest.raises(ValueError, match="needs expected_revision"):
        Turn("s", [A], replaces="t")


async def test_a_prefix_that_is_no_text_is_refused_by_name(store):
    with pytest.raises(TypeError, match="prefix must be a string, got 0"):
        await store.erase(prefix=0)


async def test_a_revision_that_an_erasure_cannot_expect_is_refused_by_name(store):
    with pytest.raises(TypeError, match="expected_revision must be a whole number, got True"):
        await store.erase(session_id="s", expected_revision=True)
    with pytest.raises(TypeError, match="expected_revision=3 needs session_id, got prefix"):
        await store.erase(prefix="s", expected_revision=3)


async def test_an_erasure_compares_no_revision_of_a_session_that_it_does_not_select(store):
    revision = await store.append(Turn("s", [A]))
    options = {"session_id": "s", "expected_revision": revision - 1}
    before, after = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
    assert await store.erase(**options, inactive_since=before) == Erasure(0, 0, 0)
    with pytest.raises(SessionConflict):
        await store.erase(**options, inactive_since=after)
    assert await store.load("s") == [A]


async def test_tombstones_in_memory_that_are_too_old_are_removed(monkeypatch):
    monkeypatch.setattr("tower_memory._stores.in_memory.sessions.TOMBSTONE_LIFETIME", -1)
    store = InMemorySessionStore()
    for session_id in "ab":
        await store.clear(session_id)
    assert (await store.load("a")).revision == 0


def test_two_turns_have_different_ids():
    assert Turn("s", [A]).turn_id != Turn("s", [A]).turn_id


async def test_load_and_save_are_services_over_a_store(store):
    assert isinstance(store, SessionStore)
    revision = await SaveSession(store)(Turn("s", [A, B]))
    assert await LoadSession(store)("s") == [A, B]
    limited = await LoadSession(store, limit=1)("s")
    assert (list(limited), limited.revision) == ([B], revision)


@pytest.mark.parametrize("service", [LoadSession, SaveSession])
def test_a_value_that_is_no_store_is_refused(service):
    with pytest.raises(TypeError, match="store must have load, append, pop and clear, got str"):
        service("a.db")


def test_a_history_is_an_immutable_sequence():
    history = History([A, B], revision=3)
    assert history == [A, B] == list(history)
    assert history == (A, B)
    assert history != [A]
    assert history != 3
    assert History("ab") != "ab"
    assert history[-1] == B
    assert history[:1] == (A,)
    assert repr(history) == f"History([{A!r}, {B!r}], revision=3)"
    with pytest.raises(TypeError):
        history[0] = B
    with pytest.raises(TypeError, match="unhashable"):
        hash(history)


@pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer lets each awaited frame take twice the stack"
)
@pytest.mark.parametrize("item", [nested(300), {"a": nested(499)}], ids=["300", "500"])
async def test_a_deep_item_is_saved_and_loaded_at_any_depth_of_the_stack(store, item):
    for session, (append_at, load_at) in enumerate([(900, 90), (90, 900), (90, 90)]):
        turn = Turn(f"s{session}", [item])
        await await_deep(lambda turn=turn: store.append(turn), append_at)
        history = await await_deep(lambda turn=turn: store.load(turn.session_id), load_at)
        assert history == [item]
