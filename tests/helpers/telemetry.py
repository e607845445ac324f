"""Spans and metrics of OpenTelemetry, recorded in memory."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from helpers.layers import memory_over
from tower_memory import LoadSession, MemoryLayer, SaveSession
from tower_memory.tracing import TracedStore, TracingLayer


class RecordedTelemetry:
    """Providers that record in memory.

    Attributes:
        layer: A tracing layer that records here.
        tracer: A tracer of other code, such as a framework or a client.
    """

    def __init__(self, sampler=ALWAYS_ON):
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.providers = {
            "tracer_provider": TracerProvider(sampler=sampler, shutdown_on_exit=False),
            "meter_provider": MeterProvider([self.reader], shutdown_on_exit=False),
        }
        self.providers["tracer_provider"].add_span_processor(SimpleSpanProcessor(self.exporter))
        self.layer = TracingLayer(**self.providers)
        self.tracer = self.providers["tracer_provider"].get_tracer("other code")

    def close(self):
        """Release the providers."""
        for provider in self.providers.values():
            provider.shutdown()

    def store(self, store):
        """Return a traced store over *store*."""
        return TracedStore(store, **self.providers)

    def memory(self, store, session_id="s", **parameters):
        """Return a memory layer whose load and save are traced."""
        load, save = self.layer(LoadSession(store)), self.layer(SaveSession(store))
        return MemoryLayer(load, save, session_id=session_id, **parameters)

    def traced_memory(self, store, **parameters):
        """Return a memory layer with a tracing layer around it."""
        memory = memory_over(store, **parameters)
        return lambda inner: self.layer(memory(inner))

    @property
    def names(self):
        """The names of the finished spans, in the order of their ends."""
        return [
            span.name.removeprefix("tower_memory.") for span in self.exporter.get_finished_spans()
        ]

    def span(self, name):
        """Return the only finished span called *name*."""
        name = name if name.startswith("other") else f"tower_memory.{name}"
        (found,) = (span for span in self.exporter.get_finished_spans() if span.name == name)
        return found

    def attributes(self, name):
        """Return the attributes of the only span called *name*, with short names."""
        given = dict(self.span(name).attributes)
        assert given.pop("tower_memory.operation") == name
        return {key.removeprefix("tower_memory."): value for key, value in given.items()}

    def outcome(self, name):
        """Return the outcome of the only span called *name*."""
        return self.attributes(name)["outcome"]

    def parent(self, name):
        """Return the name of the parent of the only span called *name*; None if it has none."""
        parent = self.span(name).parent
        if parent is None:
            return None
        (found,) = (
            span.name.removeprefix("tower_memory.")
            for span in self.exporter.get_finished_spans()
            if span.context.span_id == parent.span_id
        )
        return found

    def points(self, instrument):
        """Return the measurements of *instrument*: the attributes with short names, and the value.

        The value of a histogram is the number of its measurements.
        """
        found = []
        for metric in self._metrics():
            if metric.name == f"tower_memory.{instrument}":
                for point in metric.data.data_points:
                    given = {
                        key.removeprefix("tower_memory."): value
                        for key, value in point.attributes.items()
                    }
                    found.append((given, getattr(point, "count", None) or point.value))
        return found

    def _metrics(self):
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        return [
            metric
            for resource in resources
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def text(self):
        """Return all recorded spans and metrics as text."""
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        return spans + "".join(metric.to_json() for metric in self._metrics())
