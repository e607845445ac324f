"""Searching: in memory, and in a file with and without an index."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import asynccontextmanager, closing

import anyio
import msgspec
import pytest

from helpers.cancelling import cancel_at_every_suspension, every_cancellation
from helpers.messages import user
from helpers.processes import start_python, unmeasured
from helpers.schema1 import old_file
from helpers.search import built, check_index, extra_text, has_index, index_of
from helpers.sqlite import query
from helpers.sqlite_internals import (
    Connection,
    build_one_step,
    empty_index,
    finish,
    index_at_most_one_turn,
    log_each_report,
    open_connections,
    pause_searches_after_each_row,
    read_other_words,
    replace_connections,
    search_in_steps,
    write,
)
from helpers.waiting import until
from tower_memory import InMemorySessionStore, SessionError, SqliteSessionStore, Turn


@pytest.fixture(params=["in memory", "scan", "index"])
def make_store(request, path):
    """Return a function that makes a store with any *text_of*."""

    @asynccontextmanager
    async def make(**settings):
        if request.param == "in memory":
            yield InMemorySessionStore(**settings)
        else:
            is_index = request.param == "index"
            async with SqliteSessionStore(path, search_index=is_index, **settings) as store:
                yield store

    return make


def ids(page):
    return [hit.turn_id for hit in page]


async def say(store, *texts, session="s"):
    """Append a turn for each text, whose id is the text."""
    for text in texts:
        await store.append(Turn(session, [user(text)], turn_id=text))


async def fill(path, count):
    """Write *count* turns to a new file without an index."""
    async with SqliteSessionStore(path) as store:
        await say(store, *(f"needle {number}" for number in range(count)))


# Additional text


async def test_text_of_adds_text_to_that_of_the_messages(make_store):
    items = [{"extra": "alpha"}, user("beta"), {"extra": ""}, 3]
    async with make_store(text_of=extra_text) as store:
        await store.append(Turn("s", items, turn_id="t"))
        for text in ("alpha", "beta", "beta alpha"):
            assert ids(await store.search(text)) == ["t"]
        (hit,) = await store.search("alpha")
        assert hit.excerpt == "beta alpha"
        assert await store.pop("s") == 3
        assert await store.load("s") == items[:-1]


class Note(msgspec.Struct):
    text: str


async def test_text_of_gets_items_of_the_stores_type(make_store):
    async with make_store(item_type=Note, text_of=lambda note: note.text) as store:
        await store.append(Turn("s", [Note("alpha"), Note("beta")], turn_id="t"))
        assert ids(await store.search("alpha beta")) == ["t"]
        await store.pop("s")
        assert ids(await store.search("beta")) == []
        assert ids(await store.search("alpha")) == ["t"]
        await store.fork("s", "u")
        await store.erase(session_id="s")
        assert [hit.session_id for hit in await store.search("alpha")] == ["u"]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (3, TypeError, r"the result of text_of\(item\) must be a string, got 3"),
        (0, TypeError, r"text_of\(item\) must return a string or None, got 0"),
        (b"alpha", TypeError, r"the result of text_of\(item\) must be a string"),
        ("\ud800", ValueError, r"the result of text_of\(item\)"),
        ("raises", ZeroDivisionError, "division by zero"),
    ],
)
async def test_an_error_of_text_of_is_raised_before_anything_is_written(
    make_store, bad, error, message
):
    def text_of(item):
        if item == "bad":
            return 1 / 0 if bad == "raises" else bad
        return None

    async with make_store(text_of=text_of) as store:
        await store.append(Turn("s", ["good"]))
        with pytest.raises(error, match=message):
            await store.append(Turn("s", ["good", "bad"]))
        with pytest.raises(error, match=message):
            await store.append(Turn("t", ["bad"]))
        assert await store.load("s") == ["good"]
        assert await store.describe("t") is None


@pytest.mark.parametrize("bad", ["text", 3])
async def test_text_of_must_be_a_function(path, bad):
    with pytest.raises(TypeError, match="text_of must be a function of an item, or None, got"):
        SqliteSessionStore(path, text_of=bad)
    with pytest.raises(TypeError, match="text_of must be a function of an item, or None, got"):
        InMemorySessionStore(text_of=bad)


async def test_the_index_keeps_the_text_that_text_of_returned_when_a_turn_was_saved(path):
    async with SqliteSessionStore(path, search_index=True, text_of=extra_text) as store:
        await store.append(Turn("s", [{"extra": "alpha"}], turn_id="t"))
        await store.append(Turn("s", [{"extra": "alpha"}], turn_id="u"))
    async with SqliteSessionStore(path, text_of=lambda _: "beta") as store:
        assert ids(await store.search("alpha")) == ["u", "t"]
        assert ids(await store.search("beta")) == []
        await store.erase(session_id="s")
    assert index_of(path) == {}
    assert query(path, "SELECT count(*) FROM memory_text") == [(0,)]


async def test_a_turn_that_was_saved_without_text_of_is_in_the_index_without_its_text(path):
    async with SqliteSessionStore(path, search_index=True) as store:
        await store.append(Turn("s", [{**user("hay"), "extra": "alpha"}]))
    async with SqliteSessionStore(path, text_of=extra_text) as store:
        assert ids(await store.search("alpha")) == []
        assert [hit.excerpt for hit in await store.search("hay")] == ["hay"]


async def test_text_that_is_stored_during_the_building_stays_as_it_is(path, monkeypatch):
    index_at_most_one_turn(monkeypatch)
    async with SqliteSessionStore(path, text_of=extra_text) as store:
        for number in range(3):
            await store.append(Turn(f"s{number}", [{"extra": "alpha"}, 1], turn_id=str(number)))
        async with SqliteSessionStore(path, text_of=lambda _: "beta") as other:
            await build_one_step(other)
            await store.pop("s2")  # stores the text of the turn that is left
            assert ids(await other.search("alpha")) == ["2"]
            while built(path)[0] < built(path)[1]:
                await build_one_step(other)
            assert ids(await other.search("alpha")) == ["2"]
            assert ids(await other.search("beta")) == ["1", "0"]


async def test_a_fork_during_the_building_keeps_the_additional_text(path, monkeypatch):
    index_at_most_one_turn(monkeypatch)
    async with SqliteSessionStore(path, text_of=extra_text) as store:
        for number in range(4):
            await store.append(Turn("s", [{"extra": f"alpha {number}"}]))
        await build_one_step(store)
        assert built(path)[0] < built(path)[1]
        await store.fork("s", "u")
        assert len(await store.search("alpha", prefix="u")) == 4
        for _ in range(4):
            await build_one_step(store)
        assert len(await store.search("alpha", prefix="u")) == 4
        assert len(await store.search("alpha")) == 8
    check_index(path)


class Unencodable(SessionError):
    """An error of the user's function that is also one of ours."""


async def test_an_error_of_text_of_during_a_pop_removes_nothing(path):
    is_bad = False

    def text_of(item):
        if is_bad:
            raise Unencodable("no text")  # noqa: EM101, TRY003
        return "alpha"

    async with SqliteSessionStore(path, search_index=True, text_of=text_of) as store:
        first = await store.append(Turn("s", ["a", "b"], turn_id="1"))
        await store.append(Turn("s", ["c"], turn_id="2", since=first))
        revision = await store.append(
            Turn("s", [], turn_id="3", replaces="2", expected_revision=first + 1)
        )
        is_bad = True
        with pytest.raises(Unencodable):
            await store.pop("s")
        is_bad = False
        history = await store.load("s")
        assert (list(history), history.revision) == (["a", "b"], revision)
        assert [turn.turn_id for turn in history.turns] == ["1", "3"]
    check_index(path, lambda _: "alpha")


async def test_an_error_of_text_of_during_the_building_adds_nothing_of_the_step(path):
    async with SqliteSessionStore(path) as store:
        for text in ("good", "bad"):
            await store.append(Turn("s", [user(text)]))

    def text_of(item):
        if item == user("bad") and is_bad:
            raise Unencodable("no text")  # noqa: EM101, TRY003
        return "alpha"

    is_bad = True
    with pytest.raises(Unencodable):
        async with SqliteSessionStore(path, search_index=True, text_of=text_of):
            pytest.fail("the store opened")
    assert open_connections() == []
    is_bad = False
    async with SqliteSessionStore(path, search_index=True, text_of=text_of) as store:
        assert len(await store.search("alpha")) == 2
    check_index(path, lambda _: "alpha")


# The building of an index


async def test_the_index_belongs_to_the_file_and_every_store_maintains_it(path):
    async with SqliteSessionStore(path) as plain:
        await say(plain, "alpha")
        assert not has_index(path)
        async with SqliteSessionStore(path, search_index=True) as other:
            await say(plain, "beta", "gamma")
            await say(other, "delta", "eps")
            for _ in range(2):
                await plain.pop("s")
            assert ids(await other.search("beta")) == ["beta"]
            assert ids(await other.search("delta")) == []
        check_index(path)
    async with SqliteSessionStore(path) as plain:
        await say(plain, "zeta")
        assert ids(await plain.search("zeta")) == ["zeta"]
    check_index(path)
    assert len(index_of(path)) == 4


OTHER = """
import sys
import anyio
from tower_memory import SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        for line in sys.stdin:
            word = line.strip()
            await store.append(Turn(word, [{"role": "user", "content": f"{word} needle"}] * 2))
            await store.pop(word)
            await store.append(Turn("gone", [{"role": "user", "content": f"{word} hay"}]))
            await store.erase(session_id="gone")
            await store.fork("s", f"fork of {word}")
            print(len(await store.search("needle", limit=99)), flush=True)

anyio.run(main, backend=sys.argv[2])
"""


async def test_a_process_without_the_setting_maintains_the_index_also_while_it_is_built(
    path, anyio_backend, monkeypatch
):
    index_at_most_one_turn(monkeypatch)
    await fill(path, 3)
    with start_python(OTHER, path, anyio_backend) as other:

        def tell(word):
            other.stdin.write(f"{word}\n")
            other.stdin.flush()
            return int(other.stdout.readline())

        assert tell("before") == 7
        async with SqliteSessionStore(path) as store:
            for number in range(4):
                await build_one_step(store)
                check_index(path)
                assert tell(f"w{number}") == 11 + 4 * number
                check_index(path)
            assert len(await store.search("needle", limit=99)) == 23
        async with SqliteSessionStore(path, search_index=True) as store:
            assert len(await store.search("needle", limit=99)) == 23
            assert tell("after") == 27
            assert len(await store.search("needle", limit=99)) == 27
            assert ids(await store.search("hay")) == []
        other.stdin.close()
    check_index(path)
    assert len(index_of(path)) == 27


@every_cancellation
async def test_a_building_that_is_cancelled_goes_on_when_the_store_opens_again(
    tmp_path, cancelled, monkeypatch
):
    index_at_most_one_turn(monkeypatch)
    paths = [tmp_path / f"{number}.db" for number in range(100)]

    async def open_one(nth):
        async with SqliteSessionStore(paths[nth], search_index=True):
            pass

    async def prepared(nth):
        await fill(paths[nth], 3)

    async def check(nth, _outcome, _was_cancelled):
        await until(lambda: open_connections() == [])
        if has_index(paths[nth]):
            check_index(paths[nth])
        async with SqliteSessionStore(paths[nth], search_index=True) as store:
            assert len(await store.search("needle")) == 3
        assert len(index_of(paths[nth])) == 3
        check_index(paths[nth])
        await prepared(nth + 1)

    await prepared(1)
    assert await cancel_at_every_suspension(open_one, cancelled, check) > 5


KILLED = """
import sys
import anyio
from tower_memory import SqliteSessionStore
from helpers.sqlite_internals import search_index

search_index._STEP = -1

def text_of(item):
    print("reads", flush=True)
    if text_of.left == 0:
        sys.stdin.read()
    text_of.left -= 1

async def main():
    async with SqliteSessionStore(sys.argv[1], search_index=True, text_of=text_of):
        pass

text_of.left = int(sys.argv[2])
anyio.run(main)
"""


@pytest.mark.parametrize("after", [0, 1, 4])
async def test_a_building_that_is_killed_goes_on_when_the_store_opens_again(path, after):
    await fill(path, 5)
    with start_python(KILLED, path, after, env=unmeasured()) as other:
        for _ in range(after + 1):
            assert other.stdout.readline() == "reads\n"
        other.kill()
        other.wait()

    assert has_index(path)
    check_index(path)
    assert len(index_of(path)) == after
    read = []
    async with SqliteSessionStore(path, search_index=True, text_of=read.append) as store:
        assert len(read) == 5 - after
        assert len(await store.search("needle")) == 5
    check_index(path)


async def test_turns_can_be_written_and_erased_while_the_index_is_built(path, monkeypatch):
    index_at_most_one_turn(monkeypatch)
    await fill(path, 6)
    async with SqliteSessionStore(path) as store:
        await say(store, "needle kept", session="kept")
        expected = 7
        for number in range(4):
            await build_one_step(store)
            await store.pop("s")
            await say(store, f"needle new {number}", session="new")
            assert built(path)[0] < built(path)[1]
            assert len(await store.search("needle")) == expected
            check_index(path)
        await store.erase(session_id="s")
        assert len(await store.search("needle")) == 5
        while built(path)[0] < built(path)[1]:
            await build_one_step(store)
            check_index(path)
        assert len(await store.search("needle")) == 5
    assert len(index_of(path)) == 5


async def test_an_index_is_built_while_other_stores_write(path, monkeypatch):
    index_at_most_one_turn(monkeypatch)
    await fill(path, 40)
    written = 0
    async with SqliteSessionStore(path) as store, anyio.create_task_group() as tasks:

        async def write():
            nonlocal written
            while not is_built:
                await say(store, f"needle new {written}", session="new")
                written += 1

        is_built = False
        tasks.start_soon(write)
        async with SqliteSessionStore(path, search_index=True) as indexed:
            is_built = True
            assert written > 10
            assert len(await indexed.search("needle", limit=40 + 99)) >= 40 + 10
    check_index(path)
    assert len(index_of(path)) == 40 + written


async def test_the_building_logs_its_progress(path, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="tower_memory")
    index_at_most_one_turn(monkeypatch)
    log_each_report(monkeypatch)
    await fill(path, 4)
    async with SqliteSessionStore(path, search_index=True):
        progress = [record.progress for record in caplog.records if hasattr(record, "progress")]
        assert progress == [0.0, 0.25, 0.5, 0.75]
        lines = [record.getMessage() for record in caplog.records]
        assert "sessions.db: building the search index: 25 %" in lines
    caplog.clear()
    async with SqliteSessionStore(path, search_index=True):
        assert not [record for record in caplog.records if hasattr(record, "progress")]


async def test_a_store_that_has_built_the_index_does_not_look_again(path):
    async with SqliteSessionStore(path, search_index=True) as store:
        query(path, "UPDATE memory_index SET build_until = 9")
        await say(store, "alpha")
        assert built(path) == (0, 9)
    async with SqliteSessionStore(path, search_index=True) as store:
        assert built(path)[0] >= 9


async def test_old_files_and_backups_can_have_an_index(path, tmp_path):
    old_file(path)
    async with SqliteSessionStore(path, search_index=True) as store:
        check_index(path)
        await say(store, "needle")
        await store.backup(tmp_path / "copy.db")
    async with SqliteSessionStore(tmp_path / "copy.db") as store:
        assert ids(await store.search("needle")) == ["needle"]
        check_index(tmp_path / "copy.db")


async def test_a_store_in_memory_can_be_searched_and_builds_no_index():
    async with SqliteSessionStore.in_memory() as store:
        await say(store, "alpha beta")
        assert ids(await store.search("beta")) == ["alpha beta"]


class WithoutFts5(Connection):
    """A connection of an SQLite that was built without FTS5."""

    def execute(self, operation, parameters=(), /):
        if isinstance(operation, str) and "USING fts5" in operation:
            raise sqlite3.OperationalError("no such module: fts5")  # noqa: EM101, TRY003
        return super().execute(operation, parameters)


async def test_without_fts5_an_index_is_refused_and_searches_read_all_turns(path, monkeypatch):
    replace_connections(monkeypatch, WithoutFts5)
    async with SqliteSessionStore(path) as store:
        await say(store, "needle")
    with pytest.raises(SessionError, match=r"search_index=True needs FTS5, .* leave it out"):
        async with SqliteSessionStore(path, search_index=True):
            pytest.fail("the store opened")
    assert open_connections() == []
    assert not has_index(path)
    async with SqliteSessionStore(path) as store:
        assert ids(await store.search("needle")) == ["needle"]


class FailsToCreate(Connection):
    """A connection that cannot create the index, for a reason that is not FTS5."""

    def execute(self, operation, parameters=(), /):
        if isinstance(operation, str) and "USING fts5" in operation:
            raise sqlite3.OperationalError("disk I/O error")  # noqa: EM101, TRY003
        return super().execute(operation, parameters)


async def test_another_error_of_the_creation_is_raised_as_it_is(path, monkeypatch):
    replace_connections(monkeypatch, FailsToCreate)
    with pytest.raises(SessionError, match=r"sessions\.db: disk I/O error$"):
        async with SqliteSessionStore(path, search_index=True):
            pytest.fail("the store opened")


# Searches


@pytest.mark.parametrize("is_indexed", [False, True])
async def test_damaged_turns_stop_no_search_and_have_no_text(path, is_indexed):
    damage = [b"\xff", "[", 5, 1.5, "null", "{}", '["\\ud800"]', b'["\xed\xa0\x80"]', b"\0", ""]
    await fill(path, 1)
    for number, bad in enumerate(damage):
        query(
            path,
            "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, items)"
            " SELECT session, number + 1 + ?, ?, created_at, 1, 1, ? FROM memory_turn LIMIT 1",
            *(number, f"damaged {number}", bad),
        )
    async with SqliteSessionStore(path, text_of=lambda _: "x", search_index=is_indexed) as store:
        assert ids(await store.search("needle")) == ["needle 0"]
        assert ids(await store.search("x")) == ["needle 0"]
        await store.erase(session_id="s")
        assert ids(await store.search("x")) == []
    if is_indexed:
        assert index_of(path) == {}


@pytest.mark.parametrize("is_indexed", [False, True])
async def test_a_long_search_lets_other_operations_of_the_thread_run(path, is_indexed, monkeypatch):
    pause_searches_after_each_row(monkeypatch)
    async with SqliteSessionStore(path, search_index=is_indexed) as store:
        for number in range(400):
            await store.append(Turn(f"s{number % 7}", [user(f"needle {number}")]))
        found = []

        async def search():
            found.append(await store.search("needle", limit=400))

        loads = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(search)
            while not found:
                await store.load("s1")
                loads += 1
        assert loads > 3
        with closing(sqlite3.connect(path)) as connection:
            steps = search_in_steps(connection, "needle", limit=400)
            assert sum(1 for _ in steps) > 400
        assert [hit.excerpt for hit in found[0]] == [f"needle {n}" for n in range(399, -1, -1)]


@pytest.mark.parametrize("is_indexed", [False, True])
async def test_each_hit_of_a_page_is_a_step_of_its_search(path, is_indexed):
    async with SqliteSessionStore(path, search_index=is_indexed) as store:
        await say(store, *(f"needle {number}" for number in range(60)))
        with closing(sqlite3.connect(path)) as connection:
            steps = [0, 0]
            for index, limit in enumerate((1, 60)):
                for _ in search_in_steps(connection, "needle", limit=limit):
                    steps[index] += 1
    assert steps[0] < 60 <= steps[1]


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("is_indexed", [False, True])
async def test_a_turn_that_is_removed_during_a_search_is_no_hit(
    path, is_indexed, steps, monkeypatch
):
    pause_searches_after_each_row(monkeypatch)
    async with SqliteSessionStore(path, search_index=is_indexed) as store:
        for text in ("needle b", "needle c"):
            await store.append(Turn("short", [user("hay"), user(text)], turn_id=text))
        await say(store, "needle a", session="kept")
        await say(store, "needle old", "needle older", session="old")
        with closing(sqlite3.connect(path)) as connection:
            search = search_in_steps(connection, "needle")
            for _ in range(steps):
                next(search)
            await store.erase(session_id="old")
            await store.pop("short")
            await say(store, "hay", session="reuses a row")
            hits, following = finish(search)
    assert following is None
    found = [hit.turn_id for hit in hits]
    assert found == ["needle a", "needle b"]


async def test_a_full_page_bounds_the_rest_of_a_search_by_time(path, monkeypatch):
    pause_searches_after_each_row(monkeypatch)
    async with SqliteSessionStore(path) as store:
        for session in "abcd":
            await say(store, "needle", session=session)
        page = await store.search("needle", limit=1)
        assert [hit.session_id for hit in page] == ["d"]
        rest = await store.search("needle", limit=3, after=page.next)
        assert [hit.session_id for hit in rest] == ["c", "b", "a"]


async def test_a_session_that_reuses_a_row_during_a_search_is_outside_of_the_prefix(
    path, monkeypatch
):
    pause_searches_after_each_row(monkeypatch)
    monkeypatch.setattr("time.time_ns", lambda: 10**18)
    async with SqliteSessionStore(path) as store:
        await say(store, "needle", session="a")
        with closing(sqlite3.connect(path)) as connection:
            search = search_in_steps(connection, "needle", prefix="a")
            next(search)
            await store.erase(session_id="a")
            await say(store, "needle", session="b")
            assert query(path, "SELECT id FROM memory_turn") == [(1,)]
            assert finish(search) == ([], None)


async def test_a_turn_that_is_removed_during_a_search_in_memory_is_no_hit(monkeypatch):
    monkeypatch.setattr("tower_memory._stores.in_memory.searching._TURNS_AT_ONCE", 1)
    started = []

    def tell(_):
        for event in started:
            event.set()

    store = InMemorySessionStore(text_of=tell)
    await say(store, *(f"old {number} needle" for number in range(100)), session="old")
    await store.append(Turn("short", [user("hay"), user("needle")], turn_id="short"))
    await say(store, *(f"kept {number} needle" for number in range(55)), session="kept")
    found = []

    async def search():
        found.extend(ids(await store.search("needle", limit=1000)))

    started.append(anyio.Event())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(search)
        await started[0].wait()
        await store.erase(session_id="old")
        await store.pop("short")
        await say(store, "hay", session="old")
        assert not found
    assert found == [f"kept {number} needle" for number in range(54, -1, -1)]


@pytest.mark.parametrize("count", [1, 300, 5_000])
async def test_a_query_may_have_any_number_of_words(make_store, count):
    text = " ".join(f"w{number}" for number in range(count))
    async with make_store() as store:
        await store.append(Turn("s", [user(text)], turn_id="t"))
        assert ids(await store.search(text)) == ["t"]
        assert ids(await store.search(f"{text} missing")) == []


async def test_turns_of_the_same_moment_are_on_one_page_each(make_store, monkeypatch):
    async with make_store() as store:
        monkeypatch.setattr("time.time_ns", lambda: 10**18)
        for number in range(9):
            await say(store, f"needle {number}", session=f"s{number % 2}")
        found, after = [], None
        while True:
            page = await store.search("needle", limit=2, after=after)
            found += ids(page)
            if (after := page.next) is None:
                break
        assert len(found) == len(set(found)) == 9


async def test_turns_are_ordered_by_time_also_if_the_clock_went_back(path, monkeypatch):
    now = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now)
    for is_indexed in (False, True):
        async with SqliteSessionStore(path, search_index=is_indexed) as store:
            await store.erase(prefix="")
            for seconds, text in ((3, "c"), (1, "a"), (2, "b"), (5, "e"), (4, "d")):
                now = seconds * 10**9
                await say(store, f"needle {text}")
            found = [hit.turn_id[-1] for hit in await store.search("needle")]
            assert found == ["e", "d", "c", "b", "a"]
            walked, after = "", None
            for _ in range(5):
                page = await store.search("needle", limit=1, after=after)
                walked += page[0].turn_id[-1]
                after = page.next
            assert (walked, after) == ("edcba", None)


async def test_a_scrub_leaves_no_word_that_another_version_has_split_differently(path, monkeypatch):
    async with SqliteSessionStore(path, search_index=True) as store:
        await say(store, "kept word")
        with monkeypatch.context() as other_version:
            read_other_words(other_version, {"topsecretword"})
            await say(store, "hidden", session="erased")
        await store.erase(session_id="erased")
        await store.scrub()
        assert ids(await store.search("word")) == ["kept word"]
    assert b"topsecretword" not in path.read_bytes()
    assert [*index_of(path).values()] == [{"kept", "word"}]


async def test_an_index_that_a_stopped_scrub_has_emptied_is_built_again(path):
    async with SqliteSessionStore(path, search_index=True) as store:
        await say(store, "needle")
        await write(store, empty_index)
        assert ids(await store.search("needle")) == ["needle"]
    async with SqliteSessionStore(path, search_index=True) as store:
        assert ids(await store.search("needle")) == ["needle"]
    check_index(path)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_search_index_is_wanted_or_not(path, value):
    with pytest.raises(TypeError, match="search_index must be True or False"):
        SqliteSessionStore(path, search_index=value)
