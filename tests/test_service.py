"""Services, layers and builders."""

from __future__ import annotations

import functools

import pytest
import stamina

from helpers.layers import memory_over
from tower_memory import InMemorySessionStore, RetryLayer, ServiceBuilder, TimeoutLayer


def marking(mark):
    def layer(inner):
        @functools.wraps(inner)
        async def call(request):
            return f"{mark}({await inner(request + mark)})"

        return call

    return layer


async def echo(request):
    return request


async def test_the_layer_added_first_sees_the_request_first_and_the_response_last():
    service = ServiceBuilder().layer(marking("a")).layer(marking("b")).service(echo)
    assert await service(">") == "a(b(>ab))"


async def test_a_builder_never_changes_and_can_be_used_again():
    base = ServiceBuilder().layer(marking("a"))
    longer = base.layer(marking("b"))
    assert await base.service(echo)("") == "a(a)"
    assert await longer.service(echo)("") == "a(b(ab))"


def test_a_service_without_layers_is_the_service_itself():
    assert ServiceBuilder().service(echo) is echo


async def test_a_plain_stamina_decorator_retries_even_around_a_layer_of_ours():
    failures = [ConnectionError(), ConnectionError()]

    async def flaky(request):
        if failures:
            raise failures.pop()
        return request

    retry = stamina.retry(on=ConnectionError, wait_initial=0, wait_jitter=0)
    service = ServiceBuilder().layer(retry).layer(TimeoutLayer(60)).service(flaky)
    assert await service("through") == "through"
    assert failures == []


@pytest.mark.parametrize("wrong", [None, 2.5, 3])
def test_a_value_that_is_no_layer_or_service_is_refused_by_name(wrong):
    with pytest.raises(TypeError, match=f"layer must be callable, got {wrong!r}"):
        ServiceBuilder().layer(wrong)
    with pytest.raises(TypeError, match=f"layer must be callable, got {wrong!r}"):
        ServiceBuilder((wrong,))
    with pytest.raises(TypeError, match=f"service must be callable, got {wrong!r}"):
        ServiceBuilder().service(wrong)


def test_a_layer_that_returns_no_service_is_named():
    with pytest.raises(TypeError, match=r"the result of <function .*<lambda>.* must be callable"):
        ServiceBuilder().layer(lambda _inner: None).service(echo)


def test_the_repr_of_a_stack_shows_its_layers_in_order():
    store = InMemorySessionStore()
    service = (
        ServiceBuilder()
        .layer(TimeoutLayer(30))
        .layer(stamina.retry(on=OSError))
        .layer(RetryLayer(on=ConnectionError, attempts=2))
        .layer(memory_over(store, session_id="user_123"))
        .layer(marking("a"))
        .service(echo)
    )

    assert repr(service) == (
        "TimeoutLayer(seconds=30) > retry.retry_decorator > "
        "RetryLayer(on=<class 'ConnectionError'>, attempts=2, timeout=None) > "
        "MemoryLayer(InMemorySessionStore(sessions=0), session_id='user_123', "
        "overlap='serialize') > marking.layer > echo"
    )


def test_the_repr_looks_through_a_layer_without_functools_wraps():
    def logged(inner):
        async def call(request):
            return await inner(request)

        return call

    service = ServiceBuilder().layer(TimeoutLayer(1)).layer(logged).service(echo)
    assert repr(service).endswith(".logged > echo")


def test_a_session_id_function_is_shown_by_its_name():
    def user_of(request):
        return request["user"]

    store = InMemorySessionStore()
    layer = memory_over(store, session_id=user_of)
    assert "user_of, overlap='serialize'" in repr(layer)
