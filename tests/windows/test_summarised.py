"""The summarised window: a stored summary in front of the newest exchanges."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.layers import memory_over
from helpers.messages import assistant, calling, result, user
from helpers.parameter_ids import without_addresses
from helpers.recording_store import recording_class
from helpers.services import Boom, must_not_be_called, repeat_last
from helpers.summarising import SECRET, fill, over, show, stored_text, talk, told, warnings
from helpers.windows import ten
from tower_memory import (
    History,
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveSession,
    ScopedStore,
    SessionError,
    SqliteSessionStore,
    Turn,
)
from tower_memory.testing import ScriptedService
from tower_memory.windows import LastItems, LastTurns, Shortest, Stepped, Summarised, TokenBudget


@pytest.fixture
def store():
    return InMemorySessionStore()


# When a summary is made


async def test_the_history_stays_whole_until_enough_exchanges_are_older_than_the_kept_ones(store):
    for number in range(5):
        window = Summarised(must_not_be_called, keep=LastTurns(2), every=3, store=store)
        assert await show(window, store) == talk(*range(number))
        await fill(store, number)
    assert await stored_text(store) is None


async def test_the_first_summary_covers_all_exchanges_before_the_kept_ones(store):
    await fill(store, *range(5))
    window = over(store, "first")
    assert await show(window, store) == [told("first"), *talk(3, 4)]
    assert window.service.requests == [tuple(talk(0, 1, 2))]
    summary = await store.load_summary("s")
    assert (summary.text, summary.turn_id, summary.end) == ("first", "t2", 6)


async def test_a_summary_is_renewed_from_itself_and_the_exchanges_since(store):
    await fill(store, *range(5))
    window = over(store, "first", "second")
    for number in (5, 6):
        await show(window, store)
        await fill(store, number)
    assert await show(window, store) == [told("first"), *talk(3, 4, 5, 6)]
    await fill(store, 7)
    assert await show(window, store) == [told("second"), *talk(6, 7)]
    assert window.service.requests[1] == (told("first"), *talk(3, 4, 5))
    assert (await store.load_summary("s")).end == 12


async def test_requests_share_their_prefix_between_two_renewals(store):
    window = over(store, *map(str, range(100)))
    memory = memory_over(store, window=window)
    service = ScriptedService(*["ok"] * 30)
    for number in range(30):
        await memory(service)([user(f"q{number}")])

    renewals = 0
    for before, after in pairwise(service.requests):
        if after[: len(before)] != before:
            renewals += 1
            assert after[0]["content"] != before[0]["content"]
    assert renewals == len(window.service.requests) == 9
    assert len(await store.load("s")) == 60


async def test_the_stored_conversation_does_not_change(store):
    await fill(store, *range(9))
    before = await store.load("s")
    await show(over(store, "first"), store)
    after = await store.load("s")
    assert (list(after), after.revision, after.turns) == (
        list(before),
        before.revision,
        before.turns,
    )


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (LastTurns(1), 1),
        (LastItems(4), 2),
        (LastItems(0), 0),
        (TokenBudget(60, count=ten), 3),
        (Shortest(LastTurns(3), LastItems(2)), 1),
        (Stepped(LastTurns(3), by=4), 2),
    ],
    ids=without_addresses,
)
async def test_the_newest_items_are_those_of_the_inner_window(keep, kept):
    """A summary ends before a turn, so it covers all but the last one at most."""
    store = InMemorySessionStore()
    await fill(store, *range(8))
    shown = await show(over(store, "first", keep=keep), store)
    assert shown == [told("first"), *talk(*range(8 - max(kept, 1), 8))]


async def test_the_caller_chooses_the_item_of_a_summary(store):
    await fill(store, *range(5))
    window = over(store, "first", "second", item=lambda text: {"role": "developer", "text": text})
    assert (await show(window, store))[0] == {"role": "developer", "text": "first"}


async def test_a_session_has_a_summary_for_each_name(store):
    await fill(store, *range(5))
    assert (await show(over(store, "short", name="short"), store))[0] == told("short")
    assert (await show(over(store, "long", name="long"), store))[0] == told("long")
    assert await stored_text(store, name="short") == "short"
    assert await stored_text(store) is None


# Bounds


@pytest.mark.parametrize("exchanges", [300, pytest.param(1000, marks=pytest.mark.long)])
async def test_the_input_and_the_text_stay_bounded_over_many_exchanges(exchanges):
    store = InMemorySessionStore()
    sizes, texts = [], []

    async def summarise(items):
        sizes.append(len(items))
        texts.append("".join(item["content"] for item in items)[-100:])
        return texts[-1]

    window = Summarised(summarise, keep=LastTurns(20), every=10, store=store)
    for number in range(exchanges):
        await fill(store, number)
        limit = window.needs(None)
        shown = await window(await store.load("s", limit=limit))
        assert len(shown) <= 2 * (20 + 9) + 1

    assert len(sizes) == (exchanges - 20) // 10
    assert set(sizes[1:]) == {21}  # the summary and ten exchanges
    assert (await store.load_summary("s")).end == 2 * (exchanges - 20)


async def test_an_old_session_is_summarised_in_several_calls_each_of_which_is_stored():
    store = InMemorySessionStore()
    await fill(store, *range(1000))
    ends = []

    async def summarise(items):
        summary = await store.load_summary("s")
        ends.append((summary.end if summary else 0, len(items)))
        return f"call {len(ends)}"

    window = Summarised(
        summarise, keep=LastTurns(20), every=10, store=store, max_input_tokens=5_000
    )
    history = await store.load("s", limit=window.needs(None))
    assert history.offset > 1000
    shown = await window(history)

    position = 0
    for end, items in ends:
        assert end == position
        position += items - (1 if end else 0)
        assert items < 700
    assert (await store.load_summary("s")).end == position
    assert 3 <= len(ends) <= 8
    assert shown[0] == told(f"call {len(ends)}")
    assert shown[1:] == list(history[position - history.offset :])
    assert 20 <= len(shown[1:]) / 2 < 30


async def test_a_failure_in_an_old_session_keeps_the_summaries_before_it(store):
    await fill(store, *range(20))
    window = over(store, "first", Boom(), "second", "third", max_input_tokens=100)
    assert await show(window, store) == [told("first"), *talk(18, 19)]
    covered = (await store.load_summary("s")).end
    assert 0 < covered < 36
    await show(window, store)
    assert window.service.requests[2][:2] == (told("first"), user(f"q{covered // 2}"))


async def test_an_exchange_that_is_longer_than_a_batch_is_summarised_alone(store):
    for number in range(5):
        await store.append(Turn("s", [user("x" * 1000), assistant(f"a{number}")]))
    window = over(store, "first", "second", max_input_tokens=100, every=2)
    assert len(await show(window, store)) == 1 + 6
    assert list(map(len, window.service.requests)) == [2, 3]


async def test_a_turn_of_many_exchanges_is_summarised_as_a_whole_in_several_calls(store):
    """A summary ends with a turn, but a call gets a bounded batch."""
    await store.append(Turn("s", talk(*range(300)), turn_id="imported"))
    await fill(store, *range(300, 305))
    window = over(store, *map(str, range(100)), max_input_tokens=1000)
    shown = await window(await store.load("s", limit=12))
    calls = window.service.requests
    assert len(calls) > 5
    assert [item for call in calls for item in call if not item["content"].startswith("Sum")] == (
        talk(*range(303))
    )
    assert shown == [told(str(len(calls) - 1)), *talk(303, 304)]


async def test_a_turn_that_reaches_into_the_kept_items_is_not_summarised(store):
    """Its older exchanges are left out, as without a summary."""
    await fill(store, 0)
    await store.append(Turn("s", talk(*range(1, 9))))
    assert await show(over(store, "first"), store) == [told("first"), *talk(7, 8)]
    await store.clear("s")
    await store.append(Turn("s", talk(*range(9))))
    window = Summarised(must_not_be_called, keep=LastTurns(2), every=3, store=store)
    assert await show(window, store) == talk(7, 8)


# The loaded items


async def test_only_the_exchanges_to_summarise_are_loaded_from_the_store():
    store = InMemorySessionStore()
    loads = []

    class Store:
        append, pop, clear = store.append, store.pop, store.clear
        load_summary, save_summary = store.load_summary, store.save_summary

        async def load(self, session_id, *, limit=None, before=None):
            loads.append((limit, before))
            return await store.load(session_id, limit=limit, before=before)

    await fill(store, *range(400))
    recording = Store()
    window = over(recording, "first", keep=LastItems(4))
    layer = memory_over(recording, window=window)
    await layer(repeat_last)([user("new")])
    # The kept items, one more and three exchanges; then the older part, from its start.
    assert loads == [(11, None), (256, 256), (512, 512), (790, 790)]
    loads.clear()
    await layer(repeat_last)([user("new")])
    assert loads == [(11, None)]


async def test_the_layer_loads_more_until_it_has_enough_exchanges(store):
    calls = [item for n in range(40) for item in (calling(str(n)), result(str(n)))]
    for number in range(3):
        await store.append(Turn("s", [user(str(number)), *calls, assistant("done")]))
    service = ScriptedService("ok", "ok")
    memory = memory_over(store, window=over(store, "first", keep=LastTurns(1), every=2))(service)
    await memory([user("new")])
    assert service.requests[0][:2] == [told("first"), user("2")]


@pytest.mark.parametrize("limit", [1, 5, 8, 30])
async def test_a_load_with_a_limit_shows_no_more_than_its_items(store, limit):
    await fill(store, *range(20))
    window = over(store, "first", every=30)
    loaded = await store.load("s", limit=limit)
    service = ScriptedService("ok")
    layer = MemoryLayer(
        LoadSession(store, limit=limit), SaveSession(store), session_id="s", window=window
    )
    await layer(service)([user("new")])
    assert service.requests[0] == [*loaded[limit % 2 :], user("new")]


async def test_a_store_without_the_session_is_reported(store, caplog):
    """The window was built over the whole store, and the layer over one tenant's part."""
    tenant = ScopedStore(store, "tenant")
    await fill(tenant, *range(20))
    for limit, reason in [
        (12, "the store does not hold the items before"),
        (None, "turns changed"),
    ]:
        caplog.clear()
        shown = await over(store, "first")(await tenant.load("s", limit=limit))
        assert list(shown[-4:]) == talk(18, 19)
        (warning,) = warnings(caplog)
        assert reason in warning


# Failures


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Boom(SECRET), "the service raised Boom"),
        ({"text": SECRET}, "the service returned dict instead of text"),
        (None, "the service returned NoneType instead of text"),
        (" \n", "the service returned no text"),
        (SECRET * 9, "the text has 135 characters, and max_characters=100"),
        (f"{SECRET}\ud800", "the text is no valid Unicode"),
    ],
    ids=["error", "dict", "None", "blank", "long", "surrogate"],
)
async def test_a_failure_of_the_service_leaves_the_plain_window(store, caplog, answer, reason):
    await fill(store, *range(5))
    window = over(store, answer, "first", answer, max_characters=100)
    assert await show(window, store) == talk(3, 4)
    assert warnings(caplog) == [f"session 's': the summary was not renewed or not stored: {reason}"]
    assert caplog.records[-1].event == "no_summary"

    assert await show(window, store) == [told("first"), *talk(3, 4)]
    await fill(store, 5, 6, 7)
    assert await show(window, store) == [told("first"), *talk(6, 7)]
    assert await stored_text(store) == "first"


async def test_a_service_that_is_not_async_is_an_error(store):
    await fill(store, *range(5))
    window = Summarised(lambda _items: "text", keep=LastTurns(2), every=3, store=store)
    with pytest.raises(TypeError, match="a service must be async"):
        await show(window, store)


RecordingStore = recording_class("SessionSummaries")


async def test_a_summary_that_cannot_be_stored_is_shown_once(caplog):
    real = InMemorySessionStore()
    await fill(real, *range(20))
    window = over(RecordingStore(save_summary=SessionError(SECRET)), "first", max_input_tokens=100)
    shown = await window(await real.load("s"))
    assert shown == [told("first"), *talk(18, 19)]
    assert warnings(caplog) == [
        "session 's': the summary was not renewed or not stored: the store raised SessionError"
    ]


async def test_a_store_that_cannot_load_raises():
    real = InMemorySessionStore()
    await fill(real, *range(5))
    window = over(RecordingStore(load_summary=SessionError("broken")), "first")
    with pytest.raises(SessionError, match="broken"):
        await window(await real.load("s"))
    window = over(RecordingStore(load=SessionError("broken")), "first")
    with pytest.raises(SessionError, match="broken"):
        await window(await real.load("s", limit=8))


@every_cancellation
async def test_a_cancelled_summary_is_stored_or_not_and_cancels_the_turn(path, cancelled):
    async with SqliteSessionStore(path) as store:
        await fill(store, *range(5))
        history = await store.load("s")

        def ask(nth):
            return over(store, f"summary {nth}", name=f"name {nth}")(history)

        async def check(nth, outcome, was_cancelled):
            text = await stored_text(store, name=f"name {nth}")
            assert text in (None, f"summary {nth}")
            assert was_cancelled or outcome == [told(text), *talk(3, 4)]

        await cancel_at_every_suspension(ask, cancelled, check)


async def test_each_stored_summary_is_logged(store, caplog):
    caplog.set_level(logging.DEBUG, logger="tower_memory")
    await fill(store, *range(5))
    await show(over(store, SECRET), store)
    assert SECRET not in caplog.text
    record = caplog.records[-1]
    assert (record.levelname, record.event, record.session_id) == ("DEBUG", "summary", "s")
    assert (record.items, record.seconds > 0) == (6, True)


# In the layer


async def test_whole_requests_get_the_summary_and_their_new_messages(store):
    await fill(store, *range(5))
    service = ScriptedService("ok", "ok")
    memory = memory_over(store, window=over(store, "first"), whole_requests=True)(service)
    await memory([*talk(*range(5)), user("new")])
    assert service.requests == [[told("first"), *talk(3, 4), user("new")]]
    await memory([*talk(*range(5)), user("new"), assistant("ok"), user("newer")])
    assert service.requests[1] == [*service.requests[0], assistant("ok"), user("newer")]
    assert len(await store.load("s")) == 14


# Parameters


async def test_a_history_without_a_session_is_refused():
    with pytest.raises(ValueError, match=r"history must have a session_id, .*store\.load"):
        await over(InMemorySessionStore())(History(talk(*range(9))))


class NoSummaries:
    async def load(self, session_id, *, limit=None, before=None): ...
    async def append(self, turn): ...
    async def pop(self, session_id): ...
    async def clear(self, session_id): ...


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"service": 3}, TypeError, "service must be an async function from items to text, got 3"),
        ({"service": str}, TypeError, "service must be an async function"),
        ({"keep": 20}, TypeError, r"keep must be LastTurns, .*such as LastTurns\(20\), got 20"),
        ({"store": 3}, TypeError, "store must have load, append, pop and clear, got 3"),
        (
            {"store": NoSummaries()},
            TypeError,
            r"store must keep summaries, as SqliteSessionStore does \(see .*\), got NoSummaries",
        ),
        ({"item": "user"}, TypeError, "item must be a function from a text to an item, got str"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"every": 0}, ValueError, "every must be 1 or more, got 0"),
        ({"max_characters": "9"}, TypeError, "max_characters must be a whole number, got str"),
        ({"max_input_tokens": 0}, ValueError, "max_input_tokens must be 1 or more, got 0"),
    ],
    ids=without_addresses,
)
def test_bad_parameters_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        Summarised(**{"service": repeat_last, "store": InMemorySessionStore(), **parameters})


def test_a_service_that_yields_is_refused():
    async def stream(_items):
        yield "text"

    with pytest.raises(TypeError, match="service must return its response, and .*stream yields"):
        Summarised(stream, store=InMemorySessionStore())


@pytest.mark.parametrize(("number", "loaded"), [(20, []), (400, [256])])
async def test_exchanges_that_no_turn_begins_stay_hidden_with_a_warning(caplog, number, loaded):
    """Each turn is an answer with the next question, so no summary can end between two turns."""
    store, loads = InMemorySessionStore(), []

    class Store(type(store)):
        """A store that records the pages that the window loads."""

        async def load(self, session_id, *, limit=None, before=None):
            loads.append(limit)
            return await store.load(session_id, limit=limit, before=before)

        async def load_summary(self, session_id, *, name="summary"):
            return await store.load_summary(session_id, name=name)

    await store.append(Turn("s", [user("q0")]))
    for each in range(1, number):
        await store.append(Turn("s", [assistant("answer"), user(f"q{each}")]))

    window = over(Store(), keep=LastTurns(2))
    history = await store.load("s", limit=40)
    assert list(await window(history)) == list(history)[-3:]
    assert warnings(caplog) == [
        "session 's': the summary was not renewed or not stored: none of its older turns starts "
        "with a message of the user"
    ]
    assert loads == loaded
