"""Retry and timeout, and what their order means for memory."""

from __future__ import annotations

import asyncio
import math
import sys

import anyio
import pytest

from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    TimeoutLayer,
)
from tower_memory.bridges import AsyncioLayer


def at_once(_error):
    """Retry whatever it was, after no time."""
    return 0.0


class Flaky:
    """A model that fails as often as it is told to, and counts its calls."""

    def __init__(self, failures, error=ConnectionError):
        self.failures = failures
        self.error = error
        self.calls = 0

    async def __call__(self, request):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(self.calls)
        return "through"


@pytest.mark.parametrize(
    "on",
    [ConnectionError, (OSError, ValueError), lambda e: isinstance(e, OSError) and 0.0],
    ids=["class", "classes", "function"],
)
async def test_what_is_retried_is_said_by_class_classes_or_function(on, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _a, _b: 0.0)
    model = Flaky(1)
    assert await RetryLayer(on=on, attempts=2)(model)("Hi") == "through"
    assert model.calls == 2


async def test_the_last_error_comes_through_after_so_many_attempts():
    model = Flaky(9)
    with pytest.raises(ConnectionError, match="3"):
        await RetryLayer(on=at_once)(model)("Hi")
    assert model.calls == 3


async def test_another_error_comes_through_at_once():
    model = Flaky(9, ValueError)
    with pytest.raises(ValueError, match="1"):
        await RetryLayer(on=OSError)(model)("Hi")
    assert model.calls == 1


async def test_no_attempt_is_begun_after_the_timeout():
    model = Flaky(9)

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
    model = Flaky(9)
    with anyio.move_on_after(0.01) as scope:
        await RetryLayer(on=lambda _error: 60.0)(model)("Hi")
    assert scope.cancelled_caught
    assert model.calls == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the only one to have it
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
        ({"on": "OSError"}, TypeError, "on must be exceptions to retry.*'OSError'"),
        ({"on": None}, TypeError, "on must be exceptions to retry.*None"),
        ({"on": ()}, ValueError, r"on must name an exception to retry, got \(\)"),
        ({"attempts": 0}, ValueError, "attempts must be 1 or more, got 0"),
        ({"attempts": None}, TypeError, "attempts must be a whole number, got None"),
        ({"timeout": -1}, ValueError, "timeout must be 0 or more seconds, got -1"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, got '1'"),
    ],
)
def test_bad_retries_are_refused_by_name(parameters, error, message):
    with pytest.raises(error, match=message):
        RetryLayer(**{"on": OSError, **parameters})


def test_what_is_retried_has_no_default():
    with pytest.raises(TypeError, match="'on'"):
        RetryLayer()


def test_without_stamina_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "stamina", None)
    with pytest.raises(ImportError, match=r"pip install stamina, or 'tower-memory\[retry\]'"):
        RetryLayer(on=OSError)


async def test_a_call_that_takes_too_long_is_cancelled_and_raises_timeout_error():
    cancelled = []

    async def model(_request):
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            cancelled.append(type(error))
            raise

    with pytest.raises(TimeoutError):
        await TimeoutLayer(0.01)(model)("Hi")
    assert cancelled == [anyio.get_cancelled_exc_class()]


async def test_a_call_in_time_is_let_through():
    assert await TimeoutLayer(60)(Flaky(0))("Hi") == "through"
    assert await TimeoutLayer(math.inf)(Flaky(0))("Hi") == "through"


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (-0.1, ValueError),
        (math.nan, ValueError),
        (10**20, ValueError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_bad_timeouts_are_refused_by_name(seconds, error):
    with pytest.raises(error, match=f"seconds must be .*, got {seconds}"):
        TimeoutLayer(seconds)


# Their order around memory


async def loads_and_calls(*layers):
    """How often a stack around a model that fails once loads its history, and what it saves."""
    store = InMemorySessionStore()
    loads = []

    async def load(session_id):
        loads.append(session_id)
        return await store.load(session_id)

    service = Flaky(1)
    for layer in layers:
        make = layer or MemoryLayer(load, SaveSession(store), session_id="s")
        service = make(service)
    assert await service([{"role": "user", "content": "Hi"}]) == "through"
    return len(loads), len(await store.load("s"))


MEMORY = None


async def test_memory_outside_retry_loads_once_and_memory_inside_loads_for_each_attempt():
    retry = RetryLayer(on=at_once)
    assert await loads_and_calls(retry, MEMORY) == (1, 2)
    assert await loads_and_calls(MEMORY, retry) == (2, 2)


async def test_a_timeout_inside_retry_is_for_each_attempt_and_outside_for_all():
    calls = []

    async def slow_at_first(request):
        calls.append(request)
        if len(calls) == 1:
            await anyio.sleep_forever()
        return "through"

    retry = RetryLayer(on=TimeoutError)
    each = RetryLayer(on=lambda e: isinstance(e, TimeoutError) and 0.0)(
        TimeoutLayer(0.05)(slow_at_first)
    )
    assert await each("Hi") == "through"
    calls.clear()
    with pytest.raises(TimeoutError):
        await TimeoutLayer(0.05)(retry(slow_at_first))("Hi")
    assert len(calls) == 1


async def test_a_timeout_around_memory_covers_the_load_too():
    async def load(_session_id):
        await anyio.sleep_forever()

    store = InMemorySessionStore()
    layer = MemoryLayer(load, SaveSession(store), session_id="s")
    with pytest.raises(TimeoutError):
        await TimeoutLayer(0.01)(layer(Flaky(0)))([{"role": "user", "content": "Hi"}])
    assert await LoadSession(store)("s") == []


EVERY_LAYER = [
    TimeoutLayer(1),
    RetryLayer(on=OSError),
    AsyncioLayer(),
    MemoryLayer(
        LoadSession(InMemorySessionStore()), SaveSession(InMemorySessionStore()), session_id="s"
    ),
]


@pytest.mark.parametrize("layer", EVERY_LAYER, ids=lambda layer: type(layer).__name__)
def test_what_is_no_service_is_refused_by_every_layer(layer):
    async def yielding(request):
        yield request

    with pytest.raises(TypeError, match="service must be callable, got 3"):
        layer(3)
    with pytest.raises(TypeError, match="service must return what it gives, and .*yielding yields"):
        layer(yielding)
