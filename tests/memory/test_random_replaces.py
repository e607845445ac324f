"""Random turns that add and replace, while their session is changed: a simple model predicts all.

Two memory layers on one store answer one session. A turn may be answered long after its history was
loaded; in between, other turns are saved, and the session is popped, cleared and erased.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from helpers.layers import memory_over
from helpers.locks import assert_no_lock_is_left
from helpers.messages import assistant, user
from helpers.state_machines import StoresMachine, every_store_of_memory, few_or_many_runs
from tower_memory import (
    SessionCleared,
    SessionConflict,
    SessionError,
    Turn,
    TurnExists,
    TurnMissing,
)


class ModelFailed(Exception):
    pass


@dataclass
class ModelSession:
    """What the session must be: its turns, and the steps at which it was changed."""

    turns: list[tuple[str, list[Any]]] = field(default_factory=list)
    step: int = 0
    changed: int = 0
    replaced: int = 0
    cleared: int = 0

    def change(self):
        self.step += 1
        self.changed = self.step

    def ids(self):
        return [turn_id for turn_id, _ in self.turns]

    def items(self, before=None):
        end = len(self.turns) if before is None else self.ids().index(before)
        return [item for _, items in self.turns[:end] for item in items]

    def save(self, turn_id, items, replaces):
        self.change()
        if replaces is not None:
            del self.turns[self.ids().index(replaces) :]
            self.replaced = self.step
        self.turns.append((turn_id, items))

    def pop(self):
        if self.turns:
            self.change()
            self.turns[-1][1].pop()
            if not self.turns[-1][1]:
                self.turns.pop()

    def clear(self):
        self.change()
        self.turns.clear()
        self.cleared = self.step


@dataclass(eq=False)
class Pending:
    """A call whose model has not answered."""

    number: int
    turn_id: str
    replaces: str | None
    loaded: int = 0
    seen: list[Any] | None = None
    outcome: Any = None
    fails: bool = False
    is_ordered: bool = False  # it holds the session lock
    told: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    called: anyio.Event = field(default_factory=anyio.Event)

    @property
    def reply(self):
        return f"reply {self.number}"

    @property
    def items(self):
        return [user(f"question {self.number}"), assistant(self.reply)]

    async def model(self, request):
        *self.seen, _ = request["messages"]
        self.called.set()
        await self.told.wait()
        if self.fails:
            raise ModelFailed
        return self.reply


class ReplacingMachine(StoresMachine):
    pending = Bundle("pending")

    def __init__(self, addresses, backend):
        super().__init__(addresses, backend)
        self.model = ModelSession()
        self.revisions = [0]
        self.all = []
        self.tasks = self.opened.enter_context(
            self.portal.wrap_async_context_manager(self.portal.call(anyio.create_task_group))
        )

    @rule(
        target=pending,
        replaced=st.none() | st.integers(0, 9),
        repeated=st.none() | st.none() | st.integers(0, 9),
        seen=st.sampled_from(["nothing", "now", "before"]),
        ordered=st.booleans(),
        store=st.sampled_from([0, 1]),
    )
    def start(self, replaced, repeated, seen, ordered, store):
        """Start a call: of a new turn or again, to replace a turn or not."""
        number = len(self.all)
        turn_id = f"t{number}" if repeated is None or repeated >= number else f"t{repeated}"
        replaces = None if replaced is None else f"t{replaced}"
        if replaces == turn_id:
            return multiple()

        call = Pending(number, turn_id, replaces, loaded=self.model.step)
        is_locked = any(each.is_ordered and not each.over.is_set() for each in self.all)
        call.is_ordered = ordered and not is_locked
        self.all.append(call)
        revision = {"nothing": None, "now": self.revisions[-1], "before": self.revisions[0] - 1}
        self.portal.call(self.started, call, self.stores[store], revision[seen])
        return self.check_start(call, is_outdated=seen == "before")

    async def started(self, call, store, revision):
        pair = call.replaces if revision is None or not call.replaces else (call.replaces, revision)
        memory = memory_over(
            store,
            overlap="serialize" if call.is_ordered else "append",
            turn_id=lambda _: call.turn_id,
            replaces=lambda _: pair,
            metadata=lambda _, response: {"reply": response},
        )
        self.tasks.start_soon(self.run, memory(call.model), call)
        with anyio.fail_after(60):
            while not (call.called.is_set() or call.over.is_set()):
                await anyio.lowlevel.checkpoint()

    async def run(self, service, call):
        try:
            call.outcome = await service({"messages": call.items[:1]})
        except (SessionError, ModelFailed) as error:
            call.outcome = error
        finally:
            call.over.set()

    def check_start(self, call, *, is_outdated):
        """Check what is known before the model call, or the history that the model got."""
        model = self.model
        if call.turn_id in model.ids():
            assert isinstance(call.outcome, TurnExists)
            assert list(call.outcome.items) == dict(model.turns)[call.turn_id]
        elif call.replaces is not None and is_outdated:
            assert isinstance(call.outcome, SessionConflict)
            assert call.outcome.actual == self.revisions[-1]
        elif call.replaces is not None and call.replaces not in model.ids():
            assert isinstance(call.outcome, TurnMissing)
        else:
            assert call.outcome is None
            assert call.seen == model.items(before=call.replaces)
            return call

        assert call.outcome.response is None
        assert call.seen is None
        return multiple()

    @rule(call=consumes(pending), fails=st.sampled_from([False, False, False, True]))
    def answer(self, call, fails):
        """Let the model of a call answer or fail."""
        call.fails = fails
        self.portal.call(self.answered, call)
        outcome, model = call.outcome, self.model
        if fails:
            assert isinstance(outcome, ModelFailed)
        elif call.turn_id in model.ids():
            assert isinstance(outcome, TurnExists)
            assert list(outcome.items) == dict(model.turns)[call.turn_id]
        elif model.cleared > call.loaded:
            assert isinstance(outcome, SessionCleared)
        elif call.loaded < (model.replaced if call.replaces is None else model.changed):
            assert isinstance(outcome, SessionConflict)
        else:
            assert outcome == call.reply
            model.save(call.turn_id, call.items, call.replaces)

        if isinstance(outcome, SessionError):
            assert outcome.response == call.reply
        if isinstance(outcome, (SessionCleared, SessionConflict)):
            assert list(outcome.turn.items) == call.items

    async def answered(self, call):
        call.told.set()
        with anyio.fail_after(60):
            await call.over.wait()

    @rule(store=st.sampled_from([0, 1]))
    def append(self, store):
        """Append a turn without a memory layer."""
        number = len(self.all)
        self.all.append(done := Pending(number, f"t{number}", None))
        done.over.set()
        self.portal.call(self.stores[store].append, Turn("s", done.items, turn_id=done.turn_id))
        self.model.save(done.turn_id, done.items, None)

    @rule(store=st.sampled_from([0, 1]))
    def pop(self, store):
        self.portal.call(self.stores[store].pop, "s")
        self.model.pop()

    @rule(store=st.sampled_from([0, 1]), erases=st.booleans())
    def clear(self, store, erases):
        """Clear the session, or erase it."""
        if erases:
            self.portal.call(lambda: self.stores[store].erase(session_id="s"))
        else:
            self.portal.call(self.stores[store].clear, "s")
        self.model.clear()

    @invariant()
    def the_session_is_as_the_model_says(self):
        if not hasattr(self, "model"):
            return
        history = self.portal.call(self.stores[0].load, "s")
        assert list(history) == self.model.items()
        assert [turn.turn_id for turn in history.turns] == self.model.ids()
        if history.revision != self.revisions[-1]:
            assert history.revision > self.revisions[-1]
            self.revisions.append(history.revision)

    def check_in_the_end(self):
        for call in self.all:
            if not call.over.is_set():
                self.portal.call(self.answered, call)
        self.portal.call(assert_no_lock_is_left)


@few_or_many_runs(default=5, long=1000)
@every_store_of_memory
def test_a_model_of_the_session_predicts_each_outcome(addresses, anyio_backend, size):
    run_state_machine_as_test(lambda: ReplacingMachine(addresses, anyio_backend), settings=size)
