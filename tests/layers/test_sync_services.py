"""Services that are not async: refused before the call if that is certain, paid for once if not."""

from __future__ import annotations

import operator
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from types import GeneratorType, coroutine
from typing import Any, Generic, NamedTuple, Protocol, TypedDict, TypeVar

import anyio
import pytest
from openai.types.chat import ChatCompletion

from helpers.internals import SyncServiceError
from helpers.layers import memory_over
from helpers.messages import user
from helpers.services import at_once, repeat_last
from tower_memory import (
    InMemorySessionStore,
    LoadSession,
    MemoryLayer,
    RetryLayer,
    SaveError,
    SaveSession,
    TimeoutLayer,
)
from tower_memory.bridges import AsyncioLayer

REQUEST = [user("Hi")]
LAYERS = {
    "retry": RetryLayer(on=Exception),
    "retry by function": RetryLayer(on=at_once),
    "timeout": TimeoutLayer(60),
    "memory": memory_over(InMemorySessionStore()),
    "bridge": AsyncioLayer(),
}
each_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
T = TypeVar("T")


class Reply(NamedTuple):
    text: str


class Fields(TypedDict):
    text: str


class Later(Generic[T]):
    def __init__(self, request):
        self.request = request

    def __await__(self):
        return repeat_last(self.request).__await__()


class Readable(Protocol):
    def read(self) -> str: ...


class Anything(Any):
    """A class of objects whose attributes are not known, such as a mock."""


@dataclass
class Plain:
    reply: str = "Hello"

    def __call__(self, request) -> str:
        return self.reply

    def ask(self, request) -> str:
        return self.reply


class Async:
    async def __call__(self, request):
        return "Hello"

    async def ask(self, request):
        return "Hello"

    @classmethod
    def make(cls, request):
        return cls()(request)


class MadeAwaitable:
    def __new__(cls, request):
        return repeat_last(request)


def returning(annotation, result=None):
    """Return a plain function with a return annotation."""

    def ask(request):
        return result

    ask.__annotations__["return"] = annotation
    return ask


def yielding(request):
    yield "Hello"


async def yielding_later(request):
    yield "Hello"


class Yielding:
    def __call__(self, request):
        yield "Hello"


def in_thread(function):
    """Decorate a synchronous function so that it runs in a thread, with its annotations."""

    @wraps(function)
    def run(request):
        return anyio.to_thread.run_sync(function, request)

    return run


def plain(request):
    return repeat_last(request)


@coroutine
def from_generator(request):
    yield from ()
    return "Hello"


NOT_ASYNC = {
    "annotated function": returning(str),
    "partial": partial(returning(int), "Hi"),
    "object": Plain(),
    "method": Plain().ask,
    "pydantic class": ChatCompletion,
    "class": Plain,
}


@each_layer
@pytest.mark.parametrize("service", NOT_ASYNC.values(), ids=NOT_ASYNC)
def test_a_service_that_is_certainly_not_async_is_refused_before_the_call(layer, service):
    """A return annotation or a class that rules out an awaitable is enough."""
    with pytest.raises(TypeError, match=r"service must be async, and .* returns .*; write it with"):
        layer(service)


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (str, "str"),
        ("dict[str, str]", "dict"),
        (None, "NoneType"),
        (Reply, "Reply"),
        (Fields, "Fields"),
        (list[Any], "list"),
        (type[Any], "type"),
        ("ChatCompletion | list[str] | None", r"ChatCompletion \| list \| NoneType"),
    ],
)
def test_an_annotation_that_rules_out_an_awaitable_is_named(annotation, shown):
    """All members of a union must be classes without ``__await__``."""
    with pytest.raises(TypeError, match=rf"ask returns {shown}; write it with async def"):
        TimeoutLayer(1)(returning(annotation))


@pytest.mark.parametrize(
    "service", [yielding, yielding_later, Yielding(), partial(yielding), Yielding().__call__]
)
def test_a_generator_function_is_refused_before_the_call(service):
    """A call of it would only make a generator."""
    with pytest.raises(TypeError, match=r"service must return its response, and .* yields"):
        TimeoutLayer(1)(service)


ASYNC = {
    "plain function": plain,
    "partial": partial(repeat_last),
    "partial of lambda": partial(lambda _system, request: repeat_last(request), "Be brief."),
    "object": Async(),
    "method": Async().ask,
    "class method": Async.make,
    "decorated": in_thread(lambda _request: "Hello"),
    "decorated, with its annotations": in_thread(returning(str, "Hello")),
    "generator-based coroutine": from_generator,
    "class that makes awaitables": MadeAwaitable,
    "class with await": Later,
    "built-in": partial(operator.call, repeat_last),
}


@pytest.mark.parametrize("service", ASYNC.values(), ids=ASYNC)
async def test_every_callable_that_returns_an_awaitable_is_a_service(service):
    """A plain function may return an awaitable, whatever `functools.wraps` copied to it."""
    assert await TimeoutLayer(60)(service)(REQUEST) in ("Hello", "re: Hi")


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        object,
        T,
        Readable,
        Anything,
        GeneratorType,
        Iterator[str],
        AsyncIterator[str],
        Callable[[], str],
        Awaitable[str],
        Later[str],
        "Later[str] | str",
        "Unknown",
    ],
)
async def test_an_annotation_that_may_mean_an_awaitable_is_not_refused(annotation):
    """A subclass, or another class that fits the annotation, may have an ``__await__``."""
    service = TimeoutLayer(60)(returning(annotation, repeat_last(REQUEST)))
    assert await service(REQUEST) == "re: Hi"


@each_layer
@pytest.mark.parametrize("inside", [[], [TimeoutLayer(60)]], ids=["directly", "inside a timeout"])
async def test_the_reply_of_a_service_that_is_not_async_is_on_the_error(layer, inside):
    """The service is called once, and its paid reply is not lost."""
    calls = []

    def model(request):
        calls.append(request)
        return "Hello"

    service = model
    for each in [*inside, layer]:
        service = each(service)

    with pytest.raises(TypeError, match=r"model returned str, .*; write it with async") as caught:
        await service(REQUEST)
    assert caught.value.response == "Hello"
    assert calls == [REQUEST]


async def test_a_turn_of_a_service_that_is_not_async_is_not_saved(store):
    """The session stays as it was."""
    with pytest.raises(SyncServiceError):
        await memory_over(store)(lambda _request: "Hello")(REQUEST)
    assert await store.load("s") == []


async def test_an_outer_retry_does_not_call_a_service_that_is_not_async_again():
    """The error passes through the layers between the retry and the service unchanged."""
    calls = []
    memory = memory_over(InMemorySessionStore())
    with pytest.raises(SyncServiceError):
        await RetryLayer(on=at_once)(memory(calls.append))(REQUEST)
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["load", "save", "window"])
def test_a_load_save_or_window_that_is_certainly_not_async_is_refused(name):
    """The layer cannot be made."""
    store = InMemorySessionStore()
    parameters = {"load": LoadSession(store), "save": SaveSession(store), name: returning(list)}
    with pytest.raises(TypeError, match=f"{name} must be async, and .*ask returns list"):
        MemoryLayer(**parameters, session_id="s", store=store)


async def test_a_load_or_save_that_is_not_async_is_named_when_it_is_called(store):
    """The load is called before the model; a failed save carries the reply and the turn."""

    async def load(session_id):
        return await store.load(session_id)

    wrong = MemoryLayer(lambda _id: 7, repeat_last, session_id="s", store=store)
    with pytest.raises(TypeError, match="must be async, and .*lambda.* returned int"):
        await wrong(repeat_last)(REQUEST)

    wrong = MemoryLayer(load, lambda _turn: 7, session_id="s", store=store)
    with pytest.raises(SaveError, match=r"must be async, and .*lambda.* returned int") as caught:
        await wrong(repeat_last)(REQUEST)
    assert caught.value.response == "re: Hi"
    assert caught.value.turn is not None


def test_the_error_keeps_its_response_in_another_process():
    """It can be pickled, as all errors of the library can."""
    error = SyncServiceError("message", response="Hello")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.response) == ("message", "Hello")
