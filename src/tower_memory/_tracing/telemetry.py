"""The tracer, and the instruments of the metrics.

1. A global provider that is set later is used from then on: until then, the API gives out a tracer
   and instruments that wait for it.
2. The instruments of the global provider are made once, because the API keeps all those that wait.
   So a program may make a traced store for each request.
3. The API's own providers record nothing. While there are no others, an operation does nothing
   beside its call. A global provider is set at most once, so it is looked for only until then.
"""

from __future__ import annotations

from functools import cache
from typing import Final, final

from opentelemetry.metrics import Histogram, MeterProvider, get_meter, get_meter_provider
from opentelemetry.trace import TracerProvider, get_tracer, get_tracer_provider

import tower_memory
from tower_memory._arguments import shown
from tower_memory._tracing import names

_STORE_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Seconds. The conventions' buckets for calls of databases, and two below: a cached load."""

_CALL_BUCKETS: Final = tuple(0.01 * 2**step for step in range(14))
"""Seconds, from 0.01 to 81.92. The conventions' buckets for calls of models."""


@final
class Instruments:
    """The instruments of a provider; None stands for the global one."""

    __slots__ = ("call_duration", "items_loaded", "items_saved", "operation_duration")

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        meter = get_meter(names.SCOPE, tower_memory.__version__, meter_provider)
        self.operation_duration = meter.create_histogram(
            names.OPERATION_DURATION,
            unit="s",
            description="Duration of loads, saves and other operations of stores.",
            explicit_bucket_boundaries_advisory=_STORE_BUCKETS,
        )
        self.call_duration = meter.create_histogram(
            names.CALL_DURATION,
            unit="s",
            description="Duration of turns and other calls, up to the end of their streams.",
            explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
        )
        self.items_loaded = meter.create_counter(
            names.ITEMS_LOADED, unit="{item}", description="Number of loaded items."
        )
        self.items_saved = meter.create_counter(
            names.ITEMS_SAVED, unit="{item}", description="Number of saved items."
        )

    def duration(self, operation: str) -> Histogram:
        """Return the histogram of the durations of *operation*."""
        return self.call_duration if operation in ("turn", "call") else self.operation_duration


@final
class Telemetry:
    """The tracer and the instruments of one pair of providers; None stands for the global ones.

    Raises:
        TypeError: A provider is of the wrong type.
    """

    __slots__ = ("_is_active", "_meter_provider", "_tracer_provider", "instruments", "tracer")

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None
    ) -> None:
        _check_provider("tracer_provider", tracer_provider, TracerProvider)
        _check_provider("meter_provider", meter_provider, MeterProvider)

        self._is_active = False
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self.tracer = get_tracer(names.SCOPE, tower_memory.__version__, tracer_provider)
        self.instruments = (
            _global_instruments() if meter_provider is None else Instruments(meter_provider)
        )

    def is_active(self) -> bool:
        """Return False if neither spans nor metrics are recorded (rule 3)."""
        if not self._is_active:
            tracer_provider = self._tracer_provider or get_tracer_provider()
            meter_provider = self._meter_provider or get_meter_provider()
            self._is_active = not (_is_of_api(tracer_provider) and _is_of_api(meter_provider))
        return self._is_active


@cache
def _global_instruments() -> Instruments:
    return Instruments(None)


def _is_of_api(provider: object) -> bool:
    """Return True if *provider* is one of those that the API itself has."""
    return type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


def _check_provider(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        msg = f"{name} must be a {kind.__name__} of OpenTelemetry or None, got {shown(value)}"
        raise TypeError(msg)
