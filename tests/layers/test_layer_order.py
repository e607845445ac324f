"""The effect of the order of layers around the memory layer."""

from __future__ import annotations

import anyio
import pytest

from helpers.messages import user
from helpers.services import FlakyModel, at_once
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveSession,
    TimeoutLayer,
)
from tower_memory.bridges import AsyncioLayer


async def loads_and_calls(*layers):
    """Count the loads and the saved items of a stack around a model that fails once."""
    store = InMemorySessionStore()
    loads = []

    async def load(session_id):
        loads.append(session_id)
        return await store.load(session_id)

    service = FlakyModel(1)
    for layer in layers:
        make = layer or MemoryLayer(load, SaveSession(store), session_id="s")
        service = make(service)

    assert await service([user("Hi")]) == "through"

    return len(loads), len(await store.load("s"))


MEMORY = None


async def test_memory_outside_retry_loads_once_and_memory_inside_loads_for_each_attempt():
    retry = RetryLayer(on=at_once)
    assert await loads_and_calls(retry, MEMORY) == (1, 2)
    assert await loads_and_calls(MEMORY, retry) == (2, 2)


async def test_a_timeout_inside_retry_limits_each_attempt_and_outside_limits_all():
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
        await TimeoutLayer(0.01)(layer(FlakyModel(0)))([user("Hi")])
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
def test_a_value_that_is_no_service_is_refused_by_every_layer(layer):
    async def yielding(request):
        yield request

    with pytest.raises(TypeError, match="service must be callable, got 3"):
        layer(3)
    with pytest.raises(TypeError, match="service must return its response, and .*yielding yields"):
        layer(yielding)
