"""Random calls of two stores or processes on one file or database, and restored backups.

Whatever the session cache keeps, each load shows the stored rows, and these are what the calls made
them.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from copy import deepcopy
from typing import Annotated, Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from helpers.messages import calling, result, user
from helpers.processes import start_python, unmeasured
from helpers.store_calls import SERVE, ModelSession, ModelTurn, make_call
from helpers.stores import open_contents, open_store
from tower_memory import InMemorySessionStore, SqliteSessionStore, Turn
from tower_memory.dialects import ChatCompletions

MEMORY = {"none": 0, "little": 6000, "the default": 32 * 2**20}
SESSIONS = ["a", "b", "b c"]

items = st.one_of(
    st.integers(0, 9),
    st.builds(user, st.text(max_size=4)),
    st.builds(lambda text: user([{"text": text}]), st.text(max_size=4)),
    st.just({"content": "long " * 100}),
)
session_ids = st.sampled_from(SESSIONS)
places = st.integers(0, 1)
limits = st.none() | st.integers(0, 6)


CALLS = [
    *["append", "pop", "load", "load_before_a_turn"] * 4,
    *["replace", "begin_a_turn", "end_a_turn"] * 2,
    *["append_a_held_turn_again", "append_nothing", "clear", "erase", "erase_a_prefix"],
    *["scrub", "back_up", "restore"],
]


class TwoStoresMachine(RuleBasedStateMachine):
    """A store with a session cache, another store or process on its address, and a model."""

    def __init__(self, addresses, backend, hot_bytes, *, has_other_process):
        super().__init__()
        self.opened = ExitStack()
        address = self.opened.enter_context(addresses())
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        self.stores = [open_store(address, hot_bytes=hot_bytes)]
        if has_other_process:
            self.portal.call(self.stores[0].load, "a")
            self.other = start_python(SERVE, address, backend, env=unmeasured())
            self.opened.enter_context(self.other)
            self.opened.callback(self.other.stdin.close)
            assert self.other.stdout.readline() == "open\n"
        else:
            # Another item type, so it has cached sessions of its own.
            other_type = Annotated[Any, "other"]
            self.stores.append(open_store(address, item_type=other_type))
            self.portal.call(self.stores[1].load, "a")
        for store in self.stores:
            self.opened.callback(self.portal.call, store.aclose)

        self.contents = self.opened.enter_context(closing(open_contents(address)))
        self.sessions = {}
        self.begun = []  # turns in progress: session, revision, and the error of their append
        self.revisions = {}  # the last revision of each session
        self.count = 0
        self.back_up()

    def teardown(self):
        self.opened.close()

    def call(self, place, name, **arguments):
        if place < len(self.stores):
            return self.portal.call(lambda: make_call(self.stores[place], name, **arguments))
        self.other.stdin.write(json.dumps([name, arguments]) + "\n")
        self.other.stdin.flush()
        return json.loads(self.other.stdout.readline())

    def model(self, session_id):
        return self.sessions.get(session_id, ModelSession())

    def change(self, session_id, kind):
        """Let each turn in progress fail that *kind* of a change refuses."""
        for turn in self.begun:
            if turn["session_id"] == session_id and turn["error"] != "SessionCleared":
                turn["error"] = kind

    def turn(self, session_id, drawn):
        self.count += 1
        turn_id = f"{self.count:032x}" if self.count % 2 else f"turn {self.count}"
        return ModelTurn(turn_id, drawn, {"n": [self.count]} if self.count % 3 == 0 else {})

    def append_to_model(self, session_id, turn):
        self.sessions.setdefault(session_id, ModelSession()).turns.append(deepcopy(turn))

    @rule(
        name=st.sampled_from(CALLS),
        place=places,
        session_id=session_ids,
        which=st.integers(0, 9),
        drawn=st.lists(items, min_size=1, max_size=4),
        limit=limits,
    )
    def step(self, name, **drawn):
        # One rule, because Hypothesis leaves out most of many rules in each run.
        getattr(self, name)(**drawn)

    def append(self, place, session_id, drawn, **_):
        turn = self.turn(session_id, drawn)
        revision = self.call(place, "append", session_id=session_id, **vars(turn))
        if drawn:
            assert revision > self.revisions.get(session_id, 0)
            self.append_to_model(session_id, turn)

    def append_nothing(self, place, session_id, **_):
        self.append(place, session_id, [])

    def replace(self, place, session_id, which, drawn, **_):
        drawn = drawn[: which % 3]
        turns = self.model(session_id).turns
        replaced = which % len(turns) if turns else None
        turn = self.turn(session_id, drawn)
        outcome = self.call(
            place,
            "append",
            session_id=session_id,
            **vars(turn),
            replaces="none" if replaced is None else turns[replaced].turn_id,
        )
        if replaced is None:
            assert outcome == {"error": "TurnMissing"}
            return
        assert outcome > self.revisions.get(session_id, 0)
        del turns[replaced:]
        self.append_to_model(session_id, turn)
        self.change(session_id, "SessionConflict")

    def append_a_held_turn_again(self, place, session_id, which, **_):
        turns = self.model(session_id).turns
        if turns:
            held = turns[which % len(turns)].turn_id
            again = self.call(place, "append", session_id=session_id, items=["again"], turn_id=held)
            assert again == self.contents.revision(session_id)

    def pop(self, place, session_id, **_):
        assert self.call(place, "pop", session_id=session_id) == self.model(session_id).pop()

    def clear(self, place, session_id, **_):
        self.call(place, "clear", session_id=session_id)
        self.model(session_id).turns.clear()
        self.change(session_id, "SessionCleared")

    def erase(self, place, session_id, **_):
        erased = self.call(place, "erase", session_id=session_id)
        assert tuple(erased) == self.forgotten([session_id])
        self.change(session_id, "SessionCleared")

    def erase_a_prefix(self, place, which, **_):
        prefix = "b" if which else ""
        named = [each for each in self.sessions if each.startswith(prefix)]
        for session_id in named:
            self.change(session_id, "SessionCleared")
        assert tuple(self.call(place, "erase", prefix=prefix)) == self.forgotten(named)

    def forgotten(self, session_ids):
        """Remove sessions from the model, and return the numbers of what was removed."""
        gone = [self.sessions.pop(each) for each in session_ids if each in self.sessions]
        turns = [turn for session in gone for turn in session.turns]
        return len(gone), len(turns), sum(len(turn.items) for turn in turns)

    def begin_a_turn(self, place, session_id, **_):
        revision = self.call(place, "load", session_id=session_id, limit=0)["revision"]
        self.begun.append({"session_id": session_id, "since": revision, "error": None})

    def end_a_turn(self, place, which, drawn, **_):
        if not self.begun:
            return
        begun = self.begun.pop(which % len(self.begun))
        turn = self.turn(begun["session_id"], drawn)
        outcome = self.call(
            place, "append", session_id=begun["session_id"], since=begun["since"], **vars(turn)
        )
        if begun["error"] is not None:
            assert outcome == {"error": begun["error"]}
        else:
            assert isinstance(outcome, int)
            self.append_to_model(begun["session_id"], turn)

    def load(self, place, session_id, limit, which, **_):
        self.agree(place, session_id, limit, None if which > 6 else which)

    def load_before_a_turn(self, place, session_id, limit, which, **_):
        turns = self.model(session_id).turns
        before = turns[which % len(turns)].turn_id if turns else "none"
        self.agree(place, session_id, limit, before)

    def scrub(self, place, **_):
        self.call(place, "scrub")

    def back_up(self, **_):
        self.contents.back_up()
        self.backup = deepcopy(self.sessions)

    def restore(self, **_):
        self.contents.restore()
        self.sessions = deepcopy(self.backup)
        self.begun.clear()
        self.revisions.clear()

    @invariant()
    def each_load_shows_the_stored_rows(self):
        for session_id in SESSIONS[:2]:  # the last session is loaded rarely, so it is evicted
            self.agree(0, session_id, None, None)
            self.agree(0, session_id, 2, None)
        self.agree(1, "a", None, None)

    def agree(self, place, session_id, limit, before):
        loaded = self.call(place, "load", session_id=session_id, limit=limit, before=before)
        expected = self.model(session_id).load(limit, before)
        if expected is None:
            assert loaded == {"error": "TurnMissing"}
            return

        revision = loaded.pop("revision")
        assert loaded == expected
        stored = self.contents.revision(session_id)
        assert (stored is not None) == (session_id in self.sessions)
        assert stored in (None, revision)
        assert revision >= self.revisions.get(session_id, 0)
        self.revisions[session_id] = revision


def run_machine(addresses, backend, memory, size, **parameters):
    run_state_machine_as_test(
        lambda: TwoStoresMachine(addresses, backend, MEMORY[memory], **parameters),
        settings=settings(size, deadline=None),
    )


# The cache awaits nothing, so each of its sizes needs a single runtime.
every_memory = pytest.mark.parametrize(
    ("memory", "anyio_backend"),
    [
        ("none", "asyncio"),
        pytest.param("none", "trio", marks=pytest.mark.long),
        pytest.param("little", "asyncio", marks=pytest.mark.long),
        ("little", "trio"),
        ("the default", "asyncio"),
        pytest.param("the default", "trio", marks=pytest.mark.long),
    ],
)


def few_or_many(examples, long):
    return pytest.mark.parametrize(
        "size",
        [
            pytest.param(settings(max_examples=examples, stateful_step_count=40), id="default"),
            pytest.param(
                settings(max_examples=long, stateful_step_count=60, derandomize=False),
                id="long",
                marks=pytest.mark.long,
            ),
        ],
    )


on_sqlite = pytest.mark.parametrize("addresses", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("addresses", ["postgres"], indirect=True)


@every_memory
@few_or_many(examples=2, long=200)
@on_sqlite
def test_a_load_shows_the_file_whichever_process_has_written_it(
    addresses, anyio_backend, memory, size
):
    run_machine(addresses, anyio_backend, memory, size, has_other_process=True)


@every_memory
@few_or_many(examples=5, long=1000)
@on_sqlite
def test_a_load_shows_the_file_whichever_store_has_written_it(
    addresses, anyio_backend, memory, size
):
    run_machine(addresses, anyio_backend, memory, size, has_other_process=False)


@pytest.mark.parametrize(
    "memory",
    ["little", *(pytest.param(each, marks=pytest.mark.long) for each in ("none", "the default"))],
)
@few_or_many(examples=2, long=200)
@on_postgres
def test_a_load_shows_the_database_whichever_process_has_written_it(
    addresses, anyio_backend, memory, size
):
    run_machine(addresses, anyio_backend, memory, size, has_other_process=True)


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
@few_or_many(examples=4, long=500)
def test_a_model_is_given_the_history_itself_however_much_of_it_is_cached(
    anyio_backend, kind, tmp_path, size
):
    path = tmp_path / "sessions.db" if kind == "in a file" else None
    run_state_machine_as_test(
        lambda: ChatMachine(anyio_backend, path),
        settings=settings(size, deadline=None),
    )
