"""The catalogue of our stores beyond the contract, which testing_kit checks."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.deep_stacks import await_deep, nested
from helpers.internals import sort_at_most
from helpers.json_values import JSON
from helpers.messages import user
from helpers.processes import start_python
from helpers.sqlite import check_integrity, query
from helpers.sqlite_internals import plan_of_fork, plans_of_catalog
from helpers.store_calls import SERVE
from tower_memory import (
    InMemorySessionStore,
    MessageItem,
    Page,
    Role,
    RunItem,
    SessionConflict,
    SessionError,
    SqliteSessionStore,
    ToolCallItem,
    Turn,
    TurnMissing,
    UnencodableItemError,
)
from tower_memory.store_toolkit import from_cursor, to_cursor

A, B, C = (user(text) for text in "abc")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def walk(store, *, prefix="", limit=1):
    """Return the pages of a walk."""
    pages = [await store.sessions(prefix=prefix, limit=limit)]
    while pages[-1].next is not None:
        pages.append(await store.sessions(prefix=prefix, limit=limit, after=pages[-1].next))
    return pages


def ids_of(*pages):
    return [info.session_id for page in pages for info in page]


# Pages and cursors


def test_a_page_is_an_immutable_sequence():
    page = Page("ab", next="cursor")
    assert (page[0], page[-1], page[1:], len(page), [*page]) == ("a", "b", ("b",), 2, ["a", "b"])
    assert page == ["a", "b"] == Page("ab")
    assert page != ["a"]
    assert page != 3
    assert page != "ab"
    assert repr(page) == "Page(['a', 'b'], next='cursor')"
    with pytest.raises(TypeError):
        page[0] = "c"
    with pytest.raises(TypeError, match="unhashable"):
        hash(page)


@pytest.mark.parametrize(
    "change",
    [
        lambda cursor: f"{cursor}=",
        lambda cursor: f"{cursor}\n",
        lambda cursor: f"!{cursor}",
        lambda cursor: cursor[:-1] + chr(ord(cursor[-1]) + 1),
    ],
    ids=["padded", "with a new line", "with another sign", "with unused bits"],
)
def test_a_text_that_is_only_similar_to_a_cursor_is_refused(change):
    cursor = to_cursor(("sessions", ""), (7,))
    assert from_cursor(cursor, ("sessions", ""), length=1) == (7,)
    with pytest.raises(ValueError, match="after must be the cursor `next` of a page"):
        from_cursor(change(cursor), ("sessions", ""), length=1)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**40])
def test_a_cursor_with_a_number_beyond_64_bits_is_refused(number):
    cursor = to_cursor(("sessions", ""), (number,))
    with pytest.raises(ValueError, match="after must be the cursor `next` of a page"):
        from_cursor(cursor, ("sessions", ""), length=1)


async def test_a_cursor_of_another_query_or_length_is_refused_by_name(store):
    for place in [(), (1,), (1, 2, 3)]:
        cursor = to_cursor(("search", ""), place)
        with pytest.raises(ValueError, match="after must be the cursor `next` of a page"):
            await store.sessions(after=cursor)
    with pytest.raises(ValueError, match="got another text of"):
        await store.sessions(after=to_cursor(("sessions", ""), (1, 2, 3, 4)))


# Walks


@pytest.mark.parametrize("most", [0, 2000], ids=["walked", "sorted"])
async def test_a_session_that_is_erased_and_written_again_is_not_listed_twice(
    monkeypatch, store, most
):
    sort_at_most(monkeypatch, most)
    for session in "abcdef":
        await store.append(Turn(session, [A]))
    first = await store.sessions(limit=1)
    for session in "def":
        await store.erase(session_id=session)
    for session in "fc":  # the new place of f may be below that of the first page
        await store.append(Turn(session, [A]))
    second = await store.sessions(limit=1, after=first.next)
    found = ids_of(first, second, await store.sessions(limit=9, after=second.next))
    assert found in (["f", "c", "b", "a"], ["f", "b", "a"])  # c was active during the walk
    assert ids_of(*await walk(store)) == ["c", "f", "b", "a"]


async def test_the_id_after_all_ids_with_a_prefix_is_not_listed(monkeypatch, store):
    for session in ("a", "ab", "b"):
        await store.append(Turn(session, [A]))
    for most in (0, 2000):
        sort_at_most(monkeypatch, most)
        assert ids_of(await store.sessions(prefix="a")) == ["ab", "a"]


@pytest.mark.parametrize("limit", [2**63 - 2, 2**63 - 1, 2**63, 10**100])
async def test_a_limit_beyond_64_bits_lists_all_sessions(store, limit):
    for session in "ab":
        await store.append(Turn(session, [A]))
    page = await store.sessions(limit=limit)
    assert (ids_of(page), page.next) == (["b", "a"], None)


TEXTS = st.text("ab%_\0\ud7ff\ue000\uffff\U00010000\U0010ffff", max_size=3)


@settings(max_examples=40)
@given(
    sessions=st.lists(TEXTS.filter(bool), min_size=1, max_size=8),
    query=st.fixed_dictionaries({"prefix": TEXTS, "limit": st.integers(1, 4)}),
    active=st.integers(0, 7),
)
async def test_many_matches_are_listed_as_few_matches_are(
    monkeypatch, store, sessions, query, active
):
    await store.erase(prefix="")
    for session in sessions:
        await store.append(Turn(session, [A]))
    order = [each for each in dict.fromkeys(reversed(sessions)) if each.startswith(query["prefix"])]

    pages = []
    for most in (0, 1, len(sessions)):
        sort_at_most(monkeypatch, most)
        pages.append(await walk(store, **query))
        assert ids_of(*pages[-1]) == order
    assert pages[0] == pages[1] == pages[2]

    # A page after which other sessions were active, with each statement.
    first, *_ = pages[0]
    if first.next is not None:
        await store.append(Turn(sessions[active % len(sessions)], [A]))
        found = []
        for most in (0, len(sessions)):
            sort_at_most(monkeypatch, most)
            found.append(await store.sessions(**query, after=first.next))
        assert found[0] == found[1]
        assert found[0].next == found[1].next


async def test_a_prefix_of_more_than_two_thousand_sessions_is_listed(store):
    async with anyio.create_task_group() as tasks:
        for number in range(2001):
            tasks.start_soon(store.append, Turn(f"many {number}", [A]))
    await store.append(Turn("other", [A]))
    await store.append(Turn("many 7", [A]))
    pages = await walk(store, prefix="many ", limit=1500)
    assert [len(page) for page in pages] == [1500, 501]
    assert ids_of(*pages)[0] == "many 7"
    assert set(ids_of(*pages)) == {f"many {number}" for number in range(2001)}


async def test_each_statement_of_the_catalogue_uses_its_index(sqlite):
    await sqlite.append(Turn("s", [A]))
    plans = await plans_of_catalog(sqlite)
    by_id = "INDEX sqlite_autoindex_memory_head_1 (session_id"
    origin = "SEARCH origin USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN"
    assert plans["sorted"][:3] == [
        "SEARCH h USING INTEGER PRIMARY KEY (rowid=?)",
        "LIST SUBQUERY 2",
        f"SEARCH memory_head USING {by_id}>? AND session_id<?)",
    ]
    assert origin in plans["sorted"]
    assert plans["walk"][:2] == ["SEARCH h USING INDEX memory_head_active (active<?)", origin]
    assert not any("TEMP B-TREE" in step for step in plans["walk"])
    assert f"SEARCH memory_head USING COVERING {by_id}>? AND session_id<?)" in plans["count"]
    assert plans["describe"][:2] == [f"SEARCH h USING {by_id}=?)", origin]
    assert await plan_of_fork(sqlite) == [
        "SEARCH memory_turn USING INDEX memory_turn_place (session=? AND (first,number)<(?,?))"
    ]


# Errors


async def test_a_bad_argument_is_named_with_what_is_accepted(store):
    await store.append(Turn("s", [A]))
    bad = [
        (store.sessions(prefix=3), TypeError, "prefix must be a string, got 3"),
        (store.sessions(prefix="\ud800"), ValueError, "prefix must be valid Unicode"),
        (store.sessions(limit=0), ValueError, "limit must be 1 or more, got 0"),
        (store.sessions(limit="9"), TypeError, "limit must be a whole number, got str"),
        (store.sessions(after=7), TypeError, "after must be the cursor .*, got int"),
        (store.sessions(after="no"), ValueError, "after must be .*, got another text of 2"),
        (store.describe(""), ValueError, "session_id must not be empty"),
        (store.annotate("s", "title"), TypeError, "metadata must be a mapping .*, got str"),
        (store.fork("s", 3), TypeError, "new_session_id must be a string, got 3"),
        (store.fork("", "new"), ValueError, "session_id must not be empty"),
        (store.fork("s", "new", before=""), ValueError, "before must not be empty"),
    ]
    for call, error, message in bad:
        with pytest.raises(error, match=message):
            await call


async def test_an_error_of_a_fork_names_the_session_and_the_remedy(store):
    await store.append(Turn("s", [A]))
    with pytest.raises(SessionError, match="session 'x': it does not exist.*nothing was written"):
        await store.fork("x", "new")
    with pytest.raises(TurnMissing, match="session 's': it does not hold the turn 'none'; load"):
        await store.fork("s", "new", before="none")
    with pytest.raises(SessionConflict, match="session 's': it exists already; choose another"):
        await store.fork("s", "s")
    assert ids_of(await store.sessions()) == ["s"]


async def test_metadata_that_json_cannot_hold_is_refused_with_its_place(store):
    await store.annotate("s", {"title": "Rome"}, create=True)
    with pytest.raises(
        UnencodableItemError, match=r"metadata\.usage\[1\] cannot be stored"
    ) as error:
        await store.annotate("s", {"title": "Trip", "usage": [1, float("nan")]})
    assert (error.value.session_id, error.value.where) == ("s", "metadata.usage[1]")
    assert (await store.describe("s")).metadata == {"title": "Rome"}


# Metadata


@settings(max_examples=30)
@given(
    steps=st.lists(
        st.tuples(st.dictionaries(st.sampled_from("ab"), JSON, max_size=2), st.booleans()),
        max_size=4,
    )
)
async def test_metadata_is_what_the_merges_made_it(store, steps):
    await store.erase(session_id="s")
    expected = {}
    for added, overwrite in steps:
        await store.annotate("s", added, create=True, overwrite=overwrite)
        for key, value in added.items():
            if overwrite or key not in expected:
                expected[key] = value
        expected = {key: value for key, value in expected.items() if value is not None}
        assert repr({**(await store.describe("s")).metadata}) == repr(expected)


@pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer lets each awaited frame take twice the stack"
)
async def test_deep_metadata_is_stored_and_described_at_any_depth_of_the_stack(store):
    metadata = {"deep": nested(400)}
    await await_deep(lambda: store.annotate("s", metadata, create=True), 120)
    info = await await_deep(lambda: store.describe("s"), 120)
    assert info.metadata == metadata
    assert (await store.fork("s", "new")).metadata == metadata


# Forks


def shown(history):
    """Return what a history shows, but its session and revision."""
    turns = [
        (turn.turn_id, turn.position, turn.created_at, dict(turn.metadata))
        for turn in history.turns
    ]
    return list(history), turns, history.offset


@pytest.mark.parametrize("loads", [0, 1, 2], ids=["not cached", "its end cached", "cached"])
async def test_a_fork_shows_its_own_turns_however_much_of_both_is_cached(store, loads):
    for items in ([A, B], [C], [{"content": ["mutable"]}]):
        await store.append(Turn("s", items))
    for _ in range(loads):
        source = await store.load("s")
    await store.fork("s", "new")
    for _ in range(loads + 1):
        fork = await store.load("new")
        source = await store.load("s")
        assert shown(fork) == shown(source)
        assert shown(await store.load("new", limit=2)) == shown(await store.load("s", limit=2))

    await store.pop("s")
    await store.append(Turn("new", [A]))
    assert list(await store.load("s")) == [A, B, C]
    assert list(await store.load("new")) == [A, B, C, {"content": ["mutable"]}, A]


async def test_an_item_that_a_reader_of_a_fork_changes_stays_in_its_source(store):
    await store.append(Turn("s", [{"content": ["a"]}, dict(A)]))
    await store.fork("s", "new")
    for session in ("new", "s"):
        (await store.load(session))[0]["content"].append("changed")
        (await store.load(session))[1]["content"] = "changed"
        popped = await store.pop(session)
        popped["content"] = "changed"
    for session in ("new", "s"):
        assert list(await store.load(session)) == [{"content": ["a"]}]


async def test_a_turn_of_a_fork_can_be_replaced_and_popped(store):
    turns = [Turn("s", [A, B]), Turn("s", [C], metadata={"n": 1}), Turn("s", [A])]
    for turn in turns:
        await store.append(turn)
    before = shown(await store.load("s"))
    info = await store.fork("s", "new", before=turns[2].turn_id)

    new = Turn("new", [B], replaces=turns[1].turn_id, expected_revision=info.revision)
    late = Turn("new", [C], since=info.revision)
    revision = await store.append(new)
    assert revision > info.revision
    with pytest.raises(SessionConflict):
        await store.append(late)
    assert list(await store.load("new")) == [A, B, B]
    assert [await store.pop("new") for _ in range(3)] == [B, B, A]
    assert await store.load("new", limit=5) == []
    assert (await store.describe("new")).turns == 0
    assert shown(await store.load("s")) == before


async def test_a_fork_of_a_session_without_turns_is_one_without_turns(store):
    await store.annotate("s", {"title": "Rome"}, create=True)
    info = await store.fork("s", "new")
    assert (info.items, info.turns, info.metadata) == (0, 0, {"title": "Rome"})
    assert await store.load("new") == []
    await store.append(Turn("new", [A], since=info.revision, expected_revision=info.revision))
    await store.append(Turn("t", [A], turn_id="first"))
    info = await store.fork("t", "before all", before="first")
    assert (info.items, info.turns, info.forked_from) == (0, 0, "t")
    await store.append(Turn("before all", [B], since=info.revision, turn_id="first"))
    assert list(await store.load("before all")) == [B]


async def test_a_fork_has_a_last_turn_without_items(store):
    turns = [Turn("s", [A]), Turn("s", [B])]
    revisions = [await store.append(turn) for turn in turns]
    empty = Turn("s", [], replaces=turns[1].turn_id, expected_revision=revisions[1])
    await store.append(empty)
    assert (await store.fork("s", "new")).turns == 2
    assert shown(await store.load("new")) == shown(await store.load("s"))


async def test_the_numbers_of_a_fork_go_on_after_those_of_its_turns(path, sqlite):
    for _ in range(3):
        await sqlite.append(Turn("s", [A]))
    await sqlite.fork("s", "new")
    await sqlite.append(Turn("new", [A]))
    ((revision, high, *numbers),) = query(
        path,
        "SELECT revision, high, id << 32, (SELECT group_concat(number) FROM memory_turn"
        " WHERE session = memory_head.id) FROM memory_head WHERE session_id = 'new'",
    )
    start, listed = numbers
    assert [int(number) - start for number in listed.split(",")] == [1, 2, 3, 5]
    assert revision == high == start + 5


RUN_ITEMS = [
    MessageItem("1", Role.USER, "What is 2 + 2?", NOW),
    ToolCallItem("2", "add", {"a": 2, "b": 2}, NOW),
]


@pytest.mark.parametrize("kind", ["in memory", "sqlite"])
async def test_a_fork_has_items_of_the_type_of_the_store(path, kind):
    stores = {
        "in memory": lambda: InMemorySessionStore(item_type=RunItem),
        "sqlite": lambda: SqliteSessionStore(path, item_type=RunItem),
    }
    store = stores[kind]()
    await store.append(Turn("s", RUN_ITEMS))
    await store.fork("s", "new")
    assert [await store.load("new"), await store.pop("new")] == [RUN_ITEMS, RUN_ITEMS[1]]
    assert await store.load("s") == RUN_ITEMS
    if kind == "sqlite":
        await store.aclose()


async def test_a_second_store_on_the_file_sees_forks_instead_of_what_it_has_cached(path):
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path) as two:
        await one.append(Turn("s", [A, B]))
        await one.append(Turn("new", [C]))
        for _ in range(3):
            assert await two.load("new") == [C]
        await one.erase(session_id="new")
        await one.fork("s", "new")
        assert await two.load("new") == [A, B]
        await two.append(Turn("new", [C]))
        await two.fork("new", "newer")
        for _ in range(3):
            assert await one.load("newer") == [A, B, C]
        assert (await one.describe("newer")).forked_from == "new"


async def test_while_a_large_session_is_forked_others_are_written_and_read(store):
    large = [Turn("large", [user(f"{n}.{each}") for each in range(100)]) for n in range(50)]
    for turn in large:
        await store.append(turn)
    turns = [Turn("small", [user(str(n))]) for n in range(20)]
    lengths = []

    async def read():
        for _ in range(20):
            lengths.append(len(await store.load("fork")))
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.fork, "large", "fork")
        for turn in turns:
            tasks.start_soon(store.append, turn)
        tasks.start_soon(read)

    assert set(lengths) <= {0, 5_000}
    assert shown(await store.load("fork")) == shown(await store.load("large"))
    assert len(await store.load("small")) == 20


# Several processes


def call(process, name, **arguments):
    process.stdin.write(json.dumps([name, arguments]) + "\n")
    process.stdin.flush()


def answer(process):
    return json.loads(process.stdout.readline())


def test_two_processes_annotate_and_fork_at_once_without_losing_a_key(path, anyio_backend):
    with (
        start_python(SERVE, path, anyio_backend) as one,
        start_python(SERVE, path, anyio_backend) as two,
    ):
        processes = one, two
        for process in processes:
            assert process.stdout.readline() == "open\n"
        call(one, "append", session_id="s", items=[A])
        assert answer(one) > 0

        count = 25
        for n in range(count):
            for name, process in enumerate(processes):
                metadata = {f"{name} {n}": n}
                call(process, "annotate", session_id="s", metadata=metadata)
                call(process, "fork", session_id="s", new_session_id=f"fork {n}")
        answers = [[answer(process) for _ in range(2 * count)] for process in processes]
        for process in processes:
            process.stdin.close()
            assert process.wait() == 0

    forked = [[each for each in mine if "error" not in each] for mine in answers]
    assert sum(map(len, forked)) == 3 * count  # each id is forked once
    refused = [each["error"] for mine in answers for each in mine if "error" in each]
    assert refused == ["SessionConflict"] * count

    async def described():
        async with SqliteSessionStore(path) as store:
            return await store.describe("s"), await store.sessions(prefix="fork ")

    info, forks = anyio.run(described, backend=anyio_backend)
    assert dict(info.metadata) == {f"{name} {n}": n for name in (0, 1) for n in range(count)}
    assert len(forks) == count
    assert {(each.items, each.forked_from) for each in forks} == {(1, "s")}
    check_integrity(path)
