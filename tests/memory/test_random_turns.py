"""Random turns at once, some failed or cancelled.

Some order of whole turns explains every outcome, and the history that every model was given.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import anyio
from anyio.lowlevel import checkpoint
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, multiple, rule, run_state_machine_as_test

from helpers.layers import memory_over
from helpers.locks import assert_no_lock_is_left
from helpers.messages import assistant, user
from helpers.state_machines import StoresMachine, every_store_of_memory, few_or_many_runs
from tower_memory import SessionConflict, TurnExists

USES = [
    ("held", "serialize"),
    ("held", "reject"),
    ("shared", "serialize"),
    ("shared", "append"),
    ("shared", "reject"),
]
"""The sessions, and the overlap policies of their turns."""


class ModelFailed(Exception):
    pass


class Cancellation(NamedTuple):
    """A cancellation after some cycles of the event loop, by scope, or natively on asyncio."""

    cycles: int
    natively: bool


cancellations = st.builds(Cancellation, st.integers(0, 4), st.booleans())
seldom_cancelled = st.one_of(st.none(), st.none(), st.none(), cancellations)


@dataclass(eq=False)
class TrackedTurn:
    """A turn of a memory layer: its parameters, its cancellation and its outcome."""

    number: int
    session_id: str
    overlap: str
    turn_id: str | None  # given by its layer; the same request may be made again
    told: anyio.Event
    scope: anyio.CancelScope
    task: asyncio.Task[None] | None = None  # on asyncio, for native cancellation
    natively: bool = False  # True if it was cancelled natively
    fails: bool = False
    seen: list[Any] | None = None  # None if the model was not called
    answered: bool = False
    outcome: str | Exception | None = None  # None if it was cancelled
    over: anyio.Event = field(default_factory=anyio.Event)

    @property
    def reply(self):
        return f"reply {self.number}"

    @property
    def items(self):
        question = self.turn_id or f"question {self.number}"
        return (
            user(question),
            assistant(self.reply),
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
        """Return True if no task waits for the save, as it was cancelled natively."""
        return self.natively and self.answered and self.outcome is None


class MemoryMachine(StoresMachine):
    turns = Bundle("turns")

    def __init__(self, addresses, backend):
        super().__init__(addresses, backend)
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
        """Start turns at the same time, and cancel the first turn meanwhile."""
        return multiple(*self.portal.call(self.started, drawn, cancellation))

    async def started(self, drawn, cancellation):
        turns = []
        for store, use, turn_id in drawn:
            turn = TrackedTurn(len(self.taken), *use, turn_id, anyio.Event(), anyio.CancelScope())
            turns.append(turn)
            self.taken.append(turn)
            await self.tasks.start(self.take, turn, self.stores[store])
        await self.go_on(turns[0], cancellation)
        return turns

    async def take(self, turn, store, *, task_status):
        memory = memory_over(
            store,
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
        """Let models answer at the same time, or the first fail, and cancel the first turn."""
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
        """Cancel *turn* unless *cancellation* is None, then let all runnable tasks run."""
        if cancellation is not None:
            for _ in range(cancellation.cycles):
                await checkpoint()
            if cancellation.natively and turn.task:
                turn.natively |= turn.task.cancel()
            else:
                turn.scope.cancel()
        for _ in range(8):  # each call runs after the calls before it
            await self.stores[0].load("none of them")
            await self.stores[0].clear("none of them")

    def check_in_the_end(self):
        self.portal.call(self.finished)
        self.portal.call(assert_no_lock_is_left)
        for session_id in dict(USES):
            turns = [turn for turn in self.taken if turn.session_id == session_id]
            check(turns, self.portal.call(self.stores[0].load, session_id))

    async def finished(self):
        with anyio.fail_after(60):
            for turn in self.taken:
                turn.told.set()
            for turn in self.taken:
                await turn.over.wait()
        # A write waits until the store has finished the calls of cancelled turns.
        await self.stores[0].clear("none of them")


def check(turns, history):
    """Check that *history* is some order of whole turns that explains the outcomes of *turns*."""
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
            assert not in_order or turn.seen is None  # it was known before the model call
        case TurnExists(response=response, items=items):
            assert items == history.turn(turn.turn_id)
            # Otherwise it was known before the model call.
            assert turn.seen is None or turn.items[0] not in turn.seen
            assert response == (turn.reply if turn.answered else None)
            assert not is_saved
        case None:
            assert turn.natively or turn.scope.cancelled_caught
            assert not turn.answered or turn.natively
            assert turn.answered or not is_saved
        case error:
            raise error


@few_or_many_runs(default=4, long=500)
@every_store_of_memory
def test_some_order_of_whole_turns_explains_every_outcome_of_memory(addresses, anyio_backend, size):
    run_state_machine_as_test(lambda: MemoryMachine(addresses, anyio_backend), settings=size)
