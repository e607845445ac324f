"""The scripted service."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from helpers.layers import memory_over
from helpers.messages import user
from tower_memory.testing import ScriptedService


async def test_a_scripted_service_gives_its_answers_in_order_and_keeps_the_requests():
    async def slowly(request):
        await checkpoint()
        return f"{request}!"

    service = ScriptedService("one", {"two": 2}, ConnectionError("reset"), str.upper, slowly)
    assert await service("a") == "one"
    assert await service("b") == {"two": 2}
    with pytest.raises(ConnectionError, match="reset"):
        await service("c")
    assert (
        repr(service)
        == "ScriptedService(str.upper, \
test_a_scripted_service_gives_its_answers_in_order_and_keeps_the_requests.<locals>.slowly)"
    )
    assert await service("d") == "D"
    assert await service("e") == "e!"
    assert service.requests == ["a", "b", "c", "d", "e"]
    with pytest.raises(AssertionError, match="there is no answer left for request 6: 'f'"):
        await service("f")


async def test_a_scripted_service_can_be_cancelled_and_tests_a_layer(store):
    service = ScriptedService("Hello", "Hello again")
    memory = memory_over(store)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await memory(service)([user("Hi")])
    assert await memory(service)([user("Hi")]) == "Hello"
    assert await memory(service)([user("Hi")]) == "Hello again"
    assert [len(request) for request in service.requests] == [1, 3]
