"""A service, a layer, and the stack they make.

1. A service is any ``async def (request) -> response``.
2. A layer is any function from a service to a service of the same types.
3. The layer added first is outermost: it sees the request first, the response last.

Nothing here has to be inherited from: a bare ``async def`` is a service, a decorator is a
layer. The names and the order are those of Rust's `tower <https://docs.rs/tower>`_.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import (
    getattr_static,
    isasyncgenfunction,
    iscoroutinefunction,
    isfunction,
    ismethod,
)
from typing import Any, Protocol, TypeVar, final

Req = TypeVar("Req")
Res = TypeVar("Res")
Req_contra = TypeVar("Req_contra", contravariant=True)
Res_co = TypeVar("Res_co", covariant=True)


class Service(Protocol[Req_contra, Res_co]):
    """Anything that can be awaited with one request and gives one response."""

    async def __call__(self, request: Req_contra, /) -> Res_co: ...


class Layer(Protocol[Req, Res]):
    """Anything that wraps a service, *inner*, into a service of the same types.

    >>> def shouting(inner: Service[str, str]) -> Service[str, str]:
    ...     async def shout(request: str) -> str:
    ...         return (await inner(request)).upper()
    ...
    ...     return shout
    """

    def __call__(self, inner: Service[Req, Res], /) -> Service[Req, Res]: ...


@final
@dataclass(frozen=True, slots=True)
class ServiceBuilder:
    """Collects layers, then puts them around a service.

    ``ServiceBuilder().layer(a).layer(b).service(f)`` is ``a(b(f))``. A builder never
    changes: ``layer`` returns a new one, so a builder can be kept and used for many
    services. The layers keep the types of what they wrap; a layer that changes types is
    applied by hand, ``a(change(b(f)))``.

    >>> import anyio
    >>> def twice(inner):
    ...     async def call(request):
    ...         return await inner(await inner(request))
    ...     return call
    >>> async def increment(request: int) -> int:
    ...     return request + 1
    >>> anyio.run(ServiceBuilder().layer(twice).layer(twice).service(increment), 0)
    4
    """

    layers: tuple[Layer[Any, Any], ...] = ()

    def __post_init__(self) -> None:
        for layer in self.layers:
            _callable("layer", layer)

    def layer(self, layer: Layer[Any, Any]) -> ServiceBuilder:
        """A builder with *layer* inside those it already has.

        Raises:
            TypeError: *layer* is not callable.
        """
        return ServiceBuilder((*self.layers, layer))

    def service(self, service: Service[Req, Res]) -> Service[Req, Res]:
        """*service* with the layers around it; with no layers, *service* itself.

        Raises:
            TypeError: *service*, or what a layer made of it, is not callable.
        """
        built = _callable("service", service)
        for layer in reversed(self.layers):
            built = _callable(f"what {layer!r} returned", layer(_as_function(built)))
        return built


T = TypeVar("T", bound=Callable[..., Any])


def _callable(name: str, value: T) -> T:
    if not callable(value):
        msg = f"{name} must be callable, got {value!r}"
        raise TypeError(msg)
    return value


def check_inner(inner: object) -> None:
    """Refuse what is no service, for the layers that take one."""
    if not callable(inner):
        msg = f"service must be callable, got {inner!r}"
        raise TypeError(msg)
    if isasyncgenfunction(inner):
        name = describe(inner)
        msg = f"service must return what it gives, and {name} yields; define it inside, return it"
        raise TypeError(msg)


def _as_function(service: Service[Req, Res]) -> Service[Req, Res]:
    """*service* as something that ``inspect`` knows for a coroutine function.

    Decorators written for functions, ``stamina.retry`` among them, take a callable object for
    a synchronous function and then silently do nothing. Its bound ``__call__`` they know.
    """
    if not iscoroutinefunction(service) and iscoroutinefunction(service.__call__):
        return service.__call__
    return service


def inner_of(service: object) -> object | None:
    """What *service* is wrapped around, as far as conventions tell, or None.

    That is its ``inner`` (of an object, or of a function inside a layer), what `functools.wraps`
    noted, or the object that a method is bound to.
    """
    if ismethod(service):
        return service.__self__
    for name in ("inner", "__wrapped__"):
        found = attribute(service, name)
        own = ismethod(found) and found.__self__ is service  # a method called inner
        if found is not None and not own:
            return found
    if isfunction(service):
        cells = dict(zip(service.__code__.co_freevars, service.__closure__ or (), strict=True))
        return cells["inner"].cell_contents if "inner" in cells else None
    return None


def attribute(value: object, name: str) -> object | None:
    """What *value* has under *name*, or None; not what a mock would make up on the spot."""
    return None if getattr_static(value, name, None) is None else getattr(value, name)


def stack(layer: object, inner: object) -> str:
    """How a service made by *layer* shows itself and everything inside it."""
    return f"{layer!r} > {describe(inner)}"


def describe(service: object) -> str:
    """*service* as a person would name it: ``RetryLayer(...) > MemoryLayer(...) > ask``."""
    if ismethod(service) and service.__name__ == "__call__":
        return describe(service.__self__)
    if isfunction(service) and (inside := inner_of(service)) is not None:
        *layer, _ = service.__code__.co_qualname.split(".<locals>.")
        return f"{'.'.join(layer)} > {describe(inside)}"
    return getattr(service, "__qualname__", None) or repr(service)
