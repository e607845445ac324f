"""The common part of the state machines of stores and of memory."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine

from helpers.processes import start_python, unmeasured
from helpers.store_calls import SERVE, make_call
from helpers.stores import open_store
from tower_memory import InMemorySessionStore


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


every_store = pytest.mark.parametrize(
    "addresses", ["in memory", "sqlite", "postgres"], indirect=True
)


every_store_of_memory = pytest.mark.parametrize(
    "addresses",
    ["in memory", "sqlite", pytest.param("postgres", marks=pytest.mark.long)],
    indirect=True,
)
"""Mark of a machine of memory layers, which know a store only by its protocol."""


class StoresMachine(RuleBasedStateMachine):
    """An event loop, and in it two stores that hold the same sessions.

    Args:
        addresses: Function that returns a context manager of an address for `open_store`, or of
            None for stores in memory.
        backend: The event loop's kind.
        has_other_process: True if another process takes the place of the second store.
    """

    def __init__(self, addresses, backend, *, has_other_process=False):
        super().__init__()
        self.backend = backend
        self.opened = ExitStack()
        self.address = self.opened.enter_context(addresses())
        if self.address is None:
            self.stores = (InMemorySessionStore(),) * 2
        else:
            self.stores = open_store(self.address), open_store(self.address)
        self.portal = self.opened.enter_context(start_blocking_portal(backend))
        for store in self.stores:
            self.opened.callback(self.close, store)
        self.other = self.start_process() if has_other_process else None

    def start_process(self):
        """Start another process that has the store open, and makes calls (`call`)."""
        other = self.opened.enter_context(
            start_python(SERVE, self.address, self.backend, env=unmeasured())
        )
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

    def scrub_at(self, place):
        """Scrub the first or the second store; a Postgres server refuses."""
        is_refused = str(self.address).startswith("postgresql:")
        expected = {"error": "SessionError"} if is_refused else None
        assert StoresMachine.call(self, place, "scrub") == expected

    def close(self, store):
        if self.address is not None:
            self.portal.call(store.aclose)

    def check_in_the_end(self):
        """Check what can be checked only after the last step."""

    def teardown(self):
        with self.opened:
            self.check_in_the_end()
