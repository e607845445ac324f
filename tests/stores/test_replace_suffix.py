"""Replacing the newest items of a session in one commit, in every store."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.messages import user
from helpers.passing_store import Meanwhile
from tower_memory import ScopedStore, SessionHandle, Turn, UnencodableItemError

OTHER, NEW, NEWER = user("other"), user("new"), user("newer")
LAYOUTS = [[1], [3], [2, 1], [1, 3, 2], [1, 0, 2, 0]]
"""Numbers of items of the turns of a session."""


@pytest.fixture(params=["plain", "scoped"])
def any_store(request, store):
    return store if request.param == "plain" else ScopedStore(store, "tenant")


async def fill(store, session_id, sizes):
    """Add a turn for each of *sizes*, and return all items."""
    items = [user(f"{number}") for number in range(sum(sizes))]
    rest = iter(items)
    for number, size in enumerate(sizes):
        turn_id = f"turn {number}"
        if size:
            turn = [next(rest) for _ in range(size)]
            await store.append(Turn(session_id, turn, turn_id=turn_id, metadata={"n": number}))
            continue
        # Only replacing a turn by nothing leaves a turn without items.
        await store.append(Turn(session_id, [OTHER], turn_id="gone"))
        revision = (await store.load(session_id, limit=0)).revision
        await store.append(
            Turn(session_id, [], turn_id=turn_id, replaces="gone", expected_revision=revision)
        )
    return items


def layout(history):
    return [(turn.turn_id, turn.position, dict(turn.metadata)) for turn in history.turns]


@pytest.mark.parametrize("sizes", LAYOUTS, ids=str)
async def test_any_number_of_newest_items_is_replaced_by_any_number_of_items(any_store, sizes):
    """Turns before the replaced items stay as they are; a turn that is cut keeps its metadata."""
    for size in range(sum(sizes) + 1):
        for new in ([], [NEW], [NEW, NEWER]):
            session_id = f"{size} {len(new)}"
            items = await fill(any_store, session_id, sizes)
            before = await any_store.load(session_id)
            session, kept = SessionHandle(any_store, session_id), len(items) - size

            assert await session.replace_suffix(iter(items[kept:]), iter(new)) is True

            after = await any_store.load(session_id)
            assert after == [*items[:kept], *new]
            whole = [
                turn
                for turn, following in zip(
                    layout(before), [*layout(before)[1:], (None, len(items), {})], strict=True
                )
                if following[1] <= kept and turn[1] < kept
            ]
            assert layout(after)[: len(whole)] == whole
            if len(layout(after)) > len(whole):
                _, position, metadata = layout(after)[len(whole)]
                assert position <= kept
                is_cut = position < kept
                assert bool(metadata) == is_cut


@pytest.mark.parametrize(
    "old",
    [[user("0")], [user("1"), user("0")], [user(""), user("0"), user("1"), user("2")], [OTHER]],
    ids=["older", "swapped", "longer than the session", "unknown"],
)
async def test_nothing_is_written_if_the_newest_items_are_others(any_store, old):
    await fill(any_store, "s", [2, 1])
    before = await any_store.load("s")
    assert await SessionHandle(any_store, "s").replace_suffix(old, [NEW]) is False
    after = await any_store.load("s")
    assert (after, after.revision) == (before, before.revision)
    assert await SessionHandle(any_store, "empty").replace_suffix(old, [NEW]) is False
    assert await any_store.load("empty") == []


async def test_only_the_items_and_the_turn_in_which_they_begin_are_loaded(store):
    limits = []

    class Loads(Meanwhile):
        async def load(self, session_id, *, limit=None, before=None):
            limits.append(limit)
            return await super().load(session_id, limit=limit, before=before)

    items = await fill(store, "s", [50, 3, 2])
    session = SessionHandle(Loads(store), "s")
    assert await session.replace_suffix(items[-2:], items[-2:]) is True
    assert limits == [2]
    assert await session.replace_suffix(items[-3:], [NEW]) is True
    assert limits == [2, 3, 6]


async def test_without_old_items_the_new_items_are_added(any_store):
    session = SessionHandle(any_store, "s")
    assert await session.replace_suffix([], []) is True
    assert (await any_store.load("s")).revision == 0
    assert await session.replace_suffix([], [NEW]) is True
    assert await session.replace_suffix([], [NEWER]) is True
    assert await session.get_items() == [NEW, NEWER]


async def test_an_item_that_is_added_between_the_load_and_the_commit_is_never_lost(any_store):
    items = await fill(any_store, "s", [2, 1])

    async def add():
        await any_store.append(Turn("s", [OTHER]))

    session = SessionHandle(Meanwhile(any_store, add), "s")
    assert await session.replace_suffix(items[1:], [NEW]) is False
    assert await session.get_items() == [*items, OTHER]


async def test_the_items_are_replaced_if_a_change_has_left_them_equal(any_store):
    """The handle compares again each time the session has changed."""
    items = await fill(any_store, "s", [2, 1])

    async def say_again():
        popped = await any_store.pop("s")
        await any_store.append(Turn("s", [popped]))

    session = SessionHandle(Meanwhile(any_store, say_again, say_again), "s")
    assert await session.replace_suffix(items[1:], [NEW]) is True
    assert await session.get_items() == [items[0], NEW]


async def test_each_of_many_attempts_at_once_replaces_the_items_that_it_loaded(any_store):
    """Each attempt adds 1 to a stored counter, which counts the attempts that returned True."""
    session = SessionHandle(any_store, "s")
    await session.add_items([user("first"), user("0")])
    successes = 0

    async def count():
        nonlocal successes
        for _ in range(5):
            (last,) = await session.get_items(1)
            await checkpoint()
            if await session.replace_suffix([last], [user(str(int(last["content"]) + 1))]):
                successes += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(count)

    assert successes >= 5
    assert await session.get_items() == [user("first"), user(str(successes))]


@every_cancellation
async def test_a_replacement_that_is_cancelled_anywhere_is_whole_or_absent(cancelled, store):
    """A repeated replacement is whole. Each attempt has a session of its own."""
    old, replaced = [user("0"), user("1"), user("2")], [user("0"), NEW]
    outcomes = []

    def replace(nth):
        return SessionHandle(store, str(nth)).replace_suffix(old[1:], [NEW])

    async def check(nth, outcome, was_cancelled):
        items = await store.load(str(nth))
        outcomes.append(items == replaced)
        assert items in ([replaced, old] if was_cancelled else [replaced])
        assert outcome is (None if was_cancelled else True)
        await replace(nth)  # a commit on Postgres may still have been on its way
        assert await store.load(str(nth)) == replaced
        await store.append(Turn(str(nth + 1), old))

    await store.append(Turn("1", old))
    await cancel_at_every_suspension(replace, cancelled, check)
    assert not outcomes[0]


async def test_a_new_item_that_cannot_be_stored_is_refused_and_the_old_items_stay(any_store):
    items = await fill(any_store, "s", [2, 1])
    with pytest.raises(UnencodableItemError):
        await SessionHandle(any_store, "s").replace_suffix(items[1:], [user({1, 2})])
    assert await any_store.load("s") == items


@pytest.mark.parametrize("bad", [NEW, "text", None, 3])
async def test_a_value_that_is_no_sequence_of_items_is_refused_by_name_first(any_store, bad):
    session = SessionHandle(any_store, "s")
    with pytest.raises(TypeError, match="old_items must be a sequence of items"):
        await session.replace_suffix(bad, [NEW])
    with pytest.raises(TypeError, match="new_items must be a sequence of items"):
        await session.replace_suffix([], bad)
    assert (await any_store.load("s")).revision == 0
