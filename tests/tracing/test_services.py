"""The spans and the metrics of services, without streams."""

from __future__ import annotations

import gc
from contextvars import copy_context

import anyio
import pytest
from msgspec import json
from opentelemetry.metrics import Meter
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode, get_current_span

from helpers.internals import SyncServiceError, checked_length
from helpers.layers import memory_over
from helpers.messages import user
from helpers.processes import run_python
from helpers.services import Boom, must_not_be_called, repeat_last
from helpers.telemetry import RecordedTelemetry
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    RetryLayer,
    SaveSession,
    ScopedStore,
    SessionConflict,
    SessionError,
    TimeoutLayer,
    Turn,
)
from tower_memory.testing import ScriptedService
from tower_memory.tracing import TracedStore, TracingLayer
from tower_memory.windows import LastItems

SECRET = "my secret, 4711"


@pytest.fixture
def store():
    return InMemorySessionStore()


def size(*items):
    return sum(len(json.encode(item)) for item in items)


# The spans


async def test_the_spans_of_a_turn_nest_under_the_span_of_its_caller(store, recorded):
    async def ask(messages):
        with recorded.tracer.start_as_current_span("other client"):
            return "Hello"

    chat = recorded.layer(recorded.memory(store)(recorded.layer(ask)))
    with recorded.tracer.start_as_current_span("other framework"):
        assert await chat([user("Hi")]) == "Hello"
    parents = {name: recorded.parent(name) for name in recorded.names}
    assert parents == {
        "load": "turn",
        "other client": "call",
        "call": "turn",
        "save": "turn",
        "turn": "other framework",
        "other framework": None,
    }


async def test_the_spans_have_ids_and_counts(store, recorded):
    await store.append(Turn("s", [user("a"), user("bc"), user("def")]))
    chat = recorded.memory(store, turn_id=lambda _: "t2", window=LastItems(1))(repeat_last)
    await recorded.layer(chat)([user("g")])

    items = await store.load("s")
    session = {"gen_ai.conversation.id": "s", "outcome": "ok"}
    turn = {**session, "turn.id": "t2", "items": 2, "revision": items.revision}
    read = {"limit": 2, "items": 2, "revision": 1, "bytes": size(*items[1:3])}
    assert recorded.attributes("load") == {**session, **read}
    assert recorded.attributes("save") == {**turn, "bytes": size(*items[3:])}
    assert recorded.attributes("turn") == turn


async def test_the_limit_is_the_smaller_one_of_service_and_window(store, recorded):
    load = recorded.layer(LoadSession(store, limit=3))
    await load("s")
    assert recorded.attributes("load")["limit"] == 3


async def test_a_call_of_any_other_service_shows_nothing_of_its_request_and_reply(recorded):
    assert await recorded.layer(ScriptedService("a reply"))("a request") == "a reply"
    assert recorded.attributes("call") == {"outcome": "ok"}
    assert recorded.span("call").kind.name == "INTERNAL"


async def test_services_are_found_inside_other_layers(store, recorded):
    layers = [TimeoutLayer(60), RetryLayer(on=ConnectionError), recorded.layer]
    for layer in layers:
        await recorded.layer(layer(SaveSession(store)))(Turn("s", [user("a")]))
        await recorded.layer(layer(LoadSession(store)))("s")
        await recorded.layer(layer(memory_over(store)(repeat_last)))([user("a")])
    assert [*map(recorded.names.count, ("save", "load", "turn"))] == [4, 4, 4]


def test_the_store_behind_a_traced_save_is_found(store, recorded):
    assert recorded.memory(store).store is store


async def test_the_function_of_the_session_is_called_once(store, recorded):
    ids = ["only once"]
    chat = recorded.traced_memory(store, session_id=lambda _: ids.pop())(repeat_last)
    await chat([user("a")])
    assert recorded.attributes("turn")["gen_ai.conversation.id"] == "only once"


async def test_a_turn_that_fails_has_its_session_and_no_turn(store, recorded):
    with pytest.raises(Boom):
        await recorded.traced_memory(store)(ScriptedService(Boom()))([user("a")])
    failed = {"gen_ai.conversation.id": "s", "outcome": "error", "error.type": "Boom"}
    assert recorded.attributes("turn") == failed


async def test_a_turn_inside_a_turn_does_not_take_over_its_span(store, recorded):
    inner = memory_over(store, "inner")(repeat_last)
    await recorded.traced_memory(store, session_id="outer", turn_id=lambda _: "t1")(inner)(
        [user("a")]
    )
    assert recorded.attributes("turn")["gen_ai.conversation.id"] == "outer"
    assert recorded.attributes("turn")["turn.id"] == "t1"


@pytest.mark.parametrize("session_id", ["outer", "inner"])
async def test_a_turn_that_fails_has_no_turn_of_a_call_inside_it(store, recorded, session_id):
    """The session of the call inside may have the same id, in another store."""
    inner = memory_over(InMemorySessionStore(), session_id)(repeat_last)

    async def fail(messages):
        await inner(messages)
        raise Boom

    with pytest.raises(Boom):
        await recorded.traced_memory(store, session_id="outer")(fail)([user("a")])
    assert "turn.id" not in recorded.attributes("turn")


async def test_a_memory_without_a_tracing_layer_around_it_reports_to_none(store, recorded):
    await memory_over(store)(recorded.layer(repeat_last))([user("a")])
    assert recorded.attributes("call") == {"outcome": "ok"}


# Failures


async def test_a_refused_turn_has_the_class_of_its_error_and_no_text(store, recorded):
    await store.append(Turn("s", [user("a")]))
    with pytest.raises(SessionConflict):
        await recorded.layer(SaveSession(store))(Turn("s", [user("b")], expected_revision=7))

    span = recorded.span("save")
    assert recorded.attributes("save")["error.type"] == "SessionConflict"
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert not span.events
    assert recorded.points("items.saved") == []


async def test_the_session_of_an_error_is_that_of_the_span(recorded):
    failing = recorded.layer(ScriptedService(SessionError("gone", session_id="s")))
    with pytest.raises(SessionError):
        await failing("request")
    assert recorded.attributes("call")["gen_ai.conversation.id"] == "s"


async def test_a_cancelled_call_is_no_failure(recorded):
    with anyio.CancelScope() as scope:

        async def cancelled(_request):
            scope.cancel()
            await anyio.sleep_forever()

        await recorded.layer(cancelled)("request")
    assert recorded.attributes("call") == {"outcome": "cancelled"}
    assert recorded.span("call").status.status_code is StatusCode.UNSET


async def test_a_service_that_is_not_async_raises_with_its_reply(recorded):
    with pytest.raises(SyncServiceError) as failure:
        await recorded.layer(lambda request: "paid")("request")
    assert failure.value.response == "paid"
    assert recorded.attributes("call")["error.type"] == "SyncServiceError"


@pytest.mark.parametrize("session_id", ["", "\ud800", 3, None])
async def test_a_value_that_is_no_session_id_is_no_attribute(store, recorded, session_id):
    with pytest.raises((TypeError, ValueError)):
        await recorded.layer(LoadSession(store))(session_id)
    assert "gen_ai.conversation.id" not in recorded.attributes("load")


async def test_a_closed_call_ends_no_span_and_gives_the_current_span_back(store, recorded):
    call = recorded.traced_memory(store)(must_not_be_called)([user("a")])
    outside = get_current_span()
    call.send(None)  # to the first suspension
    assert get_current_span() is not outside
    call.close()
    assert get_current_span() is outside
    assert recorded.names == []


async def test_a_call_that_is_closed_in_another_context_leaves_that_alone(store, recorded):
    """The garbage collector closes a suspended call in any context, such as that of a turn."""
    closed = recorded.traced_memory(store, session_id="another")(must_not_be_called)
    call = closed([user("a")])
    copy_context().run(call.send, None)

    async def ask(_messages):
        current = get_current_span()
        call.close()
        assert get_current_span() is current
        return "Hello"

    chat = recorded.traced_memory(store, turn_id=lambda _: "t1")(ask)
    assert await chat([user("b")]) == "Hello"
    assert recorded.attributes("turn")["turn.id"] == "t1"


# Content


async def test_no_content_gets_into_spans_and_metrics(store, recorded):
    message = {"role": "user", "content": SECRET, SECRET: {SECRET: [SECRET]}}
    metadata = {"note": SECRET, SECRET: 1}

    async def ask(_messages):
        return SECRET

    async def fail(_messages):
        raise Boom(SECRET) from ValueError(SECRET)

    memory = recorded.memory(store, metadata=lambda request, reply: metadata)
    await recorded.layer(memory(recorded.layer(ask)))([message])
    for service, request in (
        (recorded.layer(memory(recorded.layer(fail))), [message]),
        (recorded.layer(memory(ask)), [{**message, "other": {SECRET}}]),
        (recorded.layer(memory(ask)), SECRET),
        (recorded.layer(SaveSession(store)), Turn("s", [{"content": {SECRET}}])),
        (recorded.layer(SaveSession(store)), SECRET),
        (recorded.layer(fail), SECRET),
        (recorded.layer(lambda request: request), SECRET),
    ):
        with pytest.raises(Exception, match=".*"):
            await service(request)

    text = recorded.text()
    assert "tower_memory.save" in text
    assert SECRET not in text


async def test_items_that_cannot_be_encoded_have_no_size(store, recorded):
    with pytest.raises(SessionError):
        await recorded.layer(SaveSession(store))(Turn("s", [object()]))
    assert recorded.attributes("save")["error.type"] == "UnencodableItemError"
    assert "bytes" not in recorded.attributes("save")


async def test_the_size_of_many_items_is_exact(store, recorded):
    turn = Turn("s", [user("x" * 1000) for _ in range(300)])
    await recorded.layer(SaveSession(store))(turn)
    await recorded.layer(LoadSession(store))("s")
    for name in ("save", "load"):
        assert recorded.attributes(name)["bytes"] == size(*turn.items)


async def test_a_traced_history_stays_unread(store, recorded):
    """Its items are copied, and the memory layer checks them anew, only once they are read."""
    await store.append(Turn("s", [user("a")]))
    history = await recorded.layer(LoadSession(store))("s")
    assert checked_length(history, lambda items: True) == 1
    assert recorded.attributes("load")["bytes"] == size(*history)


# Metrics


async def test_metrics_have_outcomes_and_no_ids(store, recorded):
    chat = recorded.layer(recorded.memory(store)(ScriptedService("Hello", Boom())))
    await chat([user("a")])
    with pytest.raises(Boom):
        await chat([user("b")])

    ok, failed = {"outcome": "ok"}, {"outcome": "error", "error.type": "Boom"}
    assert recorded.points("operation.duration") == [
        ({"operation": "load", **ok}, 2),
        ({"operation": "save", **ok}, 1),
    ]
    assert recorded.points("call.duration") == [
        ({"operation": "turn", **ok}, 1),
        ({"operation": "turn", **failed}, 1),
    ]
    assert recorded.points("items.loaded") == [({"operation": "load"}, 2)]
    assert recorded.points("items.saved") == [({"operation": "save"}, 2)]


async def test_a_sampler_drops_spans_with_their_children_and_no_metrics(store):
    recorded = RecordedTelemetry(ALWAYS_OFF)
    other = RecordedTelemetry()

    async def ask(_messages):
        span = other.tracer.start_span("other client")  # follows the decision of its parent
        assert span.get_span_context().trace_id == get_current_span().get_span_context().trace_id
        return "Hello"

    await recorded.layer(recorded.memory(store)(ask))([user("a")])
    assert recorded.names == []
    assert [count for _, count in recorded.points("operation.duration")] == [1, 1]
    recorded.close()
    other.close()


# Providers


async def test_without_an_sdk_the_current_span_stays(store, recorded):
    seen = []

    async def ask(_messages):
        seen.append(get_current_span())
        return "Hello"

    tracing = TracingLayer()
    chat = tracing(memory_over(store)(tracing(ask)))
    assert await chat([user("a")]) == "Hello"
    with recorded.tracer.start_as_current_span("other framework") as span:
        await chat([user("b")])
    assert seen[1] is span


async def test_only_metrics_are_recorded_without_a_tracer(store, recorded):
    tracing = TracingLayer(meter_provider=recorded.providers["meter_provider"])
    await tracing(LoadSession(store))("s")
    assert recorded.points("operation.duration") == [({"operation": "load", "outcome": "ok"}, 1)]
    assert recorded.names == []


async def test_a_span_that_records_nothing_does_not_hide_the_current_span(store, recorded):
    tracing = TracingLayer(meter_provider=recorded.providers["meter_provider"])
    seen = []

    async def ask(_messages):
        seen.append(get_current_span())
        return "Hello"

    with recorded.tracer.start_as_current_span("other framework") as span:
        await tracing(ask)([user("a")])
    assert seen == [span]


def test_a_global_provider_that_is_set_later_is_used():
    program = """
import anyio
from opentelemetry import metrics, trace
from helpers.telemetry import RecordedTelemetry
from tower_memory import InMemorySessionStore
from tower_memory.tracing import TracedStore, TracingLayer

recorded = RecordedTelemetry()
store = TracedStore(InMemorySessionStore())
layer = TracingLayer()
anyio.run(store.load, "before")
trace.set_tracer_provider(recorded.providers["tracer_provider"])
metrics.set_meter_provider(recorded.providers["meter_provider"])
anyio.run(store.load, "after")
anyio.run(layer(store.load), "after")
print(*recorded.names, [count for _, count in recorded.points("operation.duration")])
"""
    done = run_python(program, check=True)
    assert done.stdout == "store.load store.load call [2]\n"


class FailingProcessor(SpanProcessor):
    """A processor of the program that fails when a span starts or ends."""

    def __init__(self, failing):
        self.failing = failing

    def on_start(self, span, parent_context=None):
        if self.failing == "start":
            raise Boom(SECRET)

    def on_end(self, span):
        if self.failing == "end":
            raise Boom(SECRET)


@pytest.mark.parametrize("failing", ["start", "end"])
async def test_a_turn_does_not_fail_with_a_processor_of_the_program(
    store, recorded, caplog, failing
):
    recorded.providers["tracer_provider"].add_span_processor(FailingProcessor(failing))
    other, seen = RecordedTelemetry(), []

    async def ask(_messages):
        seen.append(get_current_span())
        return "Hello"

    with other.tracer.start_as_current_span("other framework") as span:
        chat = recorded.layer(recorded.memory(recorded.store(store))(recorded.layer(ask)))
        assert await chat([user("a")]) == "Hello"
    other.close()
    assert len(await store.load("s")) == 2
    assert [each is span for each in seen] == [failing == "start"]
    assert {record.event for record in caplog.records} == {"untraced"}
    assert [record.operation for record in caplog.records].count("turn") == 1
    assert SECRET not in caplog.text
    assert sum(count for _, count in recorded.points("call.duration")) == 2


async def test_a_call_keeps_its_error_if_a_processor_fails(recorded, caplog):
    recorded.providers["tracer_provider"].add_span_processor(FailingProcessor("end"))
    error = ConnectionError()
    with pytest.raises(ConnectionError) as failure:
        await recorded.layer(ScriptedService(error))("request")
    assert failure.value is error
    assert failure.value.__context__ is None
    assert "the operation 'call' is not traced: OpenTelemetry has raised Boom" in caplog.text


@pytest.mark.parametrize("given", ["tracer_provider", "meter_provider"])
def test_a_traced_store_for_each_request_leaves_nothing_behind(store, recorded, given):
    """The global meter provider keeps each meter that waits for an SDK."""

    def meters():
        gc.collect()
        return sum(isinstance(each, Meter) for each in gc.get_objects())

    provider = {given: recorded.providers[given]}
    TracedStore(store, **provider)
    before = meters()
    for user_id in "abc":
        TracedStore(ScopedStore(store, user_id), **provider)
    assert meters() == before


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider"])
def test_a_bad_provider_is_refused_by_name(store, recorded, name):
    with pytest.raises(TypeError, match=f"{name} must be a .*Provider of OpenTelemetry or None"):
        TracingLayer(**{name: recorded.tracer})


def test_without_opentelemetry_the_import_names_the_extra():
    program = "import sys; sys.modules['opentelemetry.trace'] = None; import tower_memory.tracing"
    done = run_python(program)
    assert "ImportError: tower_memory.tracing needs OpenTelemetry: pip install" in done.stderr


def test_a_traced_service_shows_its_stack():
    assert repr(TracingLayer()(must_not_be_called)) == "TracingLayer() > must_not_be_called"
    assert TracingLayer() == TracingLayer()
