"""Services that stand in for a model."""

from __future__ import annotations

import anyio
import pytest


class Boom(Exception):
    """The error of a model or stream that fails."""


async def repeat_last(messages):
    """Reply with the last message."""
    return f"re: {messages[-1]['content']}"


async def must_not_be_called(request):
    """Fail the test."""
    pytest.fail(f"the model was called with {request!r}")


class BlockingModel:
    """A model that answers once `go_on` is set.

    Attributes:
    called: The last message of each call, in order.
    under_way: The number of calls that have begun and not ended.
    most_at_once: The largest number of calls under way at the same time.
    """

    def __init__(self):
        self.called = []
        self.most_at_once = 0
        self.under_way = 0
        self.go_on = anyio.Event()

    async def __call__(self, messages):
        self.called.append(messages[-1]["content"])
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.go_on.wait()
        finally:
            self.under_way -= 1
        return f"re: {messages[-1]['content']}"


class FlakyModel:
    """A model that fails in its first calls, and counts its calls."""

    def __init__(self, failures, error=ConnectionError):
        self.failures = failures
        self.error = error
        self.calls = 0

    async def __call__(self, request):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(self.calls)
        return "through"


def at_once(_error):
    """Retry every error without a pause."""
    return 0.0
