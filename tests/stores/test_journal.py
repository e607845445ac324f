"""The journals of our stores beyond the contract, which testing_kit checks."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.deep_stacks import await_deep, nested
from helpers.json_values import JSON
from helpers.messages import assistant, user
from helpers.sqlite import query
from helpers.sqlite_internals import cached_items, traced_reads
from helpers.stores import assert_store_works
from tower_memory import (
    CorruptSessionError,
    InMemorySessionStore,
    MessageItem,
    Role,
    RunItem,
    SessionConflict,
    SqliteSessionStore,
    Turn,
    TurnJournal,
)

A, B = user("a"), assistant("b")


async def test_our_stores_are_journals(store):
    assert isinstance(store, TurnJournal)


async def ids(store, session_id="s"):
    return [each.turn_id for each in await store.pending(session_id)]


@settings(max_examples=20)
@given(items=st.lists(JSON, max_size=5), session=st.text(min_size=1), turn=st.text(min_size=1))
async def test_any_json_value_under_any_ids_is_pending_as_it_was(store, items, session, turn):
    await store.clear(session)
    await store.begin(Turn(session, items, turn_id=turn, metadata={"items": items}))
    (pending,) = await store.pending(session)
    assert pending.turn_id == turn
    assert repr(list(pending.items)) == repr(pending.metadata["items"]) == repr(items)
    await store.forget(session, turn)
    assert await store.pending(session) == []


@pytest.mark.parametrize("lease", [2**40, 2.0**40, inf, 1e10], ids=repr)
async def test_the_longest_lease_ends_after_the_year_2200(store, lease):
    await store.begin(Turn("s", [A], turn_id="t"), lease=lease, owner="me")
    (pending,) = await store.pending("s")
    assert pending.state == "running"
    assert pending.lease_until.year > 2200
    with pytest.raises(SessionConflict):
        await store.begin(Turn("s", [A], turn_id="t"), owner="you")


async def test_a_turn_that_has_replaced_another_is_no_longer_pending(store):
    revision = await store.append(Turn("s", [A], turn_id="old"))
    turn = Turn("s", [B], turn_id="new", replaces="old", expected_revision=revision)
    await store.begin(turn)
    assert await ids(store) == ["new"]
    await store.append(turn)
    assert (await ids(store), await store.load("s")) == ([], [B])


async def test_a_lease_ends_its_seconds_after_the_begin(store):
    before = datetime.now(UTC) - timedelta(microseconds=1)
    await store.begin(Turn("s", [A]), lease=1.5)
    after = datetime.now(UTC) + timedelta(microseconds=1)
    (pending,) = await store.pending("s")
    assert before <= pending.created_at <= after
    assert before <= pending.lease_until - timedelta(seconds=1.5) <= after


async def test_a_conflict_names_the_turn_the_end_of_its_lease_and_a_remedy(store):
    await store.begin(Turn("s", [A], turn_id="t"), lease=600)
    (pending,) = await store.pending("s")
    until = pending.lease_until.isoformat(timespec="seconds")
    with pytest.raises(SessionConflict) as caught:
        await store.begin(Turn("s", [A], turn_id="t"), owner="you")
    assert str(caught.value) == (
        f"session 's': turn 't' is running elsewhere until {until}; begin it again after that "
        "time, or forget it"
    )
    assert (caught.value.expected, caught.value.response, caught.value.turn) == (None, None, None)


@pytest.mark.parametrize("kind", [InMemorySessionStore, SqliteSessionStore.in_memory])
async def test_pending_items_are_of_the_item_type_of_the_store(kind):
    item = MessageItem("1", Role.USER, "Hi", datetime(2026, 1, 1, tzinfo=UTC))
    store = kind(item_type=RunItem)
    await store.begin(Turn("s", [item]))
    (pending,) = await store.pending("s")
    assert pending.items == [item]
    if isinstance(store, SqliteSessionStore):
        await store.aclose()


async def test_a_begin_leaves_the_order_of_activity_and_the_cached_session(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [A]))
        await store.append(Turn("other", [A]))
        before = list(await store.sessions())
        assert (await store.load("s"), cached_items(store, "s")) == ([A], 1)

        await store.begin(Turn("s", [B], turn_id="t"))
        await store.fail("s", "t")
        read = await traced_reads(store)
        assert await store.load("s") == [A]
        assert read == []
        assert list(await store.sessions()) == before

        await store.append(Turn("s", [B], turn_id="t"))
        assert await store.load("s") == [A, B]
        assert read == []


async def test_a_new_session_with_a_pending_turn_is_the_last_active_one(store):
    await store.append(Turn("old", [A]))
    await store.begin(Turn("new", [A], since=0, expected_revision=0))
    assert [each.session_id for each in await store.sessions()] == ["new", "old"]
    info = await store.describe("new")
    assert (info.revision, info.items, info.turns) == (0, 0, 0)
    assert info.created_at == info.updated_at
    assert await store.erase(prefix="n") == (1, 0, 0)


async def test_a_begin_after_an_erasure_keeps_the_revision_of_the_tombstone(store):
    await store.append(Turn("s", [A]))
    await store.erase(session_id="s")
    erased = (await store.load("s")).revision
    await store.begin(Turn("s", [A], turn_id="t", since=erased, expected_revision=erased))
    assert (await store.load("s")).revision == erased
    turn = Turn("s", [A, B], turn_id="t", since=erased, expected_revision=erased)
    assert await store.append(turn) > erased
    assert await ids(store) == []


async def test_a_fork_and_a_pop_leave_pending_turns_where_they_are(store):
    await store.append(Turn("s", [A]))
    await store.begin(Turn("s", [B], turn_id="t"))
    await store.fork("s", "copy")
    await store.pop("s")
    assert (await ids(store), await ids(store, "copy")) == (["t"], [])


@pytest.mark.parametrize(
    ("items", "reason"), [("[1", "pending turn 't': "), ("{}", "pending turn 't': ")]
)
async def test_a_pending_turn_that_cannot_be_decoded_raises_and_stays(path, items, reason):
    async with SqliteSessionStore(path) as store:
        await store.begin(Turn("s", [A], turn_id="t"))
        query(path, "UPDATE memory_pending SET items = ?", items)
        for _ in range(2):
            with pytest.raises(CorruptSessionError, match=reason) as caught:
                await store.pending("s")
            assert caught.value.session_id == "s"
        await store.forget("s", "t")
        assert await ids(store) == []


@pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer lets each awaited frame take twice the stack"
)
async def test_a_deep_item_is_pending_at_any_depth_of_the_stack(store):
    turn = Turn("s", [nested(499)], turn_id="t")
    for begin_at, read_at in ((900, 90), (90, 900)):
        await await_deep(lambda: store.begin(turn), begin_at)
        (pending,) = await await_deep(lambda: store.pending("s"), read_at)
        assert pending.items == [nested(499)]


@every_cancellation
async def test_a_cancelled_begin_is_whole_or_absent(path, cancelled):
    async with SqliteSessionStore(path) as store:

        async def check(nth, _result, was_cancelled):
            pending = await store.pending(f"s{nth}")
            found = [(each.turn_id, each.items) for each in pending]
            assert found in ([], [("t", [A])])
            assert was_cancelled or found
            await assert_store_works(store)

        await cancel_at_every_suspension(
            lambda nth: store.begin(Turn(f"s{nth}", [A], turn_id="t")), cancelled, check
        )


@every_cancellation
async def test_a_turn_whose_append_is_cancelled_is_pending_or_whole(path, cancelled):
    async with SqliteSessionStore(path) as store:

        async def begin_and_append(nth):
            await store.append(Turn(f"s{nth}", [A, B], turn_id="t"))

        async def check(nth, _result, was_cancelled):
            await assert_store_works(store)  # a write that was cancelled natively is over then
            whole, pending = list(await store.load(f"s{nth}")), await ids(store, f"s{nth}")
            assert (whole, pending) in (([A, B], []), ([], ["t"]))
            assert was_cancelled or whole
            await store.begin(Turn(f"s{nth + 1}", [A], turn_id="t"))

        await store.begin(Turn("s1", [A], turn_id="t"))
        await cancel_at_every_suspension(begin_and_append, cancelled, check)
