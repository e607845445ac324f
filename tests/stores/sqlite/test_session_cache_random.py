"""Random writes in two processes, and restored backups: the session cache equals the file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import ExitStack, closing
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from helpers.messages import calling, result, user
from helpers.processes import start_python
from tower_memory import InMemorySessionStore, SqliteSessionStore, Turn, TurnInfo
from tower_memory.dialects import ChatCompletions

MEMORY = {"none": 0, "little": 3000, "the default": 32 * 2**20}
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
    st.builds(user, st.text(max_size=8)),
    st.builds(lambda text: user([{"text": text}]), st.text(max_size=8)),
    st.just({"content": "long " * 100}),
)
calls = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(SESSIONS), st.lists(items, max_size=4)),
    st.tuples(st.sampled_from(["pop", "clear"]), st.sampled_from(SESSIONS), st.none()),
    st.tuples(st.just("load"), st.sampled_from(SESSIONS), st.none() | st.integers(0, 5)),
)


class CachedStoreMachine(RuleBasedStateMachine):
    """A store with a session cache, another process on its file, and restored backups."""

    def __init__(self, backend, hot_bytes):
        super().__init__()
        self.opened = ExitStack()
        self.path = Path(self.opened.enter_context(TemporaryDirectory())) / "sessions.db"
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        self.store = SqliteSessionStore(self.path, hot_bytes=hot_bytes)
        self.portal.call(self.store.load, "a")
        self.opened.callback(self.portal.call, self.store.aclose)
        self.other = start_python(OTHER_PROCESS, self.path, backend)
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
        for session_id in SESSIONS[:2]:  # the last session is loaded rarely, so it is evicted
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

        turns = [TurnInfo(turn.hex(), place) for place, (_, turn, _) in enumerate(kept) if turn]
        assert list(history.turns) == turns

        for item in history:  # changes a copy only
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
def test_a_cached_session_equals_the_file_whichever_process_writes_it(anyio_backend, memory, size):
    run_state_machine_as_test(
        lambda: CachedStoreMachine(anyio_backend, MEMORY[memory]),
        settings=settings(size, deadline=None),
    )


USER = user("Hi")
CALLING = calling("1")
RESULT = result("1")
chats = st.sampled_from([[USER], [CALLING], [RESULT], [CALLING, RESULT], [USER, CALLING, RESULT]])
ASKED = [user("And?")]


class ChatMachine(RuleBasedStateMachine):
    """A chat whose histories are given to a dialect at any time, some with changed items."""

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
def test_a_model_is_given_the_history_itself_however_much_of_it_is_cached(
    anyio_backend, kind, tmp_path
):
    path = tmp_path / "sessions.db" if kind == "in a file" else None
    run_state_machine_as_test(
        lambda: ChatMachine(anyio_backend, path),
        settings=settings(max_examples=20, stateful_step_count=40, deadline=None),
    )
