"""Sessions in use: what is served from memory is what the file holds, and takes no more memory
than it may.
"""

from __future__ import annotations

import gc
import json
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tower_memory import MessageItem, Role, RunItem, SessionError, SqliteSessionStore, Turn
from tower_memory._codec import ItemCodec
from tower_memory._history import TurnStart
from tower_memory._stores.kept import KeptSession
from tower_memory._stores.loads import HotSession, HotSessions

MEMORY = {"none": 0, "little": 3000, "the default": 32 * 2**20}

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
JSON_VALUES = ItemCodec(Any)

OTHER_PROCESS = """
import json, sys
import anyio
from tower_memory import SqliteSessionStore, Turn

async def main():
    async with SqliteSessionStore(sys.argv[1]) as store:
        for line in sys.stdin:
            name, session_id, items = json.loads(line)
            if name == "append":
                await store.append(Turn(session_id, items))
            elif name == "load":
                await store.load(session_id)
            else:
                await getattr(store, name)(session_id)
            print("done", flush=True)

anyio.run(main, backend=sys.argv[2])
"""

SESSIONS = ["a", "b", "c"]
items = st.one_of(
    st.integers(),
    st.builds(lambda text: {"role": "user", "content": text}, st.text(max_size=8)),
    st.builds(lambda text: {"role": "user", "content": [{"text": text}]}, st.text(max_size=8)),
    st.just({"content": "long " * 100}),
)
calls = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(SESSIONS), st.lists(items, max_size=4)),
    st.tuples(st.sampled_from(["pop", "clear"]), st.sampled_from(SESSIONS), st.none()),
    st.tuples(st.just("load"), st.sampled_from(SESSIONS), st.none() | st.integers(0, 5)),
)


class HotLife(RuleBasedStateMachine):
    """A store that keeps what it reads, another process that writes, and whoever restores."""

    def __init__(self, backend, hot_bytes):
        super().__init__()
        self.opened = ExitStack()
        self.path = Path(self.opened.enter_context(TemporaryDirectory())) / "sessions.db"
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        self.store = SqliteSessionStore(self.path, hot_bytes=hot_bytes)
        self.portal.call(self.store.load, "a")
        self.opened.callback(self.portal.call, self.store.aclose)
        self.other = subprocess.Popen(
            [sys.executable, "-c", OTHER_PROCESS, self.path, backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.opened.enter_context(self.other)
        self.opened.callback(self.other.stdin.close)
        self.file = self.opened.enter_context(closing(sqlite3.connect(self.path)))
        self.copy = self.opened.enter_context(closing(sqlite3.connect(":memory:")))
        self.file.backup(self.copy)

    def teardown(self):
        self.opened.close()

    @rule(call=calls)
    def call_here(self, call):
        name, session_id, what = call
        if name == "append":
            self.portal.call(self.store.append, Turn(session_id, what))
        elif name == "load":
            self.agree(session_id, what)
        else:
            self.portal.call(getattr(self.store, name), session_id)

    @rule(call=calls)
    def call_in_the_other_process(self, call):
        self.other.stdin.write(json.dumps(call) + "\n")
        self.other.stdin.flush()
        assert self.other.stdout.readline() == "done\n"

    @rule()
    def back_up(self):
        self.file.backup(self.copy)

    @rule()
    def restore(self):
        self.copy.backup(self.file)

    @invariant()
    def what_is_loaded_is_what_the_file_holds(self):
        for session_id in SESSIONS[:2]:  # the last is loaded now and then, and so evicted
            self.agree(session_id, None)
            self.agree(session_id, 2)

    def agree(self, session_id, limit):
        def load():
            return self.store.load(session_id, limit=limit)

        history = self.portal.call(load)
        held = self.file.execute(
            "SELECT i.id, turn_id, item FROM memory_item AS i JOIN memory_session AS s"
            " ON i.session = s.id WHERE session_id = ? ORDER BY i.id",
            (session_id,),
        ).fetchall()
        kept = held[max(0, len(held) - limit) :] if limit is not None else held
        assert history == [json.loads(item) for _, _, item in kept]
        assert history.revision == (held[-1][0] if held else 0)
        assert history.is_cut == (len(kept) < len(held))
        turns = [(place, turn.hex()) for place, (_, turn, _) in enumerate(kept) if turn]
        assert list(history.turns) == turns
        for item in history:  # to a copy, so nothing comes of it
            if isinstance(item, dict):
                item.clear()


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(settings(max_examples=10, stateful_step_count=40), id="default"),
        pytest.param(
            settings(max_examples=200, stateful_step_count=60, derandomize=False),
            id="long",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_is_served_from_memory_is_what_the_file_holds_whoever_writes_it(
    anyio_backend, memory, size
):
    run_state_machine_as_test(
        lambda: HotLife(anyio_backend, MEMORY[memory]), settings=settings(size, deadline=None)
    )


async def test_another_file_in_its_place_is_read_anew_though_its_rows_look_the_same(tmp_path):
    path, other = tmp_path / "sessions.db", tmp_path / "other.db"
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", ["before"]))
        with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(other)) as copy:
            file.backup(copy)
            copy.execute("UPDATE memory_item SET item = '\"after\"'")
            copy.commit()
        assert await store.load("s") == ["before"]
        shutil.move(other, path)
        with pytest.raises(SessionError, match="was deleted or replaced"):
            await store.load("s")
        assert await store.load("s") == ["after"]


async def test_a_backup_that_was_restored_and_written_to_is_read_anew(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store:
        await store.append(Turn("s", [1]))
        with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(":memory:")) as copy:
            file.backup(copy)
            revision = await store.append(Turn("s", ["before"]))
            assert await store.load("s") == [1, "before"]
            copy.backup(file)
        assert await store.append(Turn("s", ["after"])) == revision
        assert await store.load("s") == [1, "after"]


async def test_handles_on_one_file_share_what_is_kept(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path) as two:
        await one.append(Turn("s", [{"type": "Message"}]))
        for store in (one, two, one):
            await store.load("s")
        hot = one._database._workers.hot
        assert hot is two._database._workers.hot
        assert len(hot._sessions) == 1


async def test_the_least_that_stores_on_one_file_allow_is_what_counts(tmp_path):
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as one, SqliteSessionStore(path, hot_bytes=0) as two:
        await one.append(Turn("s", [1]))
        for store in (two, one):
            await store.load("s")
        assert one._database._workers.hot.size == 0


async def test_items_of_a_type_that_cannot_be_told_from_others_are_kept_apart(tmp_path):
    path = tmp_path / "sessions.db"
    told = Annotated[int, []]
    with pytest.raises(TypeError, match="unhashable"):
        hash(told)
    async with (
        SqliteSessionStore(path, item_type=told) as one,
        SqliteSessionStore(path, item_type=told) as two,
    ):
        await one.append(Turn("s", [1]))
        for store in (one, two, one):
            assert await store.load("s") == [1]
        assert len(one._database._workers.hot._sessions) == 2


async def test_stores_for_other_items_keep_their_own(tmp_path):
    path = tmp_path / "sessions.db"
    item = MessageItem("1", Role.USER, "Hi", CREATED)
    async with (
        SqliteSessionStore(path, item_type=RunItem) as typed,
        SqliteSessionStore(path) as plain,
    ):
        await typed.append(Turn("s", [item]))
        for _ in range(2):
            assert await typed.load("s") == [item]
            assert type((await plain.load("s"))[0]) is dict


SHAPES = {
    "a message": lambda n: {"role": "user", "content": f"{n} " + "x" * 300},
    "characters of two bytes": lambda n: {"role": "user", "content": f"{n} \N{SNOWMAN}" * 50},
    "characters of four bytes": lambda n: {"role": "user", "content": f"{n} \N{PILE OF POO}" * 50},
    "little text": lambda n: {"role": "user", "content": f"{n}"},
    "many fields": lambda n: {f"{n} key {k}": f"{n} value {k}" for k in range(20)},
    "parts": lambda n: {"content": [{"text": f"{n} " + "x" * 300}]},
    "a number": lambda n: n + 2**60,
    "nothing": lambda n: {},
    "text": lambda n: f"{n}",
    "a run item": lambda n: MessageItem(f"{n}", Role.USER, "Hi", CREATED),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_kept_takes_no_more_memory_than_is_reckoned(shape):
    codec = ItemCodec(RunItem) if shape == "a run item" else JSON_VALUES
    encoded = codec.encode(map(SHAPES[shape], range(1000)), "s")
    tracemalloc.start()
    try:
        session = KeptSession()
        for number, raw in enumerate(encoded):
            session.add([bytes(bytearray(raw))], [TurnStart(0, f"{number:032x}")])
        as_json, reckoned = tracemalloc.get_traced_memory()[0], session.size
        session.history(1, 0, codec)
        ready, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert as_json <= reckoned
    assert ready <= session.size


@pytest.mark.parametrize("loads", [1, 2])
async def test_many_short_sessions_take_no_more_memory_than_they_may(tmp_path, loads):
    hot_bytes, count = 400_000, 1000
    path = tmp_path / "sessions.db"
    async with SqliteSessionStore(path) as store, anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(store.append, Turn(f"session {number}", [{"role": "user"}, "Hi"]))
    async with SqliteSessionStore(path, hot_bytes=hot_bytes) as store:
        await store.load("none")
        tracemalloc.start()
        try:
            for number in range(count):
                for _ in range(loads):
                    await store.load(f"session {number}")
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 0 < store._database._workers.hot.size <= hot_bytes
        assert taken <= hot_bytes


def kept(session_id, size):
    """A session that takes *size* bytes, 4 of them for the one character of its id."""
    return session_id, JSON_VALUES, HotSession(KeptSession(size=size - 4))


def test_what_was_not_used_for_longest_goes_first():
    hot = HotSessions()
    hot.put(*kept("a", 30), most=100)
    hot.put(*kept("b", 30), most=100)
    hot.put("a", JSON_VALUES, hot.take("a", JSON_VALUES), most=100)
    hot.put(*kept("c", 50), most=100)
    assert hot.size == 80
    assert [hot.take(each, JSON_VALUES) is None for each in "abc"] == [False, True, False]
    assert hot.size == 0


def test_a_session_that_is_too_long_to_be_kept_is_not():
    hot = HotSessions()
    hot.put(*kept("a", 30), most=100)
    hot.put(*kept("b", 101), most=100)
    assert hot.size == 0


@pytest.mark.parametrize(("hot_bytes", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_bytes_that_cannot_be_are_refused(hot_bytes, error):
    with pytest.raises(error, match="hot_bytes must be"):
        SqliteSessionStore("a.db", hot_bytes=hot_bytes)
