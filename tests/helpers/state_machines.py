"""The common part of the state machines of stores and of memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

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
        if kind == "sqlite":
            path = Path(self.opened.enter_context(TemporaryDirectory())) / "sessions.db"
            self.stores = SqliteSessionStore(path), SqliteSessionStore(path)
        else:
            self.stores = (InMemorySessionStore(),) * 2
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        for store in self.stores:
            self.opened.callback(self.close, store)

    def close(self, store):
        if isinstance(store, SqliteSessionStore):
            self.portal.call(store.aclose)

    def check_in_the_end(self):
        """Check what can be checked only after the last step."""

    def teardown(self):
        with self.opened:
            self.check_in_the_end()
