"""Fixtures of the tests of tracing."""

from __future__ import annotations

import pytest

from helpers.telemetry import RecordedTelemetry


@pytest.fixture
def recorded():
    """Return spans and metrics in memory, with layers and stores that write to them."""
    telemetry = RecordedTelemetry()
    yield telemetry
    telemetry.close()
