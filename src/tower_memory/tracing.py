"""Spans and metrics of OpenTelemetry.

A `TracingLayer` gives each call of a service a span, and a `TracedStore` each call of a store. Both
need OpenTelemetry's API: ``pip install 'tower-memory[otel]'``. The program chooses where the spans
and metrics go, with OpenTelemetry's SDK (``pip install opentelemetry-sdk``):

>>> import anyio
>>> from typing import Any
>>> from opentelemetry.sdk.trace import TracerProvider
>>> from opentelemetry.sdk.trace.export import SimpleSpanProcessor
>>> from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
>>> from tower_memory import InMemorySessionStore, LoadSession, MemoryLayer, SaveSession
>>> from tower_memory.tracing import TracingLayer
>>> spans = InMemorySpanExporter()  # in production: OTLPSpanExporter() in a BatchSpanProcessor
>>> provider = TracerProvider()
>>> provider.add_span_processor(SimpleSpanProcessor(spans))
>>> tracing = TracingLayer(tracer_provider=provider)  # None: that of trace.set_tracer_provider
>>> store = InMemorySessionStore()
>>> memory = MemoryLayer(
...     tracing(LoadSession(store)), tracing(SaveSession(store)), session_id="user_123"
... )
>>> async def ask(messages: list[Any]) -> str:  # stands for the call of a model
...     return f"Messages received: {len(messages)}"
>>> chat = tracing(memory(tracing(ask)))
>>> anyio.run(chat, [{"role": "user", "content": "Hi"}])
'Messages received: 1'
>>> for span in spans.get_finished_spans():
...     given = span.attributes or {}
...     print(span.name, given.get("gen_ai.conversation.id"), given.get("tower_memory.items"))
tower_memory.load user_123 0
tower_memory.call None None
tower_memory.save user_123 2
tower_memory.turn user_123 2

The span of the turn is the parent of the other three. It covers the wait for other turns of the
session, the load, the model, all chunks of a streamed reply, and the save.

A library that takes a store, such as those of `tower_memory.integrations`, gets a traced one. A
`MemoryLayer` may have one, too:

>>> from tower_memory import Turn
>>> from tower_memory.tracing import TracedStore
>>> traced = TracedStore(store, tracer_provider=provider)
>>> spans.clear()
>>> revision = anyio.run(traced.append, Turn("user_456", ["Hi"], turn_id="t1"))
>>> for name, value in sorted((spans.get_finished_spans()[0].attributes or {}).items()):
...     print(name, value)
gen_ai.conversation.id user_456
tower_memory.bytes 4
tower_memory.items 1
tower_memory.operation store.append
tower_memory.outcome ok
tower_memory.revision 2
tower_memory.turn.id t1

Spans
=====

All spans are of the kind INTERNAL. The names of spans and attributes begin with ``tower_memory.``;
the table leaves this prefix out.

| span | operation | attributes |
|---|---|---|
| ``load`` | a `LoadSession` in a layer | limit, items, bytes, revision |
| ``save`` | a `SaveSession` in a layer | turn.id, items, bytes, revision |
| ``turn`` | a service with memory in a layer | turn.id, items, revision: if it is saved |
| ``call`` | any other service in a layer | none |
| ``store.load`` | a method of a traced store | limit, items, bytes, revision |
| ``store.append`` | the same | turn.id, items, bytes, revision |
| ``store.begin`` | the same | turn.id, items, bytes |
| ``store.fail``, ``store.forget``, ``store.save_summary`` | the same | turn.id |
| ``store.sessions``, ``store.search`` | the same | limit, entries of the page |
| ``store.pending`` | the same | entries of the list |
| ``store.describe``, ``store.annotate`` | the same | items, revision |
| ``store.fork`` | the same | new_conversation.id, items, revision |
| ``store.erase`` | the same | sessions, turns, items: the removed ones |
| ``store.pop``, ``.clear``, ``.load_summary``, ``.scrub`` | the same | none |

Every span also has these:

- ``gen_ai.conversation.id``: the session id, if the operation has one. A turn gets it from its
  memory layer, which calls the function ``session_id`` once, as always.
- ``tower_memory.operation``: the name of the span without ``tower_memory.``.
- ``tower_memory.outcome``: ``ok``, ``error`` or ``cancelled``. The span of a stream may also end
  with ``interrupted``, if the stream was closed or left before its end, and with ``dropped``, if it
  was garbage-collected.
- ``error.type``: the name of the class of an error, such as ``SessionConflict``. The status of the
  span is then ERROR.

``bytes`` is the size of the items as JSON. It is computed only for a span that is recorded.

If other layers are around a `LoadSession`, a `SaveSession` or a service with memory, the tracing
layer finds it through their attribute ``inner``, as a `MemoryLayer` finds its store.

**Never content.** No item, no metadata, no search text, no summary, and no text of an error gets
into a span or a metric: an error shows only its class, and its span has no description and no
event. Spans have session ids and turn ids, so these must not be secrets. Metrics have no ids. A
traced store around a `ScopedStore` shows the tenant's own ids; inside it, the stored ids.

Metrics
=======

| instrument | kind | measures |
|---|---|---|
| ``tower_memory.operation.duration`` | histogram, s | loads, saves and calls of stores |
| ``tower_memory.call.duration`` | histogram, s | turns and other calls, with their streams |
| ``tower_memory.items.loaded`` | counter, {item} | the items of histories |
| ``tower_memory.items.saved`` | counter, {item} | the items of saved turns |

The histograms have the attributes ``tower_memory.operation``, ``tower_memory.outcome`` and
``error.type``, the counters only the first.

An append of a turn that the session already holds counts as saved. If both a service and its store
are traced, each counts by its own operation: ``save`` and ``store.append``.

Other instrumentation
=====================

Spans nest under the current span of the caller, and are the parent of all spans inside, also
through a `tower_memory.bridges.ThreadedStore`, an `AsyncioLayer` on trio, and into the task of a
`ResumableLayer` (put the tracing layer inside it, so that the span lasts as long as the call). The
spans of an instrumented client or framework that is called inside the service are therefore
children of the turn (run: pydantic-ai 2.68, agent-framework 1.23, openai-agents 0.24):

- pydantic-ai: ``Agent(..., capabilities=[Instrumentation()])`` makes its spans. The program calls
  the conversation store before and after a run, so the spans of a traced store are children of the
  caller's span, beside that of the agent.
- agent-framework: ``enable_instrumentation()`` makes its spans. Those of a traced store are
  children of the agent's span.
- openai-agents has spans of its own. An instrumentation makes spans of OpenTelemetry of them, such
  as ``openinference-instrumentation-openai-agents``. The appends to a traced store are children of
  the agent's or the workflow's span; the load of a run that is not streamed is a child of the
  caller's span.

``gen_ai.conversation.id`` of pydantic-ai's spans is the id of its own conversation. It is the
session id in a `SessionConversationStore`; elsewhere, pass a conversation with that id. The spans
of the other two have no such attribute, so find them through their trace.

**Sampling.** A sampler gets the attributes that are known at the start: the operation, and the
conversation id of loads, saves and stores. Children follow the decision of their parent. Metrics
count every call. Without an SDK, a layer adds some microseconds to a call. If a processor or a
sampler of the program raises an error, a call goes on without its span, and the logger
``tower_memory`` reports a warning.

**Logging.** The logger ``tower_memory`` (see `tower_memory.products`) needs no layer and no
dependency. It reports loads and saves of memory layers at DEBUG. At WARNING it reports events that
an operator must know, such as a slow save; they are in no span. Use spans to see where the time of
one turn goes, metrics for alarms, and the log for the reasons of failures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeVar, final, overload

try:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
except ImportError as error:
    msg = "tower_memory.tracing needs OpenTelemetry: pip install 'tower-memory[otel]'"
    raise ImportError(msg) from error

from tower_memory._calls import check_inner
from tower_memory._service import Req, Res, Service
from tower_memory._tracing.service import Traced, known_service
from tower_memory._tracing.store import TracedStore
from tower_memory._tracing.telemetry import Telemetry
from tower_memory.streams import Stream

__all__ = ("TracedStore", "TracingLayer")

Chunk = TypeVar("Chunk")
ManagedStream = TypeVar("ManagedStream", bound=AbstractAsyncContextManager[Any])


@final
@dataclass(frozen=True, slots=True)
class TracingLayer:
    """Gives each call of the inner service a span, and measures it.

    The docstring of `tower_memory.tracing` lists the spans and the metrics. A layer may wrap any
    number of services, also a `LoadSession`, a `SaveSession` and a service with memory. The
    operation of a streamed reply ends with the stream; the stream keeps its type, its attributes
    and its methods (see `tower_memory.streams`).

    Args:
        tracer_provider: Provider of the tracer; None takes the global one, even if it is set later.
        meter_provider: Provider of the meter; None takes the global one, even if it is set later.

    Raises:
        TypeError: A provider is of the wrong type. When called: the service is not async; the error
            has its reply in the attribute ``response``.
    """

    _: KW_ONLY
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    _telemetry: Telemetry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        telemetry = Telemetry(self.tracer_provider, self.meter_provider)
        object.__setattr__(self, "_telemetry", telemetry)

    @overload
    def __call__(self, inner: Service[Req, ManagedStream], /) -> Service[Req, ManagedStream]: ...
    @overload
    def __call__(
        self, inner: Service[Req, AsyncIterator[Chunk]], /
    ) -> Service[Req, Stream[Chunk]]: ...
    @overload
    def __call__(self, inner: Service[Req, Res], /) -> Service[Req, Res]: ...
    def __call__(self, inner: Service[Req, Any], /) -> Service[Req, Any]:
        """Return *inner* with a span for each call."""
        check_inner(inner)
        return Traced(inner, self, self._telemetry, known_service(inner))

    def __repr__(self) -> str:
        return "TracingLayer()"
