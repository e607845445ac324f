"""A traced store: the store itself, with a span for each call."""

from __future__ import annotations

from itertools import combinations

import anyio
import pytest

from helpers.messages import ITEM, assistant, user
from helpers.plain_store import Plain
from helpers.recording_store import PROTOCOL_METHODS, FullRecordingStore, recording_class
from helpers.services import BlockingModel, Boom
from helpers.waiting import until
from tower_memory import (
    Erasure,
    InMemorySessionStore,
    MemoryLayer,
    Page,
    ScopedStore,
    SessionCatalog,
    SessionConflict,
    SessionErasure,
    SessionSearch,
    SessionSummaries,
    SqliteSessionStore,
    Turn,
    TurnJournal,
)
from tower_memory.bridges import ThreadedStore
from tower_memory.postgres import PostgresSessionStore
from tower_memory.testing import check_session_store
from tower_memory.tracing import TracedStore
from tower_memory.windows import LastItems, Summarised

CAPABILITIES = [SessionCatalog, SessionErasure, SessionSearch, SessionSummaries, TurnJournal]
SUBSETS = [each for n in range(6) for each in combinations(CAPABILITIES, n)]
SECRET = "my secret, 4711"
TURN = Turn("s", [{"role": "user", "content": SECRET}], turn_id="t1", metadata={"note": SECRET})

CALLS = {
    "load": ((["s"], {"limit": 3}), {"limit": 3}),
    "append": (([TURN], {}), {"turn.id": "t1", "items": 1, "bytes": 43}),
    "pop": ((["s"], {}), {}),
    "clear": ((["s"], {}), {}),
    "sessions": (([], {"prefix": "s", "limit": 4}), {"limit": 4, "entries": 1}),
    "describe": ((["s"], {}), {}),
    "annotate": ((["s", {"title": SECRET}], {}), {}),
    "fork": ((["s", "s2"], {}), {"new_conversation.id": "s2"}),
    "search": (([SECRET], {}), {"limit": 20, "entries": 1}),
    "erase": (([], {"session_id": "s"}), {"sessions": 1, "turns": 2, "items": 4}),
    "scrub": (([], {}), {}),
    "load_summary": ((["s"], {}), {}),
    "save_summary": ((["s", SECRET], {"turn_id": "t1", "since": 1}), {"turn.id": "t1"}),
    "begin": (([TURN], {"owner": "me"}), {"turn.id": "t1", "items": 1, "bytes": 43}),
    "fail": ((["s", "t1"], {}), {"turn.id": "t1"}),
    "pending": ((["s"], {}), {"entries": 0}),
    "forget": ((["s", "t1"], {}), {"turn.id": "t1"}),
}
"""For each method: arguments with a secret in each place of content, and the attributes."""

ANSWERS = {
    "sessions": Page([SECRET], next="cursor"),
    "search": Page([SECRET]),
    "erase": Erasure(1, 2, 4),
    "pending": [],
    "pop": SECRET,
}


async def test_a_traced_store_keeps_the_contract_of_its_store(recorded):
    report = await check_session_store(lambda: recorded.store(InMemorySessionStore()))
    assert {*report.groups} == {*PROTOCOL_METHODS}


def test_a_traced_store_has_exactly_the_capabilities_of_its_store():
    for protocols in SUBSETS:
        store = TracedStore(recording_class(*(each.__name__ for each in protocols))())
        assert [each for each in CAPABILITIES if isinstance(store, each)] == list(protocols)
        assert isinstance(store, TracedStore)


def test_every_method_is_tested():
    assert {*CALLS} == {name for names in PROTOCOL_METHODS.values() for name in names}


@pytest.mark.parametrize("method", CALLS)
async def test_every_call_is_passed_on_with_a_span_without_content(recorded, method):
    (args, options), expected = CALLS[method]
    base = FullRecordingStore(**ANSWERS)
    result = await getattr(recorded.store(base), method)(*args, **options)
    assert result is ANSWERS.get(method)

    ((called, passed, passed_options),) = base.calls
    assert (called, [*passed]) == (method, args)
    assert passed_options.items() >= options.items()
    has_session = method not in ("sessions", "search", "scrub")
    session = {"gen_ai.conversation.id": "s"} if has_session else {}
    given = {**session, **expected, "outcome": "ok"}
    assert recorded.attributes(f"store.{method}") == given
    assert recorded.points("operation.duration") == [
        ({"operation": f"store.{method}", "outcome": "ok"}, 1)
    ]
    assert SECRET not in recorded.text()


@pytest.mark.parametrize("method", CALLS)
async def test_every_error_is_raised_with_a_span_without_its_text(recorded, method):
    (args, options), _ = CALLS[method]
    store = recorded.store(FullRecordingStore(**{method: Boom(SECRET)}))
    with pytest.raises(Boom, match=SECRET):
        await getattr(store, method)(*args, **options)
    assert recorded.attributes(f"store.{method}")["error.type"] == "Boom"
    assert SECRET not in recorded.text()


async def test_revisions_and_counts_come_from_the_results(recorded):
    store = recorded.store(InMemorySessionStore())
    await store.append(Turn("s", [ITEM, ITEM]))
    await store.load("s")
    await store.describe("s")
    await store.fork("s", "s2")
    counts = {"items": 2, "revision": 1}
    for name in ("append", "load", "describe"):
        assert recorded.attributes(f"store.{name}").items() >= counts.items()
    assert recorded.attributes("store.fork")["items"] == 2
    assert recorded.points("items.loaded") == [({"operation": "store.load"}, 2)]
    assert recorded.points("items.saved") == [({"operation": "store.append"}, 2)]


@pytest.mark.parametrize("limit", [2**63, "3", True, None])
async def test_a_limit_that_no_exporter_can_encode_is_no_attribute(recorded, limit):
    await recorded.store(FullRecordingStore()).load("s", limit=limit)
    assert "limit" not in recorded.attributes("store.load")


# Equality, hooks, opening


def stores(path):
    sqlite = SqliteSessionStore(path)
    return [
        InMemorySessionStore(),
        sqlite,
        ScopedStore(sqlite, "a"),
        ThreadedStore(sqlite),
        PostgresSessionStore("postgresql://localhost/chats"),  # it connects at the first use
        Plain(),
        FullRecordingStore(),
    ]


def test_a_traced_store_equals_its_store_and_no_other(path):
    for number, store in enumerate(stores(path)):
        traced = TracedStore(store)
        assert traced == store
        assert store == traced
        assert traced == TracedStore(store) == TracedStore(TracedStore(store))
        assert hash(traced) == hash(TracedStore(TracedStore(store)))
        assert len({store, traced}) == 1
        for other in stores(path)[number + 1 :]:
            assert traced != other
            assert other != traced
            assert traced != TracedStore(other)


def test_a_scope_of_a_traced_store_equals_the_scope_of_the_store(path):
    store = SqliteSessionStore(path)
    assert ScopedStore(TracedStore(store), "a") == ScopedStore(store, "a")
    assert TracedStore(ScopedStore(store, "a")) == ScopedStore(store, "a")
    assert TracedStore(ScopedStore(store, "a")) != ScopedStore(store, "b")


async def test_turns_over_a_store_wait_for_each_other_whether_it_is_traced_or_not(recorded):
    store, model = InMemorySessionStore(), BlockingModel()
    layers = [MemoryLayer.over(each, session_id="s") for each in (store, recorded.store(store))]
    async with anyio.create_task_group() as tasks:
        for layer, text in zip(layers, "ab", strict=True):
            tasks.start_soon(layer(model), [user(text)])
        await until(lambda: model.called)
        await anyio.wait_all_tasks_blocked()
        assert len(model.called) == 1
        model.go_on.set()
    assert model.most_at_once == 1
    assert len(await store.load("s")) == 4


def test_a_window_over_the_store_fits_a_layer_over_the_traced_store(recorded):
    async def summarise(_request):
        return "a summary"

    store = InMemorySessionStore()
    for one, other in ((store, recorded.store(store)), (recorded.store(store), store)):
        window = Summarised(summarise, store=one, keep=LastItems(2), every=1)
        assert MemoryLayer.over(other, session_id="s", window=window).store == store


def test_a_traced_store_has_the_hooks_of_its_store(path):
    traced = TracedStore(SqliteSessionStore(path, item_type=str, busy_timeout=7))
    assert (traced.item_type, traced.busy_timeout) == (str, 7)
    assert not hasattr(TracedStore(Plain()), "item_type")


async def test_entering_and_closing_a_traced_store_opens_and_closes_its_store(recorded, path):
    async with recorded.store(SqliteSessionStore(path)) as store:
        await store.append(Turn("s", [ITEM]))
    assert recorded.names == ["store.append"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]  # closed: no log is left
    async with recorded.store(InMemorySessionStore()) as store:  # has nothing to open
        assert await store.load("s") == []


def test_a_bad_store_is_refused():
    with pytest.raises(TypeError, match="store must have load, append, pop and clear"):
        TracedStore(InMemorySessionStore)


# Other stores and layers


async def test_ids_are_those_of_the_place_of_the_traced_store(recorded):
    store = InMemorySessionStore()
    await recorded.store(ScopedStore(store, "a")).pop("s")
    await ScopedStore(recorded.store(store), "a").clear("s")
    assert recorded.attributes("store.pop")["gen_ai.conversation.id"] == "s"
    assert recorded.attributes("store.clear")["gen_ai.conversation.id"] == "1:a/s"


async def test_spans_nest_through_the_thread_of_a_threaded_store(recorded):
    store = ThreadedStore(recorded.store(InMemorySessionStore()))
    with recorded.tracer.start_as_current_span("other framework"):
        await store.append(Turn("s", [ITEM]))
    await store.aclose()
    assert recorded.parent("store.append") == "other framework"


def test_spans_nest_in_the_loop_of_a_threaded_store(recorded):
    store = ThreadedStore(InMemorySessionStore())

    async def ask(_messages):
        recorded.tracer.start_span("other client").end()
        return "Hello"

    with recorded.tracer.start_as_current_span("other framework"):
        store.run(recorded.layer(recorded.memory(store)(ask)), [user("a")])
    store.close()
    assert recorded.parent("other client") == recorded.parent("save") == "turn"
    assert recorded.parent("turn") == "other framework"


async def test_the_spans_of_a_traced_store_are_children_of_the_turn(recorded):
    store = recorded.store(InMemorySessionStore())
    chat = recorded.traced_memory(store, journal=True)

    async def ask(_messages):
        return "Hello"

    await chat(ask)([user("a")])
    assert await store.load("s") == [user("a"), assistant("Hello")]
    parents = {name: recorded.parent(name) for name in ("store.begin", "store.append")}
    assert parents == {"store.begin": "turn", "store.append": "turn"}


async def test_a_conflict_through_a_memory_layer_is_seen_in_store_and_turn(recorded):
    store = recorded.store(InMemorySessionStore())

    async def ask(_messages):
        await store.store.append(Turn("s", [ITEM]))
        return "Hello"

    with pytest.raises(SessionConflict):
        await recorded.traced_memory(store, overlap="reject")(ask)([user("a")])
    for name in ("store.append", "turn"):
        assert recorded.attributes(name)["error.type"] == "SessionConflict"
