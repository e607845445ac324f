"""Searching in Postgres: the search index, the turns that are not in it, and long walks."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from itertools import islice

import anyio
import pytest

from helpers.messages import user
from helpers.postgres_search import (
    MARK,
    expected_words,
    finish,
    index_one_turn_at_a_time,
    search_in_steps,
    stop_long_statements_at_once,
)
from helpers.processes import start_python, unmeasured
from helpers.search import extra_text
from helpers.sqlite_internals import log_each_report
from tower_memory import SessionError, Turn
from tower_memory.postgres import PostgresSessionStore

FILL = """
INSERT INTO memory_turn (session, first, number, turn, turn_id, created_at, size, words, items)
SELECT session, 1000 + n, n, gen_random_uuid(), 'filler', 2 * (SELECT max(created_at) FROM memory_turn)
    + n, 0, %s, '[]'
FROM generate_series(1, %s) AS n, (SELECT session FROM memory_head LIMIT 1) AS head
"""
"""Adds turns without text to a session, newer than all others."""

REFUSE = """
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_query() LIKE '%{part}%' THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = '{code}';
    END IF;
END $$;
CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse();
"""
"""Lets the server refuse definitions that contain a text."""

SLOW = """
ALTER TABLE memory_turn RENAME TO turns;
CREATE VIEW memory_turn AS SELECT * FROM turns
    WHERE current_setting('statement_timeout') = '0' OR pg_sleep(60) IS NOT NULL;
"""
"""Lets each statement with a time limit exceed it."""


@pytest.fixture
def execute(postgres_server, postgres_url):
    """Return a function that executes a statement, and returns its rows."""

    def run(statement, *parameters):
        return postgres_server.execute(statement, parameters or None, url=postgres_url)

    return run


@pytest.fixture
def stored(execute):
    """Return a function that returns the words and the items of each turn, the oldest first."""
    return lambda: execute("SELECT words, items FROM memory_turn ORDER BY created_at, number")


@pytest.fixture
def open_store(postgres_url):
    """Return a function that opens a store."""

    @asynccontextmanager
    async def make(**settings):
        async with PostgresSessionStore(postgres_url, **settings) as store:
            yield store

    return make


def ids(page):
    return [hit.turn_id for hit in page]


async def say(store, *texts, session="s"):
    """Append a turn for each text, whose id is the text."""
    for text in texts:
        await store.append(Turn(session, [user(text)], turn_id=text))


async def all_pages(store, text, **parameters):
    """Return the ids of the hits of all pages."""
    found, after, is_last = [], None, False
    while not is_last:
        page = await store.search(text, after=after, **parameters)
        found += ids(page)
        after, is_last = page.next, page.next is None
    return found


def check_index(stored):
    """Fail unless each turn has its words."""
    for words, array in stored():
        assert words == expected_words(array)


# The building of the index


async def test_a_store_that_opens_with_an_index_adds_the_older_turns(open_store, stored):
    async with open_store() as store:
        await say(store, *(f"needle {number}" for number in range(250)))
        assert [words for words, _ in stored()] == [MARK] * 250
        before = await all_pages(store, "needle")
    async with open_store(search_index=True) as store:
        check_index(stored)
        assert await all_pages(store, "needle") == before
        await say(store, "hay")
        check_index(stored)


async def test_a_search_finds_turns_of_a_store_without_the_index_until_they_are_added(
    open_store, stored
):
    async with open_store(search_index=True) as indexed, open_store() as plain:
        await say(indexed, "needle 1")
        await say(plain, "needle 2")
        assert [words == MARK for words, _ in stored()] == [False, True]
        for store in (indexed, plain):
            assert ids(await store.search("needle")) == ["needle 2", "needle 1"]
            assert ids(await store.search("2 needle")) == ["needle 2"]
    async with open_store(search_index=True) as store:
        check_index(stored)
        assert ids(await store.search("needle")) == ["needle 2", "needle 1"]


async def test_a_change_of_a_turn_keeps_it_in_the_index_or_out_of_it(open_store, stored):
    items = [user("needle"), user("hay")]
    async with open_store(search_index=True) as indexed, open_store() as plain:
        await indexed.append(Turn("i", items))
        await plain.append(Turn("p", items))
        await plain.pop("i")
        await indexed.pop("p")
        (words, array), marked = stored()
        assert words == expected_words(array)
        assert marked[0] == MARK
        assert len(await plain.search("needle")) == 2
        assert len(await plain.search("hay")) == 0


KILLED = """
import sys
import anyio
from helpers import postgres_search
from tower_memory.postgres import PostgresSessionStore

postgres_search.server_store._PART_LENGTH = 1

def text_of(item):
    print("reads", flush=True)
    if text_of.left == 0:
        sys.stdin.read()
    text_of.left -= 1

async def main():
    async with PostgresSessionStore(sys.argv[1], search_index=True, text_of=text_of):
        pass

text_of.left = int(sys.argv[2])
anyio.run(main)
"""


@pytest.mark.parametrize("after", [0, 1, 4])
async def test_a_building_that_is_killed_goes_on_when_a_store_opens_again(
    open_store, postgres_url, stored, after
):
    async with open_store() as store:
        await say(store, *(f"needle {number}" for number in range(5)))
    with start_python(KILLED, postgres_url, after, env=unmeasured()) as other:
        for _ in range(after + 1):
            assert other.stdout.readline() == "reads\n"
        other.kill()
        other.wait()

    assert sum(words != MARK for words, _ in stored()) == after
    read = []
    async with open_store(search_index=True, text_of=read.append) as store:
        assert len(read) == 5 - after
        assert len(await store.search("needle")) == 5
    check_index(stored)


async def test_several_stores_build_the_index_while_others_write_and_erase(
    open_store, stored, monkeypatch
):
    index_one_turn_at_a_time(monkeypatch)
    async with open_store() as plain:
        await say(plain, *(f"needle {number}" for number in range(40)))
        await say(plain, *(f"old {number}" for number in range(10)), session="old")
        built = 0

        async def build():
            nonlocal built
            async with open_store(search_index=True):
                built += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(build)
            written = 0
            while built < 3:
                await say(plain, f"needle new {written}", session="new")
                await plain.erase(session_id="old")
                written += 1
            assert written > 1
        assert len(await plain.search("needle", limit=999)) == 40 + written
        assert ids(await plain.search("old")) == []
    async with open_store(search_index=True):
        check_index(stored)


async def test_a_turn_that_another_store_has_added_meanwhile_stays_as_it_is(
    open_store, postgres_url
):
    async with open_store() as store:
        await store.append(Turn("s", [{}], turn_id="t"))

    async def add_first():
        other = PostgresSessionStore(postgres_url, search_index=True, text_of=lambda _: "beta")
        async with other:
            pass

    def text_of(_):
        anyio.run(add_first)  # the turn has been read, and is not written yet
        return "alpha"

    async with open_store(search_index=True, text_of=text_of) as store:
        assert ids(await store.search("beta")) == ["t"]
        assert ids(await store.search("alpha")) == []


async def test_an_error_of_text_of_during_the_building_adds_nothing(open_store, stored):
    def text_of(item):
        return 1 / 0 if item == user("bad") and is_bad else "alpha"

    async with open_store() as store:
        await say(store, "good", "bad")
    is_bad = True
    with pytest.raises(ZeroDivisionError):
        async with open_store(search_index=True, text_of=text_of):
            pytest.fail("the store opened")
    assert [words for words, _ in stored()] == [MARK] * 2
    is_bad = False
    async with open_store(search_index=True, text_of=text_of) as store:
        assert len(await store.search("alpha")) == 2


async def test_the_building_logs_its_progress(open_store, execute, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="tower_memory")
    log_each_report(monkeypatch)
    async with open_store() as store:
        await say(store, "needle")
    execute(FILL, MARK, 1200)
    async with open_store(search_index=True):
        shares = [record.progress for record in caplog.records if hasattr(record, "progress")]
        assert shares == sorted(shares)
        assert len(shares) > 1
        assert 0 <= shares[0] < shares[-1] <= 1
        assert "building the search index" in caplog.text
    assert execute("SELECT count(*) FROM memory_turn WHERE words = %s", MARK) == [(0,)]


# Additional text


async def test_a_search_finds_the_text_that_text_of_returned_when_a_turn_was_saved(open_store):
    items = [{"extra": "alpha"}]
    async with open_store(text_of=extra_text) as store:
        await store.append(Turn("s", items, turn_id="t"))
    for is_index in (False, True):
        async with open_store(search_index=is_index, text_of=lambda _: "beta") as store:
            assert ids(await store.search("alpha")) == ["t"]
            assert ids(await store.search("beta")) == []


async def test_a_turn_saved_without_text_of_has_its_text_as_soon_as_a_store_has_it(open_store):
    async with open_store() as store:
        await store.append(Turn("s", [{"extra": "alpha"}], turn_id="t"))
        assert ids(await store.search("alpha")) == []
    async with open_store(text_of=extra_text) as store:
        assert ids(await store.search("alpha")) == ["t"]
    async with open_store(text_of=extra_text, search_index=True) as store:
        assert ids(await store.search("alpha")) == ["t"]
    async with open_store() as store:
        assert ids(await store.search("alpha")) == ["t"]


# Engines without the index


async def test_a_server_that_lacks_the_index_finds_the_same(open_store, execute):
    execute(REFUSE.format(part="USING gin", code="0A000"))
    async with open_store(search_index=True) as store:
        await say(store, *(f"needle {number}" for number in range(3)))
        execute(FILL, "", 1200)
        assert execute("SELECT to_regclass('memory_turn_words')") == [(None,)]
        assert ids(await store.search("needle")) == ["needle 2", "needle 1", "needle 0"]


@pytest.mark.parametrize(("part", "code"), [("USING gin", "53100"), ("memory_turn (", "0A000")])
async def test_every_other_error_of_the_creation_is_raised(open_store, execute, part, code):
    execute(REFUSE.format(part=part, code=code))
    with pytest.raises(SessionError, match="refused"):
        async with open_store():
            pytest.fail("the store opened")


# Long walks


@pytest.mark.parametrize("kind", ["index", "no index", "marked turns", "slow index"])
async def test_old_hits_are_found_behind_many_turns(open_store, execute, monkeypatch, kind):
    stop_long_statements_at_once(monkeypatch)
    async with open_store(search_index=True) as store:
        texts = [f"needle {number}" for number in range(4)]
        await say(store, *texts)
        execute(FILL, MARK if kind == "marked turns" else "", 2500)
        if kind == "no index":
            execute("DROP INDEX memory_turn_words")
        elif kind == "slow index":
            execute(SLOW)
        for prefix in ("", "s"):
            assert await all_pages(store, "needle", prefix=prefix) == texts[::-1]
            assert await all_pages(store, "needle", prefix=prefix, limit=1) == texts[::-1]
            assert await all_pages(store, "0 needle", prefix=prefix) == texts[:1]
            assert await all_pages(store, "missing", prefix=prefix) == []


async def test_a_prefix_of_many_sessions_finds_the_same(open_store, execute):
    async with open_store(search_index=True) as store:
        await say(store, "needle 2", session="other")
        execute(
            "INSERT INTO memory_head SELECT gen_random_uuid(), convert_to('user/' || n, 'UTF8'),"
            " convert_to('user/' || n, 'UTF8'), version, previous, active, revision, first_number,"
            " cleared, replaced, created_at, updated_at, turns, items"
            " FROM memory_head, generate_series(1000, 2100) AS n WHERE session_id = 'other'"
        )
        await say(store, "needle 1", session="user/9")
        assert ids(await store.search("needle", prefix="user/")) == ["needle 1"]
        assert ids(await store.search("needle", prefix="user/2")) == []


async def test_turns_of_one_time_are_in_one_order_on_all_pages(open_store, execute):
    async with open_store() as store:
        for number in range(12):
            await say(store, f"needle {number}", session=f"s{number % 4}")
        execute("UPDATE memory_turn SET created_at = 5 WHERE created_at % 3 > 0")
        expected = [
            turn_id.decode()
            for (turn_id,) in execute(
                "SELECT turn_id FROM memory_turn ORDER BY created_at DESC, session DESC, number DESC"
            )
        ]
        assert await all_pages(store, "needle") == expected
        assert await all_pages(store, "needle", limit=1) == expected


async def test_a_search_that_ends_after_an_erasure_has_nothing_of_it(open_store, postgres_url):
    async with open_store() as store:
        for pauses in range(10):
            await say(store, "needle 1", session="erased")
            await say(store, "needle 2", session="popped")
            await say(store, "needle 3", session="kept")
            steps = search_in_steps(postgres_url, "needle")
            if len(list(islice(steps, pauses))) < pauses:
                break

            await store.erase(session_id="erased")
            await store.pop("popped")
            assert ids(finish(steps)) == ["needle 3"]
            await store.erase(session_id="kept")
        assert 2 < pauses < 9


@pytest.mark.parametrize("is_index", [False, True])
async def test_damaged_turns_stop_no_search_and_have_no_text(open_store, execute, is_index):
    damage = [b"\xff", b"[", b"5", b"null", b"{}", b'["\\ud800"]', b'["\xed\xa0\x80"]', b"\0", b""]
    async with open_store() as store:
        await say(store, *(f"needle {number}" for number in range(len(damage) + 1)))
    for number, bad in enumerate(damage):
        turn_id = f"needle {number}".encode()
        execute("UPDATE memory_turn SET items = %b WHERE turn_id = %b", bad, turn_id)
    async with open_store(search_index=is_index, text_of=lambda _: "x") as store:
        for text in ("needle", "x"):
            assert ids(await store.search(text)) == [f"needle {len(damage)}"]
