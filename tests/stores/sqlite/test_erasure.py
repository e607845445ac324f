"""Erasure: no byte of erased content is left, and no turn in progress revives a session."""

from __future__ import annotations

import random
import re
import sqlite3
import subprocess
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

import anyio
import pytest

from helpers.messages import user
from helpers.processes import start_python
from helpers.sqlite import check_integrity, locked, query
from helpers.sqlite_internals import erase_in_transaction, let_tombstones_live, run_on_writer
from helpers.tower_llm import add_tower_llm_table
from helpers.waiting import until
from tower_memory import SessionConflict, SessionError, SqliteSessionStore, Turn
from tower_memory._capabilities.erasure import Erasure
from tower_memory._errors import SessionCleared

DAY = 24 * 60 * 60 * 10**9
MARKED = re.compile(rb"<<[\w -]*>>")


def bytes_of(*files):
    """Return the bytes of *files*, read by another process.

    If this process closed the database file, SQLite's locks in this process would be gone.
    """
    return subprocess.run(["cat", *files], check=True, capture_output=True).stdout


def log_of(path):
    return bytes_of(f"{path}-wal")


def marks_in(path):
    """Return the marked texts whose bytes can be found anywhere."""
    return {mark.decode() for mark in MARKED.findall(bytes_of(*path.parent.glob(f"{path.name}*")))}


def words_in(path, marks):
    """Return those of *marks* of which a word can be found in a file, also without its start.

    An index stores only the end of a word that begins like the word before it.
    """
    found = b"".join(bytes_of(each) for each in path.parent.glob(f"{path.name}*"))
    return {mark for mark in marks if mark[6:18].encode() in found}


def marks_of(items):
    return {mark.decode() for item in items for mark in MARKED.findall(item["content"].encode())}


@asynccontextmanager
async def opened(path, **settings):
    """Open a store whose deleted bytes stay, as in most builds of SQLite; some overwrite them."""

    def set_pragma(connection):
        connection.execute("PRAGMA secure_delete = off")

    async with SqliteSessionStore(path, **settings) as store:
        await run_on_writer(store, set_pragma)
        yield store


@contextmanager
def snapshot(path):
    """Let another connection read from the present state of the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM memory_head").fetchone()
        yield other
        other.execute("ROLLBACK")


IDLE = """
import sys
import anyio
from tower_memory import SqliteSessionStore

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        await store.load("kept")
        print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        await store.load("kept")

anyio.run(main, backend=sys.argv[2])
"""


@contextmanager
def idle_process(path, backend):
    """Let another process have the file open."""
    with start_python(IDLE, path, backend) as other:
        assert other.stdout.readline() == "open\n"
        yield
        other.stdin.close()
        assert other.wait() == 0


class RandomHistory:
    """Random writes to a store, with marked texts that are never the same."""

    def __init__(self, store, seed):
        self.store, self.random, self.numbers = store, random.Random(seed), count()
        self.written = set()

    def text(self):
        mark = f"<<{self.random.getrandbits(64):016x}-{next(self.numbers)}>>"
        self.written.add(mark)
        # Long texts continue on further pages, in which each page has a mark.
        return mark * self.random.choice([1, 1, 1, 3, 40, 400])

    async def write(self):
        rnd, store = self.random, self.store
        session_id = f"session {rnd.randrange(6)}"
        history = await store.load(session_id)
        turns = history.turns
        match rnd.randrange(14):
            case 0 | 1:
                await store.pop(session_id)
            case 2:
                await store.clear(session_id)
            case 3:
                await store.erase(session_id=session_id)
            case 4 | 5 if turns:
                items = [user(self.text()) for _ in range(rnd.randrange(3))]
                await store.append(
                    Turn(
                        session_id,
                        items,
                        replaces=rnd.choice(turns).turn_id,
                        expected_revision=history.revision,
                    )
                )
            case 6 | 7 if turns:
                await store.save_summary(
                    session_id,
                    self.text(),
                    turn_id=rnd.choice(turns).turn_id,
                    since=history.revision,
                )
            case _:
                items = [user(self.text()) for _ in range(rnd.randrange(1, 5))]
                metadata = {"title": self.text()} if rnd.random() < 0.2 else None
                await store.append(Turn(session_id, items, metadata=metadata))

    async def kept(self):
        """Return the marks that can be loaded."""
        marks = set()
        for number in range(6):
            history = await self.store.load(f"session {number}")
            marks |= marks_of(history)
            for turn in history.turns:
                marks |= marks_of([{"content": text} for text in turn.metadata.values()])
            summary = await self.store.load_summary(f"session {number}")
            marks |= marks_of([{"content": summary.text}] if summary else [])
        return marks


@pytest.mark.parametrize(
    "seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 200))]
)
async def test_after_a_scrub_the_files_hold_only_what_can_be_loaded(path, seed):
    async with opened(path, search_index=seed % 2 == 1) as store:
        history = RandomHistory(store, seed)
        for _ in range(3):
            for _ in range(25):
                await history.write()
            await store.scrub()
            kept = await history.kept()
            assert marks_in(path) <= kept  # not equal: a mark may continue on another page
            assert words_in(path, history.written - kept) == set()
            assert log_of(path) == b""
        assert history.written > kept
    assert marks_in(path) <= kept
    check_integrity(path)


async def test_text_can_be_found_in_the_file_before_a_scrub(path):
    """The search of the other tests finds text in pages that are no longer used."""
    async with opened(path) as store:
        await store.append(Turn("s", [user("<<secret>>" * 1000)]))
        await store.append(Turn("kept", [user("<<kept>>")]))
        query(path, "PRAGMA wal_checkpoint(TRUNCATE)")  # as happens after many writes
        await store.erase(session_id="s")
        assert marks_in(path) == {"<<secret>>", "<<kept>>"}
        await store.scrub()
        assert marks_in(path) == {"<<kept>>"}


async def test_words_of_an_index_can_be_found_in_the_file_before_a_scrub(path):
    async with opened(path, search_index=True) as store:
        written = ["<<0123456789abcdef-1>>", "<<fedcba9876543210-2>>"]
        for session_id, text in zip(("s", "kept"), written, strict=True):
            await store.append(Turn(session_id, [user(text.upper())]))
        assert words_in(path, written) == {*written}
        await store.erase(session_id="s")
        assert words_in(path, written) == {*written}
        await store.scrub()
        assert words_in(path, written) == {written[1]}
        assert len(await store.search("fedcba9876543210")) == 1


async def test_a_scrub_succeeds_while_an_idle_process_has_the_file_open(path, anyio_backend):
    async with opened(path) as store:
        history = RandomHistory(store, 1)
        await store.append(Turn("kept", [user("kept")]))
        with idle_process(path, anyio_backend):
            for _ in range(25):
                await history.write()
            await store.erase(prefix="session")
            await store.scrub()
            assert marks_in(path) == set()
        assert await store.load("kept") == [user("kept")]
    check_integrity(path)


async def test_a_scrub_fails_while_a_snapshot_needs_the_log_and_may_be_repeated(path):
    async with opened(path, busy_timeout=0.05) as store:
        await store.append(Turn("s", [user("<<secret>>")]))
        with snapshot(path) as other:
            await store.erase(session_id="s")
            reason = r"reads from an old state of the file.*end that read, and scrub again"
            with pytest.raises(SessionError, match=reason):
                await store.scrub()
            assert marks_in(path) == {"<<secret>>"}
            assert other.execute("SELECT count(*) FROM memory_head").fetchone() == (1,)
            await store.append(Turn("other", [1]))  # the store still works

        await store.scrub()
        assert marks_in(path) == set()
        assert await store.load("other") == [1]


async def test_a_scrub_waits_for_a_snapshot_that_ends_in_time(path):
    async with opened(path, busy_timeout=60) as store:
        await store.append(Turn("s", [user("<<secret>>")]))
        async with anyio.create_task_group() as tasks:
            with snapshot(path):
                await store.erase(session_id="s")
                tasks.start_soon(store.scrub)
                for n in range(20):  # the writes go on meanwhile
                    await store.append(Turn("other", [n]))
        assert marks_in(path) == set()


async def test_a_scrub_fails_while_another_process_writes_and_may_be_repeated(path):
    async with opened(path, busy_timeout=0.05) as store:
        await store.append(Turn("s", [user("<<secret>>")]))
        await store.erase(session_id="s")
        with locked(path), pytest.raises(SessionError, match="locked"):
            await store.scrub()
        await store.scrub()
        assert marks_in(path) == set()


async def test_a_scrub_waits_for_a_lock_that_is_released_in_time(path):
    statements = []

    async with opened(path, busy_timeout=60) as store:
        await store.append(Turn("s", [user("<<secret>>")]))
        await store.erase(session_id="s")
        await run_on_writer(
            store, lambda connection: connection.set_trace_callback(statements.append)
        )
        async with anyio.create_task_group() as tasks:
            with locked(path):
                tasks.start_soon(store.scrub)
                await until(lambda: statements.count("VACUUM") > 1)
        assert marks_in(path) == set()


async def test_a_scrub_fails_at_once_for_a_reason_that_is_no_lock(path):
    def open_transaction(connection):
        connection.execute("BEGIN")

    async with SqliteSessionStore(path, busy_timeout=3600) as store:
        await store.append(Turn("s", [1]))
        await run_on_writer(store, open_transaction)
        with (
            anyio.fail_after(20),
            pytest.raises(SessionError, match="cannot VACUUM from within a transaction"),
        ):
            await store.scrub()
        assert await store.load("s") == [1]


async def test_a_store_in_memory_can_be_scrubbed():
    async with SqliteSessionStore.in_memory() as store:
        await store.append(Turn("s", [1]))
        await store.append(Turn("t", [2]))
        await store.erase(session_id="s")
        await store.scrub()
        assert await store.load("t") == [2]


# The log


@pytest.mark.parametrize("method", ["clear", "erase"])
async def test_the_log_holds_nothing_after_a_session_was_removed(path, method):
    async with opened(path) as store:
        for n in range(50):
            await store.append(Turn("s", [user(f"<<message {n}>>")]))
            await store.load("s")
        assert b"<<message 49>>" in log_of(path)
        await getattr(store, method)(session_id="s")
        assert log_of(path) == b""


@pytest.mark.parametrize("method", ["clear", "erase"])
async def test_a_snapshot_keeps_the_log_but_fails_no_removal(path, method):
    async with opened(path, busy_timeout=0.05) as store:
        await store.append(Turn("s", [user("<<secret>>")]))
        with snapshot(path):
            await getattr(store, method)(session_id="s")
            assert await store.load("s") == []
            assert b"<<secret>>" in log_of(path)
        await getattr(store, method)(session_id="s")
        assert log_of(path) == b""


async def test_the_log_is_emptied_after_each_part_of_an_erasure_by_prefix(path):
    async with opened(path) as store:
        for n in range(70):
            await store.append(Turn(f"session {n}", [user(f"<<message {n}>>")]))
        await store.erase(prefix="session")
        assert log_of(path) == b""


# What is erased


def rows_of(path):
    """Return all values of all tables, as one text."""
    tables = query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    return repr({name: query(path, f'SELECT * FROM "{name}"') for (name,) in tables})


async def test_no_row_of_any_table_has_the_id_or_the_content_of_an_erased_session(path):
    async with opened(path) as store:
        await store.append(Turn("<<id>>", [user("<<a>>")], metadata={"<<b>>": 1}, turn_id="<<t>>"))
        await store.append(Turn("kept", [user("kept")]))
        (head,) = query(path, "SELECT id FROM memory_head WHERE session_id = '<<id>>'")
        query(
            path,
            "INSERT INTO memory_pending (session, turn_id, created_at, failed, items)"
            " VALUES (?, '<<p>>', 1, 0, '[\"<<q>>\"]')",
            *head,
        )
        since = (await store.load("<<id>>")).revision
        await store.save_summary("<<id>>", "<<s>>", turn_id="<<t>>", since=since, name="<<n>>")
        assert len(set(re.findall("<<.>>", rows_of(path)))) == 7

        assert await store.erase(session_id="<<id>>") == Erasure(1, 1, 1)
        assert "<<" not in rows_of(path)
        assert await store.load("kept") == [user("kept")]
        await store.scrub()
        assert marks_in(path) == set()


async def test_a_clear_removes_pending_turns_and_summaries_of_its_session_only(path):
    async with SqliteSessionStore(path) as store:
        for session_id in "ab":
            since = await store.append(Turn(session_id, [1], turn_id="t"))
            await store.save_summary(session_id, "a summary", turn_id="t", since=since)
        query(
            path,
            "INSERT INTO memory_pending (session, turn_id, created_at, failed, items)"
            " SELECT id, 'p', 1, 0, '[]' FROM memory_head",
        )
        await store.clear("a")
        ((kept,),) = query(path, "SELECT id FROM memory_head WHERE session_id = 'b'")
        for table in ("turn", "pending", "summary"):
            assert query(path, f"SELECT session FROM memory_{table}") == [(kept,)]
        assert query(path, "SELECT session_id FROM memory_head ORDER BY id") == [("a",), ("b",)]


async def replace(store, turn_id):
    revision = (await store.load("s")).revision
    await store.append(Turn("s", ["d"], replaces=turn_id, expected_revision=revision))


async def pop(store, times):
    for _ in range(times):
        await store.pop("s")


async def append_and_pop(store):
    await store.append(Turn("s", ["d"]))
    await store.pop("s")


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda store: replace(store, "b"), "a"),
        (lambda store: replace(store, "c"), "ab"),
        (lambda store: pop(store, 1), "ab"),
        (lambda store: pop(store, 2), "ab"),
        (lambda store: pop(store, 3), "a"),
        (append_and_pop, "abc"),
    ],
    ids=["replace b", "replace c", "pop", "pop twice", "pop three times", "append and pop"],
)
async def test_a_change_removes_the_rows_of_the_summaries_that_cover_what_it_changed(
    path, change, left
):
    async with SqliteSessionStore(path) as store:
        for turn_id in "abc":
            since = await store.append(Turn("s", [turn_id, 2], turn_id=turn_id))
        for turn_id in "abc":
            await store.save_summary("s", "a summary", turn_id=turn_id, since=since, name=turn_id)
        await change(store)
        rows = query(path, "SELECT name FROM memory_summary ORDER BY name")
        assert rows == [(name,) for name in left]


async def test_erase_counts_the_turns_and_items_that_it_removes(path):
    async with SqliteSessionStore(path) as store:
        assert await store.erase(session_id="none") == Erasure(0, 0, 0)
        await store.append(Turn("a", [1, 2]))
        await store.append(Turn("a", [3]))
        await store.append(Turn("ab", [4]))
        assert await store.erase(session_id="a") == Erasure(1, 2, 3)
        assert await store.erase(session_id="a") == Erasure(0, 0, 0)
        assert await store.load("ab") == [4]


@pytest.mark.parametrize("sessions", [1, 63, 64, 65, 128, 200])
async def test_erase_by_prefix_removes_any_number_of_sessions(path, sessions):
    async with SqliteSessionStore(path) as store:
        for n in range(sessions):
            await store.append(Turn(f"a{n}", [n, n]))
        for other in ("b", "A", "\N{SNOWMAN}"):
            await store.append(Turn(other, [1]))
        assert await store.erase(prefix="a") == Erasure(sessions, sessions, 2 * sessions)
        assert query(path, "SELECT count(*) FROM memory_head") == [(3,)]
        assert await store.erase(prefix="a") == Erasure(0, 0, 0)
        assert await store.erase(prefix="") == Erasure(3, 3, 3)
        assert query(path, "SELECT count(*) FROM memory_turn") == [(0,)]


@pytest.mark.parametrize(
    ("prefix", "kept"),
    [
        ("a", ["A", "b", "b\U0010ffff", "b\U0010ffffc", "\ud7ff", "\ue000", "\U0010ffff"]),
        ("b\U0010ffff", ["A", "a", "a%", "ab", "b", "\ud7ff", "\ue000", "\U0010ffff"]),
        (
            "\ud7ff",
            ["A", "a", "a%", "ab", "b", "b\U0010ffff", "b\U0010ffffc", "\ue000", "\U0010ffff"],
        ),
        (
            "\U0010ffff",
            ["A", "a", "a%", "ab", "b", "b\U0010ffff", "b\U0010ffffc", "\ud7ff", "\ue000"],
        ),
        ("", []),
    ],
)
async def test_prefixes_compare_code_points(path, prefix, kept):
    names = ["A", "a", "a%", "ab", "b", "b\U0010ffff", "b\U0010ffffc"]
    names += ["\ud7ff", "\ue000", "\U0010ffff"]
    async with SqliteSessionStore(path) as store:
        for name in names:
            await store.append(Turn(name, [1]))
        erased = await store.erase(prefix=prefix)
        left = [name for (name,) in query(path, "SELECT session_id FROM memory_head")]
        assert sorted(left) == sorted(kept)
        assert erased.sessions == len(names) - len(kept)
        assert all(not name.startswith(prefix) for name in left)


async def test_writes_to_other_sessions_go_on_while_a_prefix_is_erased(path):
    async with SqliteSessionStore(path) as store, SqliteSessionStore(path) as other:
        for n in range(150):
            await store.append(Turn(f"a{n}", [n]))

        async def write():
            for n in range(50):
                await other.append(Turn("b", [n]))
                await other.append(Turn(f"c{n}", [n]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            erased = await store.erase(prefix="a")
        assert erased == Erasure(150, 150, 150)
        assert list(await store.load("b")) == list(range(50))
        assert query(path, "SELECT count(*) FROM memory_head") == [(51,)]


async def test_sessions_that_were_changed_since_stay(path, monkeypatch):
    times = iter(range(10**18, 2 * 10**18, 10**9))
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    async with SqliteSessionStore(path) as store:
        for name in ("a", "b", "c", "d"):
            await store.append(Turn(name, [name]))
        await store.append(Turn("a", ["newer"]))
        ((updated_at,),) = query(path, "SELECT updated_at FROM memory_head WHERE session_id = 'c'")
        since = datetime.fromtimestamp(updated_at // 10**9, UTC)

        assert await store.erase(session_id="c", inactive_since=since) == Erasure(0, 0, 0)
        assert await store.erase(session_id="a", inactive_since=since) == Erasure(0, 0, 0)
        assert await store.erase(session_id="none", inactive_since=since) == Erasure(0, 0, 0)
        assert query(path, "SELECT count(*) FROM memory_tombstone") == [(0,)]
        assert await store.erase(prefix="", inactive_since=since) == Erasure(1, 1, 1)
        assert await store.load("b") == []
        later = since + timedelta(microseconds=1)
        assert await store.erase(session_id="c", inactive_since=later) == Erasure(1, 1, 1)
        assert await store.load("a") == ["a", "newer"]


async def test_a_session_that_is_changed_after_it_was_found_stays(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1]))
        ((updated_at,),) = query(path, "SELECT updated_at FROM memory_head")
        await store.append(Turn("s", [2]))
        erased = await run_on_writer(store, erase_in_transaction, ["s"], updated_at + 1)
        assert erased == Erasure(0, 0, 0)
        assert await store.load("s") == [1, 2]


async def test_a_session_is_found_only_if_it_is_inactive(path):
    async with SqliteSessionStore(path) as store:
        for n in range(70):
            await store.append(Turn(f"new {n}", [n]))
        await store.append(Turn("zz", [1]))
        query(path, "UPDATE memory_head SET updated_at = 1000 WHERE session_id = 'zz'")
        since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=2)
        assert await store.erase(prefix="", inactive_since=since) == Erasure(1, 1, 1)
        assert await store.load("zz") == []


@pytest.mark.parametrize("by", ["session_id", "prefix"])
async def test_the_rows_of_an_erased_session_in_a_taken_over_table_are_removed(path, by):
    async with opened(path) as store:
        for name in ("erased", "kept"):
            await store.append(Turn(name, [user(f"<<{name}>>")]))
        rows = [(name, f'"<<{name}>>"', "2025-08-11T12:34:56Z", 1) for name in ("erased", "kept")]
        add_tower_llm_table(path, *rows)
        await store.erase(**{by: "erased"})
        assert query(path, "SELECT session_id FROM sessions") == [("kept",)]
        await store.scrub()
        assert marks_in(path) == {"<<kept>>"}


async def test_rows_of_a_taken_over_table_are_removed_even_if_the_session_has_no_turns(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("other", [1]))
        add_tower_llm_table(path, ("s", '"<<secret>>"', "2025-08-11T12:34:56Z", 1))
        assert await store.erase(session_id="s") == Erasure(0, 0, 0)
        assert query(path, "SELECT count(*) FROM sessions") == [(0,)]


# Turns in progress


async def both(store):
    await store.clear("s")
    await store.erase(session_id="s")


REMOVALS = {
    "clear": lambda store: store.clear("s"),
    "erase": lambda store: store.erase(session_id="s"),
    "erase by prefix": lambda store: store.erase(prefix="s"),
    "both": both,
}


@pytest.mark.parametrize("between", ["nothing", "written again", "twice", "by another store"])
@pytest.mark.parametrize("removal", REMOVALS)
async def test_a_turn_in_progress_does_not_revive_a_session(path, removal, between):
    async with SqliteSessionStore(path) as store, SqliteSessionStore(path, item_type=str) as other:
        await store.append(Turn("s", ["a"]))
        since = (await store.load("s")).revision
        remover = other if between == "by another store" else store
        for _ in range(2 if between == "twice" else 1):
            await REMOVALS[removal](remover)
            if between != "nothing":
                await other.append(Turn("s", ["b"]))

        content = await store.load("s")
        with pytest.raises(SessionCleared):
            await store.append(Turn("s", ["late"], since=since))
        assert await store.load("s") == content
        assert (await store.load("s")).revision == content.revision

        # A turn that began after the removal is saved.
        revision = await store.append(Turn("s", ["new"], since=content.revision))
        assert revision > content.revision > since
        assert await store.load("s") == [*content, "new"]


@pytest.mark.parametrize("removal", ["clear", "erase", "both"])
async def test_a_turn_in_progress_does_not_create_a_session_that_was_removed_unwritten(
    path, removal
):
    async with SqliteSessionStore(path) as store:
        assert (await store.load("s")).revision == 0
        await REMOVALS[removal](store)
        removed = (await store.load("s")).revision
        assert removed > 0
        with pytest.raises(SessionCleared):
            await store.append(Turn("s", ["late"], since=0))
        assert await store.append(Turn("s", ["new"], since=removed)) > removed
        with pytest.raises(SessionCleared):
            await store.append(Turn("s", ["late"], since=0))
        assert "'s'" not in repr(query(path, "SELECT * FROM memory_tombstone"))


async def test_a_turn_in_progress_from_before_the_first_write_is_saved_with_it(path):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["a"], since=0))
        await store.append(Turn("s", ["b"], since=0))
        assert await store.load("s") == ["a", "b"]


async def test_a_turn_of_an_erased_session_is_refused_after_a_day_if_it_was_written_again(
    path, monkeypatch
):
    async with SqliteSessionStore(path) as store:
        since = await store.append(Turn("s", ["a"]))
        await store.erase(session_id="s")
        let_tombstones_live(monkeypatch, -1)
        await store.append(Turn("s", ["b"]))
        with pytest.raises(SessionCleared):
            await store.append(Turn("s", ["late"], since=since))
        assert await store.load("s") == ["b"]


async def test_a_turn_in_progress_is_refused_if_turns_were_replaced_since(path):
    async with SqliteSessionStore(path) as store:
        since = await store.append(Turn("s", ["a"], turn_id="a"))
        replaced = await store.append(Turn("s", ["b"], replaces="a", expected_revision=since))
        with pytest.raises(SessionConflict, match="turns were replaced"):
            await store.append(Turn("s", ["late"], since=since))
        await store.append(Turn("s", ["new"], since=replaced))
        assert await store.load("s") == ["b", "new"]


ERASER = """
import sys
import anyio
from tower_memory import SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        for line in sys.stdin:
            await store.load("s")
            await store.erase(session_id="s")
            if line == "write\\n":
                await store.append(Turn("s", ["b"]))
            print("done", flush=True)

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("order", ["erase\n", "write\n"])
async def test_a_turn_in_progress_is_refused_if_another_process_has_erased_its_session(
    path, anyio_backend, order
):
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["a"]))
        since = (await store.load("s")).revision
        with start_python(ERASER, path, anyio_backend) as other:
            other.stdin.write(order)
            other.stdin.flush()
            assert other.stdout.readline() == "done\n"
            other.stdin.close()
        with pytest.raises(SessionCleared):
            await store.append(Turn("s", ["late"], since=since))
        assert await store.load("s") == (["b"] if order == "write\n" else [])


# Tombstones


async def test_a_tombstone_lives_for_a_day(path, monkeypatch):
    now = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now)
    async with SqliteSessionStore(path) as store:
        await store.erase(session_id="s")
        removed = (await store.load("s")).revision
        now += DAY - 1
        assert (await store.load("s")).revision == removed > 0
        with pytest.raises(SessionCleared):
            await store.append(Turn("s", ["late"], since=0))
        now += 1
        assert (await store.load("s")).revision == 0
        await store.append(Turn("s", ["a day later"], since=0))


async def test_an_erasure_at_a_revision_that_is_repeated_leaves_no_newer_tombstone(
    path, monkeypatch
):
    now = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now)
    async with SqliteSessionStore(path) as store:
        seen = await store.append(Turn("s", ["a"]))
        for numbers in (Erasure(1, 1, 1), Erasure(0, 0, 0)):
            assert await store.erase(session_id="s", expected_revision=seen) == numbers
            now += DAY // 2
        now += 1
        assert (await store.load("s")).revision == 0


async def test_tombstones_of_a_day_ago_are_removed_by_the_next_erasure(path, monkeypatch):
    now = 10**18
    monkeypatch.setattr("time.time_ns", lambda: now)
    async with SqliteSessionStore(path) as store:
        await store.erase(session_id="a")
        now += 1
        await store.erase(session_id="b")
        now += DAY - 1
        await store.erase(session_id="c")
        times = query(path, "SELECT created_at FROM memory_tombstone ORDER BY created_at")
        assert times == [(10**18 + 1,), (now,)]


async def test_a_tombstone_of_a_session_that_is_erased_twice_has_the_newest_number(path):
    async with SqliteSessionStore(path) as store:
        revisions = []
        for _ in range(3):
            await store.append(Turn("s", [1]))
            await store.erase(session_id="s")
            revisions.append((await store.load("s")).revision)
            await store.erase(session_id="s")
            revisions.append((await store.load("s")).revision)
        assert revisions == sorted(set(revisions))
        assert query(path, "SELECT count(*) FROM memory_tombstone") == [(1,)]


@pytest.mark.parametrize(("year", "count"), [(1, 0), (9999, 1)])
async def test_sessions_are_erased_by_any_time_that_a_datetime_can_hold(path, year, count):
    since = datetime(year, 1, 1, tzinfo=UTC)
    async with SqliteSessionStore(path) as store:
        for chosen in ({"session_id": "a"}, {"prefix": ""}):
            await store.append(Turn("a", [user("Hi")]))
            erased = await store.erase(**chosen, inactive_since=since)
            assert erased.sessions == count
