"""Random conversations, changes and searches: an index never changes the hits of a search."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from helpers.internals import search_words, turn_text
from helpers.search import check_index, extra_text, has_index
from helpers.sqlite_internals import build_one_step, index_at_most_one_turn
from helpers.state_machines import few_or_many_runs
from tower_memory import InMemorySessionStore, SqliteSessionStore, Turn

WORDS = [
    "alpha",
    "beta",
    "Stra\u00dfe",
    "caf\u00e9",
    "\u6771\u4eac\u90fd",
    "\u0e44\u0e17\u0e22",
    "x" * 300,
]
QUERIES = [
    "ALPHA",
    "beta alpha",
    "strasse",
    "cafe\u0301",
    "\u4eac\u90fd",
    "\u6771\u90fd",
    "\u0e44\u0e17\u0e22",
    "x" * 255,
]
SESSIONS = ["a", "ab", "b"]

texts = st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join)


def to_item(text):
    """Draw an item of any dialect whose text has *text*, or where *text* is no text."""
    return st.sampled_from(
        [
            {"role": "user", "content": text},
            {"role": "user", "content": [{"type": "text", "text": text}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": text}]},
            {"role": "tool", "tool_call_id": "1", "content": text},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "1", "input": {"a": text}}],
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": text}],
            },
            {"type": "function_call_output", "call_id": text, "output": text},
            {"role": "model", "parts": [{"text": text}, {"functionCall": {"name": text}}]},
            {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": text}]},
            {"type": "Message", "role": "user", "content": text, "extra": "beta"},
            {"type": "custom", "extra": text},
            text,
            [text],
        ]
    )


turns = st.lists(texts.flatmap(to_item), max_size=3)
sessions = st.sampled_from(SESSIONS)


class SearchMachine(RuleBasedStateMachine):
    """Two stores with the same sessions, and searches that are compared with all loaded turns."""

    def __init__(self, kind, backend):
        super().__init__()
        self.opened = ExitStack()
        self.path = None
        if kind == "in memory":
            self.stores = (InMemorySessionStore(text_of=extra_text),) * 2
        else:
            self.path = Path(self.opened.enter_context(TemporaryDirectory())) / "sessions.db"
            self.stores = (
                SqliteSessionStore(self.path, text_of=extra_text, search_index=kind == "index"),
                SqliteSessionStore(self.path, text_of=extra_text),
            )
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        for store in self.stores if self.path else ():
            self.opened.callback(self.portal.call, store.aclose)

    def call(self, function, *arguments, **parameters):
        return self.portal.call(partial(function, *arguments, **parameters))

    @rule(store=st.sampled_from([0, 1]), session=sessions, items=turns)
    def append(self, store, session, items):
        self.call(self.stores[store].append, Turn(session, items))

    @rule(store=st.sampled_from([0, 1]), session=sessions)
    def pop(self, store, session):
        self.call(self.stores[store].pop, session)

    @rule(store=st.sampled_from([0, 1]), session=sessions, items=turns, number=st.integers(0, 9))
    def replace(self, store, session, items, number):
        history = self.call(self.stores[store].load, session)
        if history.turns:
            replaced = history.turns[number % len(history.turns)].turn_id
            turn = Turn(session, items, replaces=replaced, expected_revision=history.revision)
            self.call(self.stores[store].append, turn)

    @rule(store=st.sampled_from([0, 1]), session=sessions)
    def clear(self, store, session):
        self.call(self.stores[store].clear, session)

    @rule(store=st.sampled_from([0, 1]), session=sessions)
    def erase(self, store, session):
        self.call(self.stores[store].erase, session_id=session)

    @rule(store=st.sampled_from([0, 1]), session=sessions, number=st.integers(0, 9))
    def fork(self, store, session, number):
        turns = self.call(self.stores[store].load, session).turns
        if turns:
            before = [None, *(turn.turn_id for turn in turns)][number % (len(turns) + 1)]
            new = f"{session} fork {self.call(self.stores[store].describe, session).revision}"
            if self.call(self.stores[store].describe, new) is None:
                self.call(self.stores[store].fork, session, new, before=before)

    @rule()
    def build(self):
        if self.path:
            self.call(self.stores[1].load, "a")
            self.call(build_one_step, self.stores[1])

    @rule()
    def scrub(self):
        self.call(self.stores[1].scrub)

    @rule(
        store=st.sampled_from([0, 1]),
        query=st.sampled_from(QUERIES),
        prefix=st.sampled_from(["", "a", "ab"]),
        limit=st.integers(1, 9),
    )
    def search(self, store, query, prefix, limit):
        expected = self.call(self.scan, self.stores[store], query, prefix)
        found, after = [], None
        while True:
            page = self.call(
                self.stores[store].search, query, prefix=prefix, limit=limit, after=after
            )
            found += [(hit.created_at, hit.session_id, hit.turn_id) for hit in page]
            assert len(page) == limit or page.next is None
            if (after := page.next) is None:
                break
        assert sorted(found) == sorted(expected)
        times = [time for time, _, _ in found]
        assert times == sorted(times, reverse=True)

    async def scan(self, store, query, prefix):
        """Return the turns that have all words of *query*, from loads of all sessions."""
        found = []
        for info in await store.sessions(limit=1000):
            history = await store.load(info.session_id)
            ends = [*(turn.position for turn in history.turns[1:]), len(history)]
            for turn, end in zip(history.turns, ends, strict=False):
                items = history[turn.position : end]
                text = "\n".join([turn_text(items), *(extra_text(item) or "" for item in items)])
                if search_words(query) <= search_words(text):
                    found.append((turn.created_at, info.session_id, turn.turn_id))
        return [each for each in found if each[1].startswith(prefix)]

    @invariant()
    def index_is_right(self):
        if self.path and has_index(self.path):
            check_index(self.path)

    def teardown(self):
        self.opened.close()


@few_or_many_runs(default=3, long=300)
@pytest.mark.parametrize("kind", ["in memory", "scan", "index"])
def test_a_search_finds_what_a_scan_of_all_turns_finds(kind, anyio_backend, size, monkeypatch):
    index_at_most_one_turn(monkeypatch)
    run_state_machine_as_test(partial(SearchMachine, kind, anyio_backend), settings=size)
