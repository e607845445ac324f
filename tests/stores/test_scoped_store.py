"""A store as one tenant sees it, and the capabilities of every store that wraps a store."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from itertools import combinations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.locks import count_locks
from helpers.messages import ITEM
from helpers.passing_store import PassingStore
from helpers.plain_store import Plain
from helpers.recording_store import PROTOCOL_METHODS, FullRecordingStore, recording_class
from helpers.runtimes import on_one_runtime
from tower_memory import (
    CorruptSessionError,
    History,
    InMemorySessionStore,
    MemoryLayer,
    Page,
    ScopedStore,
    SearchHit,
    SessionCatalog,
    SessionCleared,
    SessionConflict,
    SessionErasure,
    SessionError,
    SessionInfo,
    SessionSearch,
    SessionSummaries,
    SqliteSessionStore,
    Turn,
    TurnJournal,
    UnencodableItemError,
)
from tower_memory.store_toolkit import StoreWrapper
from tower_memory.testing import check_session_store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAPABILITIES = [SessionCatalog, SessionErasure, SessionSearch, SessionSummaries, TurnJournal]
SUBSETS = [each for n in range(6) for each in combinations(CAPABILITIES, n)]


def names_of(protocols):
    return [each.__name__ for each in protocols]


def info(session_id, forked_from=None):
    return SessionInfo(session_id, NOW, NOW, 1, 2, 1, {}, forked_from)


async def stored_id(store, session_id):
    """Return the id that the base of the scoped store *store* gets for *session_id*."""
    await store.clear(session_id)
    return store.store.calls[-1][1][0]


async def stored_prefix(store, prefix):
    """Return the prefix that the base of the scoped store *store* gets for *prefix*."""
    await store.erase(prefix=prefix)
    return store.store.calls[-1][2]["prefix"]


# What a wrapper offers


@pytest.mark.parametrize("protocols", SUBSETS, ids=lambda each: "+".join(names_of(each)) or "none")
def test_a_wrapper_offers_exactly_the_capabilities_of_its_store(protocols):
    store = recording_class(*names_of(protocols))()
    for wrapper in (ScopedStore(store, "a"), ScopedStore(ScopedStore(store, "a"), "b")):
        assert [each for each in CAPABILITIES if isinstance(wrapper, each)] == list(protocols)
        assert isinstance(wrapper, ScopedStore)
        assert type(wrapper).__name__ == "ScopedStore"


def test_a_wrapper_lacks_a_capability_that_it_does_not_write():
    class Encrypted(StoreWrapper):
        async def load(self, session_id, *, limit=None, before=None): ...
        async def append(self, turn): ...
        async def pop(self, session_id): ...
        async def clear(self, session_id): ...
        async def erase(self, **selection): ...
        async def scrub(self): ...

    wrapper = Encrypted(FullRecordingStore())
    assert [each for each in CAPABILITIES if isinstance(wrapper, each)] == [SessionErasure]
    assert repr(Encrypted(InMemorySessionStore())) == "Encrypted(InMemorySessionStore(sessions=0))"


def test_a_wrapper_has_the_hooks_of_its_store_and_no_others(path):
    sqlite = ScopedStore(SqliteSessionStore(path, item_type=str, busy_timeout=7), "a")
    assert (sqlite.item_type, sqlite.busy_timeout) == (str, 7)
    in_memory = ScopedStore(InMemorySessionStore(), "a")
    assert not hasattr(in_memory, "busy_timeout")
    assert not hasattr(ScopedStore(Plain(), "a"), "item_type")


# Ids

LETTERS = st.sampled_from("/:012a\0é")
TEXT = st.text(LETTERS, min_size=1, max_size=4) | st.text(min_size=1, max_size=12)
SCOPES = st.lists(TEXT, min_size=1, max_size=3).map(tuple)


def scoped(store, scopes):
    for scope in scopes:
        store = ScopedStore(store, scope)
    return store


@st.composite
def cut_texts(draw):
    """Cut one text into scopes and an id twice, so that careless stored ids would be equal."""
    text = draw(st.text(LETTERS, min_size=4, max_size=8))
    cuts = st.lists(st.integers(1, len(text) - 1), min_size=1, max_size=3, unique=True).map(sorted)
    found = []
    for _ in range(2):
        places = draw(cuts)
        pairs = zip([0, *places], [*places, None], strict=True)
        *scopes, session = [text[start:end] for start, end in pairs]
        found.append((tuple(scopes), session))
    return found


NAMES = st.tuples(SCOPES, TEXT)


@on_one_runtime
@settings(max_examples=150)
@example(pair=[(("1", "abcdefghi"), "/x"), (("9abcdefghi/",), "x")])  # lengths without a colon
@given(pair=cut_texts() | st.tuples(NAMES, NAMES))
async def test_different_scopes_or_ids_never_have_the_same_stored_id(pair):
    one, two = pair
    base = FullRecordingStore()
    stored = [await stored_id(scoped(base, scopes), session) for scopes, session in (one, two)]
    assert (stored[0] == stored[1]) == (one == two)


@on_one_runtime
@settings(max_examples=150)
@given(scopes=SCOPES, others=SCOPES, prefix=st.just("") | TEXT, session=TEXT)
async def test_a_prefix_never_matches_a_session_of_another_scope(scopes, others, prefix, session):
    base = FullRecordingStore()
    start = await stored_prefix(scoped(base, scopes), prefix)
    found = (await stored_id(scoped(base, others), session)).startswith(start)
    assert found == (scopes == others and session.startswith(prefix))


@given(scope=TEXT, inner=TEXT, session=TEXT)
async def test_an_outer_scope_cannot_name_a_session_of_an_inner_scope(scope, inner, session):
    base = FullRecordingStore()
    outer = ScopedStore(base, scope)
    named = await stored_id(ScopedStore(outer, inner), session)
    assert not named.startswith(await stored_prefix(outer, ""))


def test_the_stored_id_has_each_scope_with_its_length():
    base = FullRecordingStore()
    nested = ScopedStore(ScopedStore(base, "anna"), "a/b")
    assert (nested.store, nested.scopes) == (base, ("anna", "a/b"))
    assert repr(ScopedStore(ScopedStore(InMemorySessionStore(), "a"), "b")) == (
        "ScopedStore(ScopedStore(InMemorySessionStore(sessions=0), 'a'), 'b')"
    )


async def test_every_method_passes_the_stored_ids_and_all_arguments_on():
    base = FullRecordingStore(
        load=History(),
        sessions=Page(),
        search=Page(),
        fork=info("4:anna/new"),
    )
    anna = ScopedStore(base, "anna")
    turn = Turn("s", [ITEM], metadata={"a": 1})
    await anna.load("s", limit=3, before="t")
    await anna.append(turn)
    await anna.pop("s")
    await anna.clear("s")
    await anna.sessions(prefix="p", limit=7, after="cursor")
    await anna.describe("s")
    await anna.annotate("s", {"title": "Rome"}, create=True, overwrite=False)
    await anna.fork("s", "new", before="t")
    await anna.search("rome", prefix="p", limit=7, after="cursor")
    await anna.erase(session_id="s", inactive_since=NOW, expected_revision=7)
    await anna.erase(prefix="p")
    await anna.scrub()
    await anna.begin(turn, lease=3.0, owner="me")
    await anna.fail("s", "t", owner="me")
    await anna.pending("s")
    await anna.forget("s", "t")
    await anna.load_summary("s", name="n")
    await anna.save_summary("s", "text", turn_id="t", since=3, name="n")

    s = "4:anna/s"
    stored = Turn(s, turn.items, turn_id=turn.turn_id, metadata=turn.metadata)
    page = {"prefix": "4:anna/p", "limit": 7, "after": "cursor"}
    one, many = {"session_id": s, "prefix": None}, {"session_id": None, "prefix": "4:anna/p"}
    assert base.calls == [
        ("load", (s,), {"limit": 3, "before": "t"}),
        ("append", (stored,), {}),
        ("pop", (s,), {}),
        ("clear", (s,), {}),
        ("sessions", (), page),
        ("describe", (s,), {}),
        ("annotate", (s, {"title": "Rome"}), {"create": True, "overwrite": False}),
        ("fork", (s, "4:anna/new"), {"before": "t"}),
        ("search", ("rome",), page),
        ("erase", (), {**one, "inactive_since": NOW, "expected_revision": 7}),
        ("erase", (), {**many, "inactive_since": None, "expected_revision": None}),
        ("scrub", (), {}),
        ("begin", (stored,), {"lease": 3.0, "owner": "me"}),
        ("fail", (s, "t"), {"owner": "me"}),
        ("pending", (s,), {}),
        ("forget", (s, "t"), {}),
        ("load_summary", (s,), {"name": "n"}),
        ("save_summary", (s, "text"), {"turn_id": "t", "since": 3, "name": "n"}),
    ]


async def test_every_result_has_the_ids_of_the_tenant():
    base = FullRecordingStore(
        load=History([ITEM], session_id="1:a/s", revision=3),
        sessions=Page([info("1:a/new", "1:a/s"), info("1:a/s", "1:b/s")], next="cursor"),
        describe=info("1:a/new", "1:a/s"),
        annotate=info("1:a/s"),
        fork=info("1:a/new", "1:a/s"),
        search=Page([SearchHit("1:a/s", "t", NOW, "Rome")], next="cursor"),
    )
    a = ScopedStore(base, "a")
    history = await a.load("s")
    assert (history.session_id, history.revision, list(history)) == ("s", 3, [ITEM])
    sessions = await a.sessions()
    assert list(sessions) == [info("new", "s"), info("s", None)]
    assert sessions.next == "cursor"
    assert await a.describe("new") == await a.fork("s", "new") == info("new", "s")
    assert await a.annotate("s", {}) == info("s")
    hits = await a.search("rome")
    assert (list(hits), hits.next) == ([SearchHit("s", "t", NOW, "Rome")], "cursor")


async def test_a_session_that_does_not_exist_has_no_description():
    a = ScopedStore(FullRecordingStore(), "a")
    assert await a.describe("s") is await a.annotate("s", {}) is None


BAD_IDS = [("", ValueError), ("\ud800", ValueError), (None, TypeError), (3, TypeError)]


@pytest.mark.parametrize(("bad", "error"), BAD_IDS)
async def test_bad_ids_are_refused_before_the_store_gets_them(bad, error):
    base = FullRecordingStore()
    a = ScopedStore(base, "a")
    for call in (
        *(lambda each=each: each(bad) for each in (a.load, a.pop, a.clear, a.describe, a.pending)),
        *(lambda: a.annotate(bad, {}), lambda: a.fork(bad, "s"), lambda: a.fork("s", bad)),
        *(lambda: a.fail(bad, "t"), lambda: a.forget(bad, "t"), lambda: a.load_summary(bad)),
        lambda: a.save_summary(bad, "text", turn_id="t", since=0),
    ):
        with pytest.raises(error, match="session_id must"):
            await call()
    with pytest.raises(error, match="scope must"):
        ScopedStore(base, bad)
    assert base.calls == []


async def test_other_bad_arguments_are_refused_before_the_store_gets_them():
    base = FullRecordingStore()
    a = ScopedStore(base, "a")
    for call in (a.sessions, a.erase, lambda prefix: a.search("rome", prefix=prefix)):
        with pytest.raises(TypeError, match="prefix must be a string, got 3"):
            await call(prefix=3)
    with pytest.raises(TypeError, match="exactly one of session_id and prefix"):
        await a.erase()
    for call in (a.append, a.begin):
        with pytest.raises(TypeError, match="turn must be a Turn, got dict"):
            await call({"session_id": "s"})
    assert base.calls == []


@pytest.mark.parametrize("bad", ["chat.db", None, InMemorySessionStore, LookupError()])
def test_a_value_that_is_no_store_is_refused(bad):
    with pytest.raises(TypeError, match="store must have load, append, pop and clear, got"):
        ScopedStore(bad, "a")


# Errors


async def test_errors_have_the_ids_of_the_tenant_and_keep_everything_else():
    cause = ValueError("torn")
    turn = Turn("1:a/s", [ITEM])
    errors = [
        SessionConflict("1:a/s", expected=1, actual=2, turn=turn, response="paid"),
        SessionCleared("1:a/s"),
        CorruptSessionError("1:a/s", row=3, reason="torn"),
        UnencodableItemError("1:a/s", where="items[0]", value=1, reason="a reason"),
        SessionError("disk full", session_id="1:a/s"),
    ]
    for error in errors:
        error.__cause__ = cause
        with pytest.raises(type(error)) as caught:
            await ScopedStore(FullRecordingStore(load=error), "a").load("s")
        assert caught.value is error
        assert (error.session_id, error.__cause__) == ("s", cause)
        assert "1:a/" not in "".join(traceback.format_exception_only(error)) + repr(error)
        assert str(error).startswith("session 's': ")

    conflict = errors[0]
    assert (conflict.turn.session_id, conflict.turn.turn_id) == ("s", turn.turn_id)
    assert (conflict.expected, conflict.response) == (1, "paid")


async def test_an_error_about_the_whole_store_has_no_session():
    for error in (SessionError("disk full"), SessionError("disk full", session_id="1:b/s")):
        a = ScopedStore(FullRecordingStore(scrub=error), "a")
        with pytest.raises(SessionError, match=r"^disk full$"):
            await a.scrub()


async def test_an_error_keeps_a_turn_of_another_session():
    turn = Turn("1:b/s", [])
    a = ScopedStore(FullRecordingStore(load=SessionCleared("1:a/s", turn=turn)), "a")
    with pytest.raises(SessionCleared) as caught:
        await a.load("s")
    assert caught.value.turn is turn


async def test_the_errors_of_a_real_store_name_the_session_of_the_tenant(store):
    a = ScopedStore(store, "a")
    await a.append(Turn("s", [ITEM]))
    with pytest.raises(SessionConflict, match=r"^session 's': revision"):
        await a.append(Turn("s", [ITEM], expected_revision=0))
    with pytest.raises(UnencodableItemError, match=r"^session 's': items\[0\]"):
        await a.append(Turn("s", [{1}]))


# Tenants


SMALL = st.sampled_from(["a", "b", "1:a", "a/", "1"])
OPERATIONS = st.lists(
    st.tuples(
        st.lists(SMALL, min_size=1, max_size=2).map(tuple),
        SMALL,
        st.sampled_from(["append", "append", "append", "pop", "clear", "erase", "erase prefix"]),
    ),
    max_size=12,
)


@settings(max_examples=30)
@given(operations=OPERATIONS)
async def test_no_call_of_a_tenant_changes_what_another_tenant_sees(store, operations):
    await store.erase(prefix="")
    seen = {}
    for n, (scopes, session, operation) in enumerate(operations):
        tenant = scoped(store, scopes)
        mine = seen.setdefault((scopes, session), [])
        match operation:
            case "append":
                await tenant.append(Turn(session, [n]))
                mine.append(n)
            case "pop":
                assert await tenant.pop(session) == (mine.pop() if mine else None)
            case "clear":
                await tenant.clear(session)
                mine.clear()
            case "erase":
                await tenant.erase(session_id=session)
                mine.clear()
            case _:
                await tenant.erase(prefix=session)
                for (other, each), items in seen.items():
                    if other == scopes and each.startswith(session):
                        items.clear()

        for (other, each), items in seen.items():
            assert list(await scoped(store, other).load(each)) == items


async def test_equal_stores_and_scopes_are_equal_and_have_equal_hashes(path):
    one, two = SqliteSessionStore(path), SqliteSessionStore(path)
    assert ScopedStore(one, "a") == ScopedStore(two, "a")
    assert hash(ScopedStore(one, "a")) == hash(ScopedStore(two, "a"))
    different = [
        one,
        ScopedStore(one, "a"),
        ScopedStore(one, "b"),
        ScopedStore(ScopedStore(one, "a"), "b"),
        ScopedStore(ScopedStore(one, "ab"), "b"),
        ScopedStore(InMemorySessionStore(), "a"),
    ]
    assert len(set(different)) == len(different)


async def test_scoped_stores_made_for_each_request_share_session_locks(store):
    async def ask(messages):
        held.append(count_locks())
        return "Hi"

    def layer(over):
        return MemoryLayer.over(over, session_id="s", overlap="reject")

    async def nested(messages):
        with pytest.raises(SessionConflict):
            await layer(ScopedStore(store, "a"))(ask)([ITEM])
        for other in (store, ScopedStore(store, "b"), ScopedStore(ScopedStore(store, "a"), "s")):
            await layer(other)(ask)([ITEM])
        return "Hi"

    held = []
    await layer(ScopedStore(store, "a"))(nested)([ITEM])
    assert held == [2, 2, 2]
    assert len(await ScopedStore(store, "a").load("s")) == 2


async def test_scopes_of_a_store_without_a_hash_share_session_locks():
    class Unhashable(Plain):
        __hash__ = None

    store = Unhashable()
    assert ScopedStore(store, "a") == ScopedStore(store, "a")
    assert hash(ScopedStore(store, "a")) == hash(ScopedStore(store, "a"))


async def test_a_wrapper_between_two_scopes_keeps_the_tenants_apart():
    outer = PassingStore(ScopedStore(InMemorySessionStore(), "a"))
    b, c = ScopedStore(outer, "b"), ScopedStore(outer, "c")
    await b.append(Turn("s", [ITEM]))
    with pytest.raises(SessionConflict, match=r"^session 's': "):
        await b.append(Turn("s", [ITEM], expected_revision=0))
    assert (len(await b.load("s")), len(await c.load("s"))) == (1, 0)


@pytest.mark.parametrize("kind", ["in memory", pytest.param("sqlite file", marks=pytest.mark.long)])
async def test_a_scoped_store_keeps_the_contract_of_its_store(sqlite, kind):
    """It passes every call on, so the rules that a store in memory keeps show all of its part."""
    base = sqlite if kind == "sqlite file" else InMemorySessionStore()
    report = await check_session_store(lambda: ScopedStore(ScopedStore(base, "a"), "b/1:c"))
    assert {*report.groups} == {"SessionStore", *names_of(CAPABILITIES)}


def test_the_methods_of_each_protocol_are_known():
    for protocol in CAPABILITIES:
        names = {name for name in vars(protocol) if not name.startswith("_")}
        assert names == set(PROTOCOL_METHODS[protocol.__name__])
