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
from copy import deepcopy
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

from tower_memory import (
    InMemorySessionStore,
    MessageItem,
    Role,
    RunItem,
    SessionError,
    SqliteSessionStore,
    Turn,
)
from tower_memory._codec import ItemCodec
from tower_memory._history import TurnStart
from tower_memory._stores.kept import KeptSession
from tower_memory._stores.loads import HotSession, HotSessions
from tower_memory.dialects import ChatCompletions

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


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "It is there."}
chats = st.sampled_from([[USER], [CALLING], [RESULT], [CALLING, RESULT], [USER, CALLING, RESULT]])
ASKED = [{"role": "user", "content": "And?"}]


class ChatLife(RuleBasedStateMachine):
    """A chat whose histories are given to a dialect at any time, some after they were changed."""

    def __init__(self, backend, path):
        super().__init__()
        self.opened = ExitStack()
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        self.store = SqliteSessionStore(path, hot_bytes=2**20) if path else InMemorySessionStore()
        if path:
            self.opened.callback(self.portal.call, self.store.aclose)
        self.portal.call(self.store.clear, "s")
        self.said = []
        self.loaded = []

    def teardown(self):
        self.opened.close()

    @rule(items=chats)
    def append(self, items):
        self.portal.call(self.store.append, Turn("s", items))
        self.said += items

    @rule()
    def pop(self):
        self.portal.call(self.store.pop, "s")
        del self.said[-1:]

    @rule(limit=st.none() | st.integers(0, 5))
    def load(self, limit):
        history = self.portal.call(lambda: self.store.load("s", limit=limit))
        start = 0 if limit is None else max(0, len(self.said) - limit)
        self.loaded.append((history, deepcopy(self.said[start:])))
        assert len(history) == len(self.said) - start

    @rule(which=st.integers(0, 9), name=st.sampled_from(["role", "tool_calls"]))
    def change(self, which, name):
        if self.loaded:
            for items in self.loaded[which % len(self.loaded)]:
                for item in items:
                    item.pop(name, None) if name != "role" else item.update(role="user")

    @rule(which=st.integers(0, 9))
    def give(self, which):
        if self.loaded:
            self.agree(*self.loaded[which % len(self.loaded)])

    @invariant()
    def what_is_given_is_what_was_said(self):
        for limit in (2, None):
            history = self.portal.call(lambda limit=limit: self.store.load("s", limit=limit))
            self.agree(history, self.said[-(limit or len(self.said)) :])

    def agree(self, history, items):
        chat = ChatCompletions()
        assert chat.with_history(ASKED, history) == chat.with_history(ASKED, items)


@pytest.mark.parametrize("kind", ["in memory", "in a file"])
def test_a_model_is_given_what_the_history_is_whatever_is_remembered_of_it(
    anyio_backend, kind, tmp_path
):
    path = tmp_path / "sessions.db" if kind == "in a file" else None
    run_state_machine_as_test(
        lambda: ChatLife(anyio_backend, path),
        settings=settings(max_examples=20, stateful_step_count=40, deadline=None),
    )


async def test_what_was_popped_is_the_callers_own_too(store):
    await store.append(Turn("s", [{"role": "user", "content": "Hi"}]))
    for _ in range(3):
        history = await store.load("s")
    popped = await store.pop("s")
    popped["content"] = "Changed"
    assert history == [{"role": "user", "content": "Hi"}]


async def test_what_was_answered_later_was_not_yet_when_it_was_loaded(store):
    chat = ChatCompletions()
    await store.append(Turn("s", [USER, CALLING]))
    for _ in range(3):
        earlier = await store.load("s")
    await store.append(Turn("s", [RESULT]))
    assert chat.with_history(ASKED, await store.load("s")) == [USER, CALLING, RESULT, *ASKED]
    assert chat.with_history(ASKED, earlier) == chat.with_history(ASKED, [USER, CALLING])


async def test_what_a_check_held_for_is_not_looked_through_again(store):
    seen = []

    def check(items):
        seen.append(list(items))
        return True

    async def known():
        return (await store.load("s")).known(check)

    await store.append(Turn("s", ["a", "b"]))
    await store.load("s")  # from when on it is kept, and made ready
    await store.load("s")
    assert await known() == 2
    await store.append(Turn("s", ["c"]))
    assert [await known(), await known()] == [3, 3]
    assert seen == [["a", "b"], ["c"], []]


async def test_of_a_history_that_somebody_looked_at_nothing_is_known(store):
    await store.append(Turn("s", ["a", "b"]))
    for _ in range(3):
        history = await store.load("s")
    assert list(history) == ["a", "b"]
    assert history.known(lambda _: True) == 0


@pytest.mark.parametrize("count", [249, 250, 251, 1001])
async def test_a_session_of_any_length_is_read_whole_and_in_order(tmp_path, count):
    numbers = [[number] for number in range(count)]
    async with SqliteSessionStore(tmp_path / "sessions.db") as store:
        for start in range(0, count, 3):
            await store.append(Turn("s", numbers[start : start + 3], turn_id=f"{start}"))
        for limit in (count - 1, None, None, None, count - 1):
            history = await store.load("s", limit=limit)
            cut = 0 if limit is None else 1
            assert history == numbers[cut:]
            starts = range(3 * cut, count, 3)
            assert list(history.turns) == [(start - cut, f"{start}") for start in starts]


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
            session.add([bytes(bytearray(raw))], [TurnStart(len(session.items), f"{number:032x}")])
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
