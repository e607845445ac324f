"""Services, layers, and stacks of layers around a service.

1. A service is any ``async def (request) -> response``.
2. A layer is any function from a service to a service, usually of the same types.
3. The layer added first is outermost: it sees the request first and the response last.

No base class is needed: a bare ``async def`` is a service, and a decorator is a layer. The names
and the order are those of Rust's `tower <https://docs.rs/tower>`_.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import (
    getattr_static,
    iscoroutinefunction,
    isfunction,
    ismethod,
)
from types import FunctionType
from typing import Any, Protocol, TypeVar, final

from tower_memory._arguments import shown

Req = TypeVar("Req")
Res = TypeVar("Res")
Req_contra = TypeVar("Req_contra", contravariant=True)
Res_co = TypeVar("Res_co", covariant=True)


class Service(Protocol[Req_contra, Res_co]):
    """Any async callable of one positional argument, the request, that returns one response.

    The response may be a stream (see `tower_memory.streams`).
    """

    async def __call__(self, request: Req_contra, /) -> Res_co: ...


class Layer(Protocol[Req, Res]):
    """Any callable that takes a service, *inner*, and returns a service of the same types.

    >>> import anyio
    >>> from tower_memory import Service
    >>> def shouting(inner: Service[str, str]) -> Service[str, str]:
    ...     async def shout(request: str) -> str:
    ...         return (await inner(request)).upper()
    ...
    ...     return shout
    >>> async def greet(name: str) -> str:
    ...     return f"Hello {name}"
    >>> anyio.run(shouting(greet), "Ann")
    'HELLO ANN'
    """

    def __call__(self, inner: Service[Req, Res], /) -> Service[Req, Res]: ...


@final
@dataclass(frozen=True, slots=True)
class ServiceBuilder:
    """Collects layers and puts them around a service.

    ``ServiceBuilder().layer(a).layer(b).service(f)`` is ``a(b(f))``: the layer added first is
    outermost. The ``repr`` of the service shows the stack from the outermost layer to the innermost
    service:

    >>> from typing import Any
    >>> import anyio
    >>> from tower_memory import InMemorySessionStore, MemoryLayer
    >>> from tower_memory import RetryLayer, ServiceBuilder, TimeoutLayer
    >>> async def ask(messages: list[Any]) -> str:  # a model that needs no network
    ...     return f"Messages given: {len(messages)}"
    >>> chat = (
    ...     ServiceBuilder()
    ...     .layer(TimeoutLayer(60))
    ...     .layer(MemoryLayer.over(InMemorySessionStore(), session_id="user_123"))
    ...     .layer(RetryLayer(on=ConnectionError, attempts=3))
    ...     .service(ask)
    ... )
    >>> chat  # doctest: +NORMALIZE_WHITESPACE
    TimeoutLayer(seconds=60)
    > MemoryLayer(InMemorySessionStore(sessions=0), session_id='user_123', overlap='serialize')
    > RetryLayer(on=<class 'ConnectionError'>, attempts=3, timeout=None)
    > ask
    >>> anyio.run(chat, [{"role": "user", "content": "Hello"}])
    'Messages given: 1'
    >>> anyio.run(chat, [{"role": "user", "content": "Hello again"}])
    'Messages given: 3'

    **The order of memory and retry**

    - Memory outside retry, as above: the history is loaded once, and the turn is saved once, after
      the attempt that succeeded. A failed save does not call the model again.
    - Memory inside retry: each attempt loads the history again. A failed save calls the model
      again, unless ``on`` leaves `SaveError` out.
    - To retry only the save, put the retry around `SaveSession`. This is safe, because
      appending a turn again changes nothing:
      ``MemoryLayer(LoadSession(store), RetryLayer(on=SessionError)(SaveSession(store)), ...)``.

    A `tower_memory.resumable.ResumableLayer` goes outermost; its guide gives the reasons.

    **The order of timeouts**

    - A timeout outside retry limits all attempts together; a timeout inside retry limits each
      attempt.
    - A timeout outside memory covers the load too. Once the model has answered, the turn is saved
      and the reply is returned, even if the time is up. The save is cut off, with `SaveError`, only
      *grace* seconds after the time is up (see `MemoryLayer`).
    - A timeout covers a stream only until the inner service has returned it, not while it is read.
    - A retry, too, covers a stream only until it is returned. An error during reading goes to the
      reader of the stream.

    **Errors of the stack above**

    - `SaveError`: the model answered, and the turn may not be saved. The error carries the response
      and the turn; appending ``error.turn`` again is safe, however often. ``error.turn`` is None
      only if the reply could not be read.
    - `TurnExists`, only with ``turn_id=``: this request was answered before, or by another call at
      the same time. The error carries the stored items, unless a limit leaves them out, and the
      response if the model was called.
    - `TimeoutError` of the `TimeoutLayer`: the time was up before the model answered; nothing was
      saved.

    **Layers of your own** see only the new messages if they are outside memory, and the history too
    if they are inside. A decorator for async functions, such as ``stamina.retry(...)``, is a
    layer too.

    A builder never changes: ``layer`` returns a new builder, so a builder can build any number of
    services. Each layer keeps the types of the service that it wraps. Apply a layer that changes
    types by hand: ``a(change(b(f)))``.

    Attributes:
        layers: Layers from the outermost to the innermost.
    """

    layers: tuple[Layer[Any, Any], ...] = ()

    def __post_init__(self) -> None:
        for layer in self.layers:
            _check_callable("layer", layer)

    def layer(self, layer: Layer[Any, Any]) -> ServiceBuilder:
        """Return a new builder with *layer* inside the layers of this one.

        Raises:
            TypeError: *layer* is not callable.
        """
        return ServiceBuilder((*self.layers, layer))

    def service(self, service: Service[Req, Res]) -> Service[Req, Res]:
        """Return *service* with the layers around it; without layers, *service* itself.

        Raises:
            TypeError: *service*, or the result of a layer, is not callable.
        """
        built = _check_callable("service", service)
        for layer in reversed(self.layers):
            built = _check_callable(f"the result of {layer!r}", layer(_as_function(built)))
        return built


T = TypeVar("T", bound=Callable[..., Any])


def _check_callable(name: str, value: T) -> T:
    """Return *value*; refuse it unless it is callable."""
    if not callable(value):
        msg = f"{name} must be callable, got {shown(value)}"
        raise TypeError(msg)
    return value


def _as_function(service: Service[Req, Res]) -> Service[Req, Res]:
    """Return *service* as a callable that ``inspect`` reports as a coroutine function.

    A decorator for functions, such as ``stamina.retry``, treats an object with an async
    ``__call__`` as synchronous, and then silently does nothing. The decorator does recognise the
    bound ``__call__`` method of the object.
    """
    if not iscoroutinefunction(service) and iscoroutinefunction(service.__call__):
        return service.__call__
    return service


def inner_of(service: object) -> object | None:
    """Return the service that *service* wraps, or None.

    The wrapped service is found only by an explicit reference: the attribute ``inner`` of an
    object, the ``__wrapped__`` that `functools.wraps` sets, or the object that a method is bound
    to.
    """
    if ismethod(service):
        return service.__self__

    for name in ("inner", "__wrapped__"):
        found = attribute(service, name)
        is_own_method = ismethod(found) and found.__self__ is service  # a method called inner
        if found is not None and not is_own_method:
            return found

    return None


def service_chain(service: object) -> Iterator[object]:
    """Yield *service*, the service inside it, and so on to the innermost; each only once."""
    seen: set[int] = set()
    found: object | None = service
    while found is not None and id(found) not in seen:
        yield found
        seen.add(id(found))
        found = inner_of(found)


def attribute(value: object, name: str) -> object | None:
    """Return the attribute *name* of *value*, or None; ignore ``__getattr__``, as in mocks."""
    return None if getattr_static(value, name, None) is None else getattr(value, name)


def stack(layer: object, inner: object) -> str:
    """Return the ``repr`` of a service that *layer* made around *inner*."""
    return f"{layer!r} > {describe(inner)}"


def describe(service: object) -> str:
    """Return a readable name of *service*: ``RetryLayer(...) > MemoryLayer(...) > ask``."""
    if type(service) is partial:
        return describe(service.func)  # the bound arguments may be secret
    if ismethod(service) and service.__name__ == "__call__":
        return describe(service.__self__)
    if isfunction(service) and (inner := _shown_inside(service)) is not None:
        # "shouting.<locals>.shout" is shown as "shouting"
        *layer, _ = service.__code__.co_qualname.split(".<locals>.")
        return f"{'.'.join(layer)} > {describe(inner)}"
    return getattr(service, "__qualname__", None) or repr(service)


def _shown_inside(function: FunctionType) -> object | None:
    """Return the service to show inside *function*, or None.

    In addition to `inner_of`, look at a closure variable called ``inner``. The name is only a
    convention: good enough for a ``repr``, but not to find a store.
    """
    if (wrapped := inner_of(function)) is not None:
        return wrapped

    code, cells = function.__code__, function.__closure__ or ()
    variables = dict(zip(code.co_freevars, cells, strict=True))
    return variables["inner"].cell_contents if "inner" in variables else None
