"""Random calls of a store at once, some cancelled.

Some order of whole calls explains every outcome, every revision and every history.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations, permutations
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from helpers.cancelling import by_scope, natively
from helpers.state_machines import StoresMachine, every_store, few_or_many_runs
from tower_memory import SessionConflict, Turn, UnencodableItemError


class Draft(NamedTuple):
    """A turn that expects the revision of *behind* contents ago, or any revision if it is None."""

    session_id: str
    items: list[int]
    turn_id: str
    behind: int | None


class Load(NamedTuple):
    session_id: str
    limit: int | None = None


class Pop(NamedTuple):
    session_id: str


class Clear(NamedTuple):
    session_id: str


SESSIONS = ["a", "b"]
session_ids = st.sampled_from(SESSIONS)
calls = st.one_of(
    st.builds(
        Draft,
        session_ids,
        items=st.lists(st.integers(0, 3), max_size=4),
        # Few ids, so that most are appended again.
        turn_id=st.sampled_from(["t", "u", "v", "ab" * 16]),
        behind=st.none() | st.integers(0, 2),
    ),
    st.builds(Load, session_ids, st.none() | st.integers(0, 5)),
    st.builds(Pop, session_ids),
    st.builds(Clear, session_ids),
)
CANCELLED = object()
"""The outcome of a cancelled call, which was made as a whole or not at all."""


@dataclass
class Account:
    """The state of a session that the outcomes of its calls, one after another, imply."""

    rows: tuple[tuple[str | None, int], ...] = ()  # the turn id is on the first row of a turn
    revision: int | None = 0  # None if it is not known
    # By revision, the latest last.
    contents: dict[int, Any] = field(default_factory=lambda: {0: ()})

    def after(self, outcomes):
        """Return the account after *outcomes*; raise AssertionError if they contradict it."""
        account = replace(self, contents=dict(self.contents))
        for call, outcome in outcomes:
            account.go_on(call, outcome)
        return account

    def go_on(self, call, outcome):
        match call:
            case Turn():
                self.append(call, outcome)
            case Pop():
                assert outcome in (CANCELLED, self.rows[-1][1] if self.rows else None)
                self.become(self.rows[:-1])
            case Clear():
                self.become(())
            case Load() if outcome is not CANCELLED:
                start = 0 if call.limit is None else max(0, len(self.rows) - call.limit)
                assert rows_of(outcome) == self.rows[start:]
                self.be_at(outcome.revision)

    def append(self, turn, outcome):
        held = turn.turn_id in dict(self.rows)
        if isinstance(outcome, SessionConflict):
            assert not held
            assert outcome.expected == turn.expected_revision
            assert outcome.expected not in (None, outcome.actual)
            self.be_at(outcome.actual)
            return

        if not held:
            if turn.expected_revision is not None:
                self.be_at(turn.expected_revision)
            ids = [turn.turn_id, *[None] * len(turn.items)]
            self.become((*self.rows, *zip(ids, turn.items, strict=False)))

        if outcome is not CANCELLED:
            self.be_at(outcome)

    def become(self, rows):
        if rows != self.rows:
            self.rows, self.revision = rows, None

    def be_at(self, revision):
        assert self.revision in (None, revision)
        assert (revision == 0) == (not self.rows)
        assert self.contents.pop(revision, self.rows) == self.rows
        self.contents[revision] = self.rows
        self.revision = revision


def rows_of(history):
    starts = {turn.position: turn.turn_id for turn in history.turns}
    return tuple((starts.get(position), item) for position, item in enumerate(history))


def explained(account, outcomes, last):
    """Return the account after *outcomes* in an order that explains them and then the *last*."""
    faults = []
    for order in orders(outcomes):
        try:
            return account.after([*order, last])
        except AssertionError as fault:
            faults.append(fault)
    msg = f"no order explains {outcomes} and then {last}"
    raise ExceptionGroup(msg, faults)


def orders(outcomes):
    """Yield every order of the calls, with every choice of the cancelled calls."""
    known = [each for each in outcomes if each[1] is not CANCELLED]
    cancelled = [each for each in outcomes if each[1] is CANCELLED]
    for number in range(len(cancelled) + 1):
        for made in combinations(cancelled, number):
            yield from permutations([*known, *made])


class StoreMachine(StoresMachine):
    def __init__(self, kind, backend):
        super().__init__(kind, backend)
        self.accounts = {session_id: Account() for session_id in SESSIONS}

    @rule(
        drawn=st.lists(
            st.tuples(
                st.sampled_from([0, 1]),
                calls,
                st.sampled_from([by_scope, natively]),
                st.just(0) | st.integers(1, 5),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def call(self, drawn):
        """Make calls at the same time, each cancelled at its nth suspension, 0 for never."""
        outcomes = self.portal.call(self.outcomes, drawn)
        for session_id, account in self.accounts.items():
            mine = [each for each in outcomes if each[0].session_id == session_id]
            last = self.loaded(self.stores[0], session_id)
            self.accounts[session_id] = explained(account, mine, last)

    def loaded(self, store, session_id):
        return Load(session_id), self.portal.call(store.load, session_id)

    async def outcomes(self, drawn):
        outcomes = []

        async def make(store, call, cancelled, nth):
            try:
                outcome, was_cancelled, _ = await cancelled(self.asked(store, call), nth)
            except SessionConflict as conflict:
                outcome, was_cancelled = conflict, False
            outcomes.append((call, CANCELLED if was_cancelled else outcome))

        async with anyio.create_task_group() as tasks:
            for store, call, way, nth in drawn:
                cancelled = way if self.backend == "asyncio" else by_scope
                tasks.start_soon(make, self.stores[store], self.finished(call), cancelled, nth)

        # A write waits until the store has finished the cancelled calls.
        await self.stores[0].clear("none of them")
        return outcomes

    def finished(self, call):
        if not isinstance(call, Draft):
            return call
        turn = Turn(call.session_id, call.items, turn_id=call.turn_id)
        if call.behind is None:
            return turn
        latest_first = list(self.accounts[call.session_id].contents)[::-1]
        behind = min(call.behind, len(latest_first) - 1)
        return replace(turn, expected_revision=latest_first[behind])

    async def asked(self, store, call):
        match call:
            case Turn():
                return await store.append(call)
            case Load():
                return await store.load(call.session_id, limit=call.limit)
            case Pop():
                return await store.pop(call.session_id)
            case Clear():
                return await store.clear(call.session_id)

    @rule(session_id=session_ids)
    def refuse_what_cannot_be_encoded(self, session_id):
        with pytest.raises(UnencodableItemError):
            self.portal.call(self.stores[0].append, Turn(session_id, [1, float("nan")]))

    @rule(which=st.sets(st.sampled_from([0, 1])))
    def close_and_open_again(self, which):
        for number in which:
            self.close(self.stores[number])

    @invariant()
    def all_that_was_told_is_there(self):
        for session_id, account in self.accounts.items():
            for store in self.stores:
                self.accounts[session_id] = account.after([self.loaded(store, session_id)])


@few_or_many_runs(default=40, long=500)
@every_store
def test_some_order_of_whole_calls_explains_every_outcome_of_a_store(kind, anyio_backend, size):
    run_state_machine_as_test(lambda: StoreMachine(kind, anyio_backend), settings=size)
