"""The common part of the state machines of stores and of memory."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

from helpers.processes import start_python
from helpers.store_calls import SERVE, make_call
from tower_memory import InMemorySessionStore, SqliteSessionStore


def few_or_many_runs(default, long):
    """Run a state machine a few times, the same each time; with ``pytest -m long``, often and at
    random.
    """
    random = settings(max_examples=long, stateful_step_count=50, derandomize=False)
    return pytest.mark.parametrize(
        "size",
        [
            pytest.param(settings(max_examples=default, stateful_step_count=25), id="default"),
            pytest.param(random, marks=pytest.mark.long, id="long"),
        ],
    )


every_store = pytest.mark.parametrize("kind", ["in memory", "sqlite"])


class StoresMachine(RuleBasedStateMachine):
    """An event loop, and in it two stores that hold the same sessions."""

    def __init__(self, kind, backend):
        super().__init__()
        self.backend = backend
        self.opened = ExitStack()
        if kind == "in memory":
            self.stores = (InMemorySessionStore(),) * 2
        else:
            self.path = Path(self.opened.enter_context(TemporaryDirectory())) / "sessions.db"
            self.stores = SqliteSessionStore(self.path), SqliteSessionStore(self.path)
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        for store in self.stores:
            self.opened.callback(self.close, store)
        self.other = self.start_process() if kind == "two processes" else None

    def start_process(self):
        """Start another process that has the file open, and makes calls (`call`)."""
        other = self.opened.enter_context(start_python(SERVE, self.path, self.backend))
        self.opened.callback(other.stdin.close)
        assert other.stdout.readline() == "open\n"
        return other

    def call(self, place, name, **arguments):
        """Make a call of the first or the second store, or of the other process in its place."""
        if place == 1 and self.other is not None:
            self.other.stdin.write(json.dumps([name, arguments]) + "\n")
            self.other.stdin.flush()
            return json.loads(self.other.stdout.readline())
        return self.portal.call(lambda: make_call(self.stores[place], name, **arguments))

    def close(self, store):
        if isinstance(store, SqliteSessionStore):
            self.portal.call(store.aclose)

    def check_in_the_end(self):
        """Check what can be checked only after the last step."""

    def teardown(self):
        with self.opened:
            self.check_in_the_end()
