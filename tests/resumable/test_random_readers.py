"""Random readers of random calls: they join, read, lag, leave and are cancelled, while the calls go
on, fail, are stopped, and are shut down at the end.

Each reader sees a prefix of the one stream of its call, and the saved turns are the streams.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from helpers.feeds import FedModel, asked, generated, resumable_layer, turn_id_of
from helpers.locks import assert_no_lock_is_left
from helpers.messages import INTERRUPTED_REPLY, assistant, user
from helpers.services import Boom
from helpers.state_machines import few_or_many_runs
from tower_memory import InMemorySessionStore, MemoryLayer, SaveError
from tower_memory.resumable import CallStopped, ReplyMissing, TooManyCalls

KEYS = ["k1", "k2", "k3"]
MAX_CALLS = 2
MAX_CHUNKS = 4


@dataclass(eq=False)
class Call:
    """A call of the model, as it should be."""

    key: str
    answer: anyio.Event
    feed: object = None
    chunks: list = field(default_factory=list)
    end: str | None = None  # None while it runs; "whole", "failed" or "stopped"

    @property
    def items(self):
        """The items that the session should have of this call."""
        text = "".join(self.chunks)
        if self.end == "whole":
            return [user("Hi"), assistant(text)]
        return [user("Hi"), assistant(f"{text}\n\n{INTERRUPTED_REPLY}")] if text else []


@dataclass(eq=False)
class Caller:
    """A caller, and later the reader of its stream."""

    call: Call
    scope: anyio.CancelScope | None = None
    stream: object = None
    error: Exception | None = None
    read: int = 0
    has_left: bool = False


class ReadersMachine(RuleBasedStateMachine):
    callers = Bundle("callers")

    def __init__(self, backend, wrap):
        super().__init__()
        self.opened = ExitStack()
        self.portal = self.opened.enter_context(start_blocking_portal(backend))

        # The model of the layer
        self.running = {}
        self.kept = {}
        self.calls = []
        self.waiting = []  # the callers that began before the answer

        self.wrap = wrap
        self.store = InMemorySessionStore()
        self.layer = resumable_layer(
            keep_seconds=float("inf"), max_calls=MAX_CALLS, max_chunks=MAX_CHUNKS, exit_seconds=0
        )
        memory = MemoryLayer.over(
            self.store, session_id=turn_id_of, keep_interrupted=True, journal=True
        )
        self.chat = self.layer(memory(self.ask))

        self.idle_tasks = self.portal.call(self.count_tasks)
        self.entered = ExitStack()
        self.tasks = self.enter(self.portal.call(anyio.create_task_group))
        self.enter(self.layer)

    def enter(self, manager):
        return self.entered.enter_context(self.portal.wrap_async_context_manager(manager))

    async def count_tasks(self):
        return len(anyio.get_running_tasks())

    async def ask(self, request):
        call = self.running[request["id"]]
        await call.answer.wait()
        model = FedModel(self.wrap)
        stream = await model(request)
        call.feed = model.feed
        return stream

    async def settled(self, function=None, *arguments):
        """Call *function*, and let all tasks run as far as they can."""
        result = function(*arguments) if function else None
        await anyio.wait_all_tasks_blocked()
        return result

    def settle(self, function=None, *arguments):
        return self.portal.call(self.settled, function, *arguments)

    # Callers

    @rule(target=callers, key=st.sampled_from(KEYS))
    def call(self, key):
        """Call, or join by the request."""
        call = self.running.get(key) or self.kept.get(key)
        is_new = call is None
        if is_new:
            call = Call(key, self.portal.call(anyio.Event))
            is_refused = len(self.running) == MAX_CALLS
            if not is_refused:
                self.running[key] = call
                self.calls.append(call)

        caller = Caller(call)
        self.settle(self.tasks.start_soon, self.serve, caller, self.chat, asked(key))

        if is_new and is_refused:
            assert isinstance(caller.error, TooManyCalls)
            call.end = "failed"
        else:
            self.check_answer(caller)
        return caller

    @rule(target=callers, key=st.sampled_from(KEYS))
    def join(self, key):
        """Join by the key."""
        call = self.running.get(key) or self.kept.get(key)
        caller = Caller(call or Call(key, None, end="failed"))
        self.settle(self.tasks.start_soon, self.serve, caller, self.layer.join, key)
        if call is None:
            assert isinstance(caller.error, ReplyMissing)
        else:
            self.check_answer(caller)
        return caller

    async def serve(self, caller, function, argument):
        with anyio.CancelScope() as caller.scope:
            try:
                caller.stream = await function(argument)
            except Exception as error:
                caller.error = error

    def check_answer(self, caller):
        """Check that a caller has got a stream exactly if there is one that is whole."""
        call = caller.call
        if len(call.chunks) > MAX_CHUNKS:
            assert isinstance(caller.error, ReplyMissing)
        else:
            assert caller.error is None
            assert (caller.stream is not None) == call.answer.is_set()
            if caller.stream is None:
                self.waiting.append(caller)

    @rule(caller=callers)
    def cancel(self, caller):
        """Cancel a caller, perhaps while it waits for the answer."""
        caller.has_left = caller.has_left or (caller.stream is None and caller.error is None)
        self.settle(caller.scope.cancel)

    @rule(caller=callers)
    def read(self, caller):
        """Read one chunk, if there is one; otherwise wait for it and be cancelled."""
        if caller.stream is None:
            return

        outcome = self.portal.call(self.read_one, caller.stream)
        call = caller.call
        if caller.has_left:
            assert outcome is StopAsyncIteration
        elif caller.read + MAX_CHUNKS < len(call.chunks):
            assert isinstance(outcome, ReplyMissing)
        elif caller.read < len(call.chunks):
            assert outcome == call.chunks[caller.read]
            caller.read += 1
        elif call.end is None:
            assert outcome is None
        elif call.end == "failed":
            assert isinstance(outcome, Boom if call.chunks else Boom | SaveError)
            assert not caller.stream.is_stopped
        else:
            assert outcome is StopAsyncIteration
            assert caller.stream.is_stopped == (call.end == "stopped")

    async def read_one(self, stream):
        """Read a chunk; return it, or the error, or None if there was none and it was cancelled."""
        outcome = []

        async def read():
            try:
                outcome.append(await anext(stream))
            except StopAsyncIteration:
                outcome.append(StopAsyncIteration)
            except Exception as error:
                outcome.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        return outcome[0] if outcome else None

    @rule(caller=callers)
    def leave(self, caller):
        """Close a reader."""
        if caller.stream is not None:
            caller.has_left = True
            self.portal.call(caller.stream.aclose)

    @rule(caller=consumes(callers))
    def forget(self, caller):
        """Drop a reader without closing it."""
        caller.scope = caller.stream = None

    # Calls

    def live(self, key, *, streams=True):
        call = self.running.get(key)
        return call if call is not None and call.answer.is_set() == streams else None

    @rule(key=st.sampled_from(KEYS))
    def answer(self, key):
        """Let the model return its stream."""
        if call := self.live(key, streams=False):
            self.settle(call.answer.set)

    @rule(key=st.sampled_from(KEYS), number=st.integers(1, 3))
    def produce(self, key, number):
        """Let the model send chunks."""
        if call := self.live(key):
            for _ in range(number):
                chunk = f"<{len(call.chunks)} of {self.calls.index(call)}>"
                call.chunks.append(chunk)
                self.settle(call.feed.send, chunk)

    @rule(key=st.sampled_from(KEYS))
    def finish(self, key):
        """Let the stream end."""
        if call := self.live(key):
            self.settle(call.feed.send, None)
            self.ended(call, "whole" if call.chunks else "failed")  # no dialect reads nothing

    @rule(key=st.sampled_from(KEYS))
    def fail(self, key):
        """Let the stream fail."""
        if call := self.live(key):
            self.settle(call.feed.send, Boom())
            self.ended(call, "failed")

    @rule(key=st.sampled_from(KEYS))
    def stop(self, key):
        """Stop the call, and drop the kept reply."""
        call = self.running.get(key)
        assert self.portal.call(self.layer.stop, key) == (call is not None)
        self.kept.pop(key, None)
        if call is not None:
            self.settle()
            self.ended(call, "stopped")

    def ended(self, call, end):
        call.end = end
        del self.running[call.key]
        if end == "whole":
            self.kept[call.key] = call
            while len(self.kept) > MAX_CALLS:
                del self.kept[next(iter(self.kept))]

    @invariant()
    def layer_runs_these_calls(self):
        assert self.layer.running() == tuple(self.running)

    @precondition(lambda self: self.calls)
    @invariant()
    def sessions_have_the_streams_that_have_ended(self):
        for key in KEYS:
            expected = [
                item for call in self.calls if call.key == key and call.end for item in call.items
            ]
            assert self.portal.call(self.store.load, key) == expected

    @invariant()
    def callers_of_calls_that_were_stopped_before_their_answer_know_it(self):
        for caller in self.waiting:
            is_stopped = caller.call.end == "stopped" and not caller.call.answer.is_set()
            assert isinstance(caller.error, CallStopped) == (is_stopped and not caller.has_left)

    def teardown(self):
        with self.opened:
            self.entered.close()  # leaves the layer, and then waits for all callers
            for call in tuple(self.running.values()):
                self.ended(call, "stopped")
            self.sessions_have_the_streams_that_have_ended()
            assert self.layer.running() == ()
            self.portal.call(self.check_nothing_remains)

    async def check_nothing_remains(self):
        assert_no_lock_is_left()
        assert len(anyio.get_running_tasks()) == self.idle_tasks


@few_or_many_runs(default=6, long=400)
@pytest.mark.parametrize("wrap", [None, generated], ids=["iterator", "generator"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_random_readers(size, wrap, backend):
    run_state_machine_as_test(lambda: ReadersMachine(backend, wrap), settings=size)
