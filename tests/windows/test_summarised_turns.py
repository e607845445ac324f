"""A summary and the turns that it covers: changed, copied, and summarised twice at once."""

from __future__ import annotations

import anyio
import pytest

from helpers.layers import memory_over
from helpers.messages import assistant, calling, result, user
from helpers.services import must_not_be_called, repeat_last
from helpers.summarising import SECRET, fill, over, show, stored_text, talk, told, warnings
from tower_memory import MemoryLayer, ScopedStore, SqliteSessionStore, Turn
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastTurns, Summarised


async def test_of_two_summaries_that_are_made_at_once_one_is_stored_and_used_by_both(path):
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path) as other:
        await fill(one, *range(5))
        arrived, both = [], anyio.Event()

        async def summarise(_items):
            arrived.append(f"summary {len(arrived)}")
            if len(arrived) == 2:
                both.set()
            text = arrived[-1]
            await both.wait()
            return text

        shown = []

        async def ask(store):
            shown.append(
                await show(Summarised(summarise, keep=LastTurns(2), every=3, store=store), store)
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, one)
            tasks.start_soon(ask, other)

        text = await stored_text(one)
        assert text in arrived
        assert len(arrived) == 2
        assert shown == [[told(text), *talk(3, 4)]] * 2


async def replace_t1(store):
    revision = (await store.load("s", limit=0)).revision
    turn = Turn("s", talk(1), turn_id="new", replaces="t1", expected_revision=revision)
    await store.append(turn)


async def pop_to_t1(store):
    for _ in range(2 * 4):
        await store.pop("s")


@pytest.mark.parametrize(
    "change",
    [
        replace_t1,
        pop_to_t1,
        lambda store: store.clear("s"),
        lambda store: store.erase(session_id="s"),
    ],
    ids=["replace", "pop", "clear", "erase"],
)
async def test_a_summary_is_removed_with_a_turn_that_it_covers(store, change):
    await fill(store, *range(6))
    await show(over(store, "first"), store)
    await change(store)
    left = list(await store.load("s"))
    window = Summarised(must_not_be_called, keep=LastTurns(2), every=3, store=store)
    assert await show(window, store) == left

    await fill(store, *range(10, 15))
    shown = await show(over(store, "second"), store)
    assert shown == [told("second"), *talk(13, 14)]


async def test_a_summary_stays_if_a_newer_turn_is_replaced(store):
    await fill(store, *range(5))
    await show(over(store, "first"), store)
    revision = (await store.load("s", limit=0)).revision
    new = Turn("s", talk(8), turn_id="new", replaces="t4", expected_revision=revision)
    await store.append(new)
    window = Summarised(must_not_be_called, keep=LastTurns(2), every=3, store=store)
    assert await show(window, store) == [told("first"), *talk(3, 8)]


async def test_a_turn_that_replaces_a_covered_turn_never_gets_the_summary(store):
    """The summary tells of the replaced turn."""
    await fill(store, *range(9))
    await show(over(store, "of t0 to t6"), store)
    window = over(store, "of t0 to t2")
    service = ScriptedService("ok")
    memory = memory_over(store, window=window, replaces=lambda _: "t5")
    await memory(service)([user("edited")])
    assert service.requests == [[told("of t0 to t2"), *talk(3, 4), user("edited")]]
    assert await store.load_summary("s") is None

    new = over(store, "of the new turns")
    assert (await show(new, store))[0] == told("of the new turns")
    assert new.service.requests == [tuple(talk(0, 1, 2, 3))]


async def test_a_summary_may_reach_into_the_kept_items(store):
    await fill(store, *range(6))
    await show(over(store, "first", keep=LastTurns(1)), store)
    window = Summarised(must_not_be_called, keep=LastTurns(3), every=2, store=store)
    assert await show(window, store) == [told("first"), *talk(3, 4, 5)]


async def test_a_fork_makes_a_summary_of_its_own(store):
    await fill(store, *range(5))
    await show(over(store, "first"), store)
    await store.fork("s", "copy")
    shown = await over(store, "second")(await store.load("copy"))
    assert list(shown) == [told("second"), *talk(3, 4)]
    assert await stored_text(store) == "first"


async def test_two_tenants_with_one_session_id_have_two_summaries(store):
    for name in ("ann", "ben"):
        tenant = ScopedStore(store, name)
        await fill(tenant, *range(5))
        assert (await show(over(tenant, name), tenant))[0] == told(name)
    assert await stored_text(ScopedStore(store, "ann")) == "ann"


async def test_a_layer_refuses_the_window_of_another_tenant(store):
    """Its summary of a session with the same id would reach the model."""
    ann, ben = ScopedStore(store, "ann"), ScopedStore(store, "ben")
    MemoryLayer.over(ann, session_id="s", window=over(ScopedStore(store, "ann")))
    for other in (ben, store):
        with pytest.raises(ValueError, match="window must read the store of the layer"):
            MemoryLayer.over(other, session_id="s", window=over(ann))


async def test_a_summary_of_turns_that_change_during_its_call_is_shown_once_and_not_stored(
    store, caplog
):
    await fill(store, *range(5))
    history = await store.load("s")

    async def summarise(_items):
        await store.clear("s")
        return SECRET

    window = Summarised(summarise, keep=LastTurns(2), every=3, store=store)
    assert list(await window(history)) == [told(SECRET), *talk(3, 4)]
    assert "its turns changed meanwhile" in warnings(caplog)[0]
    assert await store.load_summary("s") is None


@pytest.mark.parametrize("first", [[user("a"), calling("1")], [calling("1")]])
async def test_a_late_result_keeps_its_call_although_a_summary_covers_it(store, first):
    await store.append(Turn("s", first))
    await fill(store, *range(5))
    assert (await show(over(store, "first"), store))[0] == told("first")
    await store.append(Turn("s", [result("1"), assistant("late")]))
    await fill(store, 5, 6, 7)

    history = await store.load("s")
    window = Summarised(must_not_be_called, keep=LastTurns(2), every=3, store=store)
    assert await show(window, store) == [told("first"), *history]
    await memory_over(store, window=window)(repeat_last)([user("new")])
