"""Random lives of a store and of memory: whatever happens at once, fails or is cancelled, some order
of whole calls explains every outcome, every revision, every history, and what every model saw.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise, permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from test_cancellation import by_scope, natively

from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    SaveSession,
    SessionConflict,
    SqliteSessionStore,
    Turn,
    TurnExists,
    UnencodableItemError,
)
from tower_memory._overlap import _all_locks


def sizes(default, long):
    """Few lives, the same each time; and, with ``pytest -m long``, many, of other kinds."""
    random = settings(max_examples=long, stateful_step_count=50, derandomize=False)
    return pytest.mark.parametrize(
        "size",
        [
            pytest.param(settings(max_examples=default, stateful_step_count=25), id="default"),
            pytest.param(random, marks=pytest.mark.long, id="long"),
        ],
    )


every_store = pytest.mark.parametrize("kind", ["in memory", "sqlite"])


class Life(RuleBasedStateMachine):
    """An event loop, and two ways to the same sessions in it."""

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
        """What can be told only when all is over."""

    def teardown(self):
        with self.opened:
            self.check_in_the_end()


# The store


class Draft(NamedTuple):
    """A turn, but for its expected revision: that of so many contents ago, or None for any."""

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
        turn_id=st.sampled_from(["t", "u", "v", "ab" * 16]),  # few: most are appended again
        behind=st.none() | st.integers(0, 2),
    ),
    st.builds(Load, session_ids, st.none() | st.integers(0, 5)),
    st.builds(Pop, session_ids),
    st.builds(Clear, session_ids),
)

LOST = object()
"""The outcome of a call that was cancelled: it was made wholly, or not at all."""


@dataclass
class Account:
    """A session as the outcomes of its calls, one after another, account for it."""

    rows: tuple[tuple[str | None, int], ...] = ()  # a turn's id is on its first row
    revision: int | None = 0  # None where it is not known
    contents: dict[int, Any] = field(default_factory=lambda: {0: ()})  # the latest last

    def after(self, outcomes):
        """The account after calls with such *outcomes*; where it cannot be, AssertionError."""
        account = replace(self, contents=dict(self.contents))
        for call, outcome in outcomes:
            account.go_on(call, outcome)
        return account

    def go_on(self, call, outcome):
        match call:
            case Turn():
                self.append(call, outcome)
            case Pop():
                assert outcome in (LOST, self.rows[-1][1] if self.rows else None)
                self.become(self.rows[:-1])
            case Clear():
                self.become(())
            case Load() if outcome is not LOST:
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
        if outcome is not LOST:
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
    starts = dict(history.turns)
    return tuple((starts.get(position), item) for position, item in enumerate(history))


def explained(account, outcomes, last):
    """The account after *outcomes* in an order that explains them, and after that the *last*."""
    faults = []
    for order in orders(outcomes):
        try:
            return account.after([*order, last])
        except AssertionError as fault:
            faults.append(fault)
    msg = f"no order explains {outcomes} and then {last}"
    raise ExceptionGroup(msg, faults)


def orders(outcomes):
    """Every order of the calls, with each choice of those whose outcome was lost."""
    known = [each for each in outcomes if each[1] is not LOST]
    lost = [each for each in outcomes if each[1] is LOST]
    for number in range(len(lost) + 1):
        for made in combinations(lost, number):
            yield from permutations([*known, *made])


class StoreLife(Life):
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
        """Make calls at once, each cancelled at its nth suspension, which 0 is not."""
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
            outcomes.append((call, LOST if was_cancelled else outcome))

        async with anyio.create_task_group() as tasks:
            for store, call, way, nth in drawn:
                cancelled = way if self.backend == "asyncio" else by_scope
                tasks.start_soon(make, self.stores[store], self.finished(call), cancelled, nth)
        # A write waits for what the store still does for calls that were cancelled.
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


@sizes(default=40, long=500)
@every_store
def test_some_order_of_whole_calls_explains_whatever_a_store_goes_through(
    kind, anyio_backend, size
):
    run_state_machine_as_test(lambda: StoreLife(kind, anyio_backend), settings=size)


# Memory

USES = [
    ("held", "serialize"),
    ("held", "reject"),
    ("shared", "serialize"),
    ("shared", "append"),
    ("shared", "reject"),
]
"""Which sessions there are, and how their turns may overlap."""


class ModelFailed(Exception):
    pass


class Cancellation(NamedTuple):
    """By scope, or natively where that can be, after so many cycles of the event loop."""

    cycles: int
    natively: bool


cancellations = st.builds(Cancellation, st.integers(0, 4), st.booleans())
seldom_cancelled = st.one_of(st.none(), st.none(), st.none(), cancellations)


@dataclass(eq=False)
class Taken:
    """A turn that memory takes: what it was given, what was done to it, and what came of it."""

    number: int
    session_id: str
    overlap: str
    turn_id: str | None  # that its layer gives it; such a request may be made again
    told: anyio.Event
    scope: anyio.CancelScope
    task: asyncio.Task[None] | None = None  # where it can be cancelled natively
    natively: bool = False  # it was
    fails: bool = False
    seen: list[Any] | None = None  # None where the model was not called
    answered: bool = False
    outcome: str | Exception | None = None  # None where it was cancelled
    over: anyio.Event = field(default_factory=anyio.Event)

    @property
    def reply(self):
        return f"reply {self.number}"

    @property
    def items(self):
        question = self.turn_id or f"question {self.number}"
        return (
            {"role": "user", "content": question},
            {"role": "assistant", "content": self.reply},
        )

    async def model(self, request):
        *self.seen, _ = request["messages"]
        await self.told.wait()
        if self.fails:
            raise ModelFailed
        self.answered = True
        return self.reply

    @property
    def may_be_saved_late(self):
        """Nobody waits for the save of a turn that was cancelled natively."""
        return self.natively and self.answered and self.outcome is None


class MemoryLife(Life):
    turns = Bundle("turns")

    def __init__(self, kind, backend):
        super().__init__(kind, backend)
        self.taken = []
        self.tasks = self.opened.enter_context(
            self.portal.wrap_async_context_manager(self.portal.call(anyio.create_task_group))
        )

    @rule(
        target=turns,
        drawn=st.lists(
            st.tuples(
                st.sampled_from([0, 1]),
                st.sampled_from(USES),
                st.none() | st.sampled_from(["t", "u"]),
            ),
            min_size=1,
            max_size=3,
        ),
        cancellation=seldom_cancelled,
    )
    def start(self, drawn, cancellation):
        """Start turns at once, and cancel the first of them meanwhile."""
        return multiple(*self.portal.call(self.started, drawn, cancellation))

    async def started(self, drawn, cancellation):
        turns = []
        for store, use, turn_id in drawn:
            turn = Taken(len(self.taken), *use, turn_id, anyio.Event(), anyio.CancelScope())
            turns.append(turn)
            self.taken.append(turn)
            await self.tasks.start(self.take, turn, self.stores[store])
        await self.go_on(turns[0], cancellation)
        return turns

    async def take(self, turn, store, *, task_status):
        memory = MemoryLayer(
            LoadSession(store),
            SaveSession(store),
            session_id=turn.session_id,
            overlap=turn.overlap,
            turn_id=None if turn.turn_id is None else lambda request: turn.turn_id,
        )
        if self.backend == "asyncio":
            turn.task = asyncio.current_task()
        try:
            with turn.scope:
                task_status.started()
                turn.outcome = await memory(turn.model)({"messages": turn.items[:1]})
        except Exception as error:
            turn.outcome = error
        except asyncio.CancelledError:
            if not turn.natively:
                raise
        finally:
            turn.over.set()

    @rule(
        turn=consumes(turns),
        also=st.lists(turns, max_size=2),
        fails=st.sampled_from([False, False, False, True]),
        cancellation=st.none() | cancellations,
    )
    def answer(self, turn, also, fails, cancellation):
        """Let models answer at once, or the first fail, and cancel that turn meanwhile."""
        turn.fails = fails and not turn.told.is_set()
        self.portal.call(self.answered, [turn, *also], cancellation)

    async def answered(self, turns, cancellation):
        for turn in turns:
            turn.told.set()
        await self.go_on(turns[0], cancellation)

    @rule(turn=turns, cancellation=cancellations)
    def cancel(self, turn, cancellation):
        self.portal.call(self.go_on, turn, cancellation)

    async def go_on(self, turn, cancellation):
        """Cancel *turn* if so, then let run whatever can."""
        if cancellation is not None:
            for _ in range(cancellation.cycles):
                await checkpoint()
            if cancellation.natively and turn.task:
                turn.natively |= turn.task.cancel()
            else:
                turn.scope.cancel()
        for _ in range(8):  # each behind what the store was asked before
            await self.stores[0].load("none of them")
            await self.stores[0].clear("none of them")

    def check_in_the_end(self):
        self.portal.call(self.finished)
        assert not self.portal.call(_all_locks.get, {})
        for session_id in dict(USES):
            turns = [turn for turn in self.taken if turn.session_id == session_id]
            check(turns, self.portal.call(self.stores[0].load, session_id))

    async def finished(self):
        with anyio.fail_after(60):
            for turn in self.taken:
                turn.told.set()
            for turn in self.taken:
                await turn.over.wait()
        # A write waits for what the store still does for turns that were cancelled.
        await self.stores[0].clear("none of them")


def check(turns, history):
    """That *history* is some order of whole turns, and explains what came of all *turns*."""
    ends = [*(start.position for start in history.turns), len(history)]
    assert ends[0] == 0
    positions = {}
    for start, end in pairwise(ends):
        (saved,) = (turn for turn in turns if turn.items == history[start:end])
        assert saved not in positions
        positions[saved] = start
    in_order = not any(turn.overlap == "append" or turn.may_be_saved_late for turn in turns)
    for turn in turns:
        position = positions.get(turn)
        check_outcome(turn, history, is_saved=position is not None, in_order=in_order)
        if turn.seen is not None:
            assert turn.seen == list(history[: len(turn.seen)])
            assert len(turn.seen) in ends
            if position is not None and (in_order or turn.overlap == "reject"):
                assert len(turn.seen) == position


def check_outcome(turn, history, *, is_saved, in_order):
    match turn.outcome:
        case str():
            assert turn.outcome == turn.reply
            assert is_saved
        case ModelFailed():
            assert turn.fails
            assert not is_saved
        case SessionConflict(response=response):
            assert turn.overlap == "reject"
            assert response == (turn.reply if turn.answered else None)
            assert not is_saved
            assert not in_order or turn.seen is None  # it could be known before
        case TurnExists(response=response, items=items):
            assert items == history.turn(turn.turn_id)
            assert turn.seen is None or turn.items[0] not in turn.seen  # likewise
            assert response == (turn.reply if turn.answered else None)
            assert not is_saved
        case None:
            assert turn.natively or turn.scope.cancelled_caught
            assert not turn.answered or turn.natively
            assert turn.answered or not is_saved
        case error:
            raise error


@sizes(default=50, long=500)
@every_store
def test_some_order_of_whole_turns_explains_whatever_memory_goes_through(kind, anyio_backend, size):
    run_state_machine_as_test(lambda: MemoryLife(kind, anyio_backend), settings=size)
