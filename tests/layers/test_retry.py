"""The retry layer."""

from __future__ import annotations

import asyncio
import sys

import anyio
import pytest

from helpers.services import FlakyModel, at_once
from tower_memory import RetryLayer


@pytest.mark.parametrize(
    "on",
    [ConnectionError, (OSError, ValueError), lambda e: isinstance(e, OSError) and 0.0],
    ids=["class", "classes", "function"],
)
async def test_the_errors_to_retry_are_a_class_classes_or_a_function(on, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _a, _b: 0.0)
    model = FlakyModel(1)
    assert await RetryLayer(on=on, attempts=2)(model)("Hi") == "through"
    assert model.calls == 2


async def test_the_last_error_is_raised_after_the_last_attempt():
    model = FlakyModel(9)
    with pytest.raises(ConnectionError, match="3"):
        await RetryLayer(on=at_once)(model)("Hi")
    assert model.calls == 3


async def test_an_error_that_is_not_retried_is_raised_at_once():
    model = FlakyModel(9, ValueError)
    with pytest.raises(ValueError, match="1"):
        await RetryLayer(on=OSError)(model)("Hi")
    assert model.calls == 1


async def test_no_attempt_begins_after_the_timeout():
    model = FlakyModel(9)

    async def slow(request):
        await anyio.sleep(0.02)
        return await model(request)

    with pytest.raises(ConnectionError):
        await RetryLayer(on=at_once, attempts=9, timeout=0.01)(slow)("Hi")
    assert model.calls == 1


async def test_cancellation_is_never_retried():
    calls = []

    async def model(request):
        calls.append(request)
        await anyio.sleep_forever()

    with anyio.move_on_after(0.01) as scope:
        await RetryLayer(on=lambda _error: True, attempts=9)(model)("Hi")
    assert scope.cancelled_caught
    assert calls == ["Hi"]


async def test_a_wait_between_attempts_can_be_cancelled():
    model = FlakyModel(9)
    with anyio.move_on_after(0.01) as scope:
        await RetryLayer(on=lambda _error: 60.0)(model)("Hi")
    assert scope.cancelled_caught
    assert model.calls == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # only asyncio has it
async def test_native_cancellation_is_never_retried():
    calls = []
    called = asyncio.Event()

    async def model(request):
        calls.append(request)
        called.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(RetryLayer(on=at_once, attempts=2)(model)("Hi"))
    await called.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == ["Hi"]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"on": BaseException}, TypeError, "on must be exceptions to retry.*BaseException"),
        ({"on": (OSError, KeyboardInterrupt)}, TypeError, "on must be .*KeyboardInterrupt"),
        ({"on": "OSError"}, TypeError, "on must be exceptions to retry.* got str"),
        ({"on": None}, TypeError, "on must be exceptions to retry.*None"),
        ({"on": ()}, ValueError, r"on must name an exception to retry, got \(\)"),
        ({"attempts": 0}, ValueError, "attempts must be 1 or more, got 0"),
        ({"attempts": None}, TypeError, "attempts must be a whole number, got None"),
        ({"timeout": -1}, ValueError, "timeout must be 0 or more seconds, got -1"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, got str"),
    ],
)
def test_bad_retries_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        RetryLayer(**{"on": OSError, **parameters})


def test_the_errors_to_retry_have_no_default():
    with pytest.raises(TypeError, match="'on'"):
        RetryLayer()


def test_without_stamina_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "stamina", None)
    with pytest.raises(ImportError, match=r"pip install stamina, or 'tower-memory\[retry\]'"):
        RetryLayer(on=OSError)
