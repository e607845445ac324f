"""Random calls of a store at once, some cancelled.

Some order of whole calls explains every outcome, every revision and every history.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from helpers.cancelling import by_scope, natively
from helpers.state_machines import StoresMachine, every_store, few_or_many_runs
from tower_memory import (
    Erasure,
    SessionCleared,
    SessionConflict,
    SessionError,
    Turn,
    TurnMissing,
    UnencodableItemError,
)


class Draft(NamedTuple):
    """A turn; *behind* and *since* are numbers of contents ago, or None for any revision."""

    session_id: str
    items: list[int]
    turn_id: str
    metadata: dict[str, int] | None
    behind: int | None
    since: int | None
    replaces: str | None


class Load(NamedTuple):
    session_id: str
    limit: int | None = None
    before: str | int | None = None


class Pop(NamedTuple):
    session_id: str


class Clear(NamedTuple):
    session_id: str


class Erase(NamedTuple):
    """*hours* from now is the time since which a session must be inactive."""

    session_id: str
    parameter: str
    hours: int | None

    def parameters(self):
        since = None if self.hours is None else datetime.now(UTC) + timedelta(hours=self.hours)
        return {self.parameter: self.session_id, "inactive_since": since}


SESSIONS = ["a", "b"]
session_ids = st.sampled_from(SESSIONS)
turn_ids = st.sampled_from([*"tuvwx", "ab" * 16])  # few, so that many are appended again
ago = st.none() | st.integers(0, 2)
calls = st.one_of(
    st.builds(
        Draft,
        session_ids,
        items=st.lists(st.integers(0, 3), max_size=4),
        turn_id=turn_ids,
        metadata=st.none() | st.dictionaries(st.just("n"), st.integers(0, 3)),
        behind=ago,
        since=ago,
        replaces=st.none() | turn_ids,
    ),
    st.builds(
        Load,
        session_ids,
        st.none() | st.integers(0, 5),
        st.none() | st.integers(0, 8) | turn_ids,
    ),
    st.builds(Pop, session_ids),
    st.builds(Clear, session_ids),
    st.builds(
        Erase,
        session_ids,
        st.sampled_from(["session_id", "prefix"]),
        st.sampled_from([None, None, 1, -1]),
    ),
)
CANCELLED = object()
"""The outcome of a cancelled call, which was made as a whole or not at all."""


class Stored(NamedTuple):
    """A turn of an account."""

    turn_id: str
    items: tuple[int, ...]
    metadata: dict[str, int]


@dataclass
class Account:
    """The state of a session that the outcomes of its calls, one after another, imply."""

    turns: tuple[Stored, ...] = ()
    exists: bool = False
    revision: int | None = 0  # None if it is not known
    cleared_after: int = -1  # the highest revision known when the session was last cleared
    replaced_after: int = -1  # the same of the last replacement of turns
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
                self.pop(outcome)
            case Clear():
                self.gone()
            case Erase():
                self.erase(call, outcome)
            case Load() if outcome is not CANCELLED:
                self.load(call, outcome)

    def held(self, turn_id):
        return turn_id in [turn.turn_id for turn in self.turns]

    def index(self, turn_id):
        return [turn.turn_id for turn in self.turns].index(turn_id)

    def items(self):
        return [item for turn in self.turns for item in turn.items]

    def append(self, turn, outcome):
        if self.held(turn.turn_id):
            assert not isinstance(outcome, SessionError)
            self.be_at_unless_cancelled(outcome)
            return

        is_cleared = turn.since is not None and turn.since <= self.cleared_after
        assert isinstance(outcome, SessionCleared) == is_cleared
        if is_cleared:
            return

        if isinstance(outcome, SessionConflict) and outcome.expected is None:
            assert turn.since is not None
            assert turn.since <= self.replaced_after
            return
        assert turn.since is None or turn.since > self.replaced_after

        if isinstance(outcome, SessionConflict):
            assert outcome.expected == turn.expected_revision != outcome.actual
            self.be_at(outcome.actual)
            return
        if turn.expected_revision is not None:
            self.be_at(turn.expected_revision)

        is_missing = turn.replaces is not None and not self.held(turn.replaces)
        assert isinstance(outcome, TurnMissing) == is_missing
        if is_missing:
            assert outcome.turn_id == turn.replaces
            return
        self.add(turn)
        self.be_at_unless_cancelled(outcome)

    def add(self, turn):
        before = self.turns
        if turn.replaces is not None:
            before = before[: self.index(turn.replaces)]
            self.replaced_after = max(self.contents)
        if turn.items or turn.replaces is not None:
            added = Stored(turn.turn_id, turn.items, turn.metadata or {})
            self.become((*before, added))

    def pop(self, outcome):
        items = self.items()
        assert outcome in (CANCELLED, items[-1] if items else None)
        if not items:
            return
        newest = max(n for n, turn in enumerate(self.turns) if turn.items)
        shorter = self.turns[newest]._replace(items=self.turns[newest].items[:-1])
        self.become((*self.turns[:newest], *([shorter] if shorter.items else [])))

    def gone(self):
        """Become empty, whatever the session was; no turn in progress comes after."""
        self.cleared_after = max(self.contents)
        exists = self.exists
        self.become(())
        self.exists = exists

    def erase(self, call, outcome):
        if call.hours is not None and not (self.exists and call.hours > 0):
            assert outcome in (CANCELLED, Erasure(0, 0, 0))
            return

        numbers = int(self.exists), len(self.turns), len(self.items())
        assert outcome in (CANCELLED, Erasure(*numbers))
        if self.exists or call.parameter == "session_id":
            self.gone()
            self.exists = False

    def load(self, call, outcome):
        if isinstance(outcome, TurnMissing):
            assert call.before == outcome.turn_id
            assert not self.held(call.before)
            return

        items = self.items()
        end = len(items)
        if isinstance(call.before, str):
            assert self.held(call.before)
            end = sum(len(turn.items) for turn in self.turns[: self.index(call.before)])
        elif call.before is not None:
            end = min(call.before, end)
        start = 0 if call.limit is None else max(0, end - call.limit)

        assert list(outcome) == items[start:end]
        assert (outcome.session_id, outcome.offset) == (call.session_id, start)
        assert outcome.is_cut == (start > 0)
        found = [(turn.turn_id, turn.position, dict(turn.metadata)) for turn in outcome.turns]
        assert found == ([] if call.limit == 0 else self.listed(start, end, call.before))
        self.be_at(outcome.revision)

    def listed(self, start, end, before):
        """Return the turns that a history from *start* to *end* lists."""
        listed, place = [], 0
        for turn in self.turns:
            if turn.turn_id == before:
                break
            if turn.items:
                is_in = start <= place < end
            else:  # it belongs to the item before it, or to the start of the session
                is_in = start < place <= end or place == start == 0
            if is_in:
                listed.append((turn.turn_id, place - start, turn.metadata))
            place += len(turn.items)
        return listed

    def become(self, turns):
        self.turns, self.exists, self.revision = turns, True, None

    def be_at_unless_cancelled(self, outcome):
        if outcome is not CANCELLED:
            self.be_at(outcome)

    def be_at(self, revision):
        assert self.revision in (None, revision)
        if self.revision is None:
            assert revision > max(self.contents)  # so it was never used
        self.contents[revision] = self.turns
        self.revision = revision


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
    def __init__(self, addresses, backend):
        super().__init__(addresses, backend)
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
            except (SessionConflict, SessionCleared, TurnMissing) as error:
                outcome, was_cancelled = error, False
            outcomes.append((call, CANCELLED if was_cancelled else outcome))

        async with anyio.create_task_group() as tasks:
            for store, call, way, nth in drawn:
                cancelled = way if self.backend == "asyncio" else by_scope
                tasks.start_soon(make, self.stores[store], self.finished(call), cancelled, nth)

        # A write waits until its store has finished the cancelled calls.
        for store in self.stores:
            await store.clear("none of them")
        return outcomes

    def finished(self, call):
        if not isinstance(call, Draft):
            return call
        replaces = None if call.replaces == call.turn_id else call.replaces
        behind = 0 if replaces is not None and call.behind is None else call.behind
        return Turn(
            call.session_id,
            call.items,
            turn_id=call.turn_id,
            metadata=call.metadata,
            expected_revision=self.revision(call.session_id, behind),
            since=self.revision(call.session_id, call.since),
            replaces=replaces,
        )

    def revision(self, session_id, behind):
        """Return the revision of *behind* contents ago."""
        if behind is None:
            return None
        latest_first = list(self.accounts[session_id].contents)[::-1]
        return latest_first[min(behind, len(latest_first) - 1)]

    async def asked(self, store, call):
        match call:
            case Turn():
                return await store.append(call)
            case Load():
                return await store.load(call.session_id, limit=call.limit, before=call.before)
            case Pop():
                return await store.pop(call.session_id)
            case Clear():
                return await store.clear(call.session_id)
            case Erase():
                return await store.erase(**call.parameters())

    @rule()
    def scrub(self):
        """Change nothing."""
        self.scrub_at(0)

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


@few_or_many_runs(default=5, long=500)
@every_store
def test_some_order_of_whole_calls_explains_every_outcome_of_a_store(
    addresses, anyio_backend, size
):
    run_state_machine_as_test(lambda: StoreMachine(addresses, anyio_backend), settings=size)
