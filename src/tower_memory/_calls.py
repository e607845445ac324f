"""Checks of services, and calls of them.

1. A service is async: a call returns an awaitable. A plain function that returns an awaitable is a
   service too.
2. A callable that certainly is no service is refused before it is called. Three things make this
   certain: the callable's code yields, the callable is a class without ``__await__``, or its return
   annotation names only such classes. The annotations of a function with ``__wrapped__`` prove
   nothing, because `functools.wraps` copies them.
3. In all other cases, only a call shows that a callable is not async. The error then carries the
   returned value, since it may be a paid reply.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from inspect import (
    CO_ITERABLE_COROUTINE,
    isabstract,
    isasyncgenfunction,
    isawaitable,
    iscoroutinefunction,
    isgeneratorfunction,
    ismethod,
)
from types import FunctionType, GeneratorType, UnionType
from typing import Any, Final, Union, final, get_args, get_origin, get_type_hints

from tower_memory._arguments import shown
from tower_memory._service import Req, Res, Service

_REMEDY: Final = (
    "write it with async def, and run a synchronous client in a thread: "
    "await anyio.to_thread.run_sync(...)"
)


@final
class SyncServiceError(TypeError):
    """Raised when a service has returned its response instead of an awaitable.

    Attributes:
        response: The value that the service returned.
    """

    def __init__(self, message: str, *, response: Any = None) -> None:
        super().__init__(message)
        self.response = response


def call_service(service: Service[Req, Res], request: Req) -> Awaitable[Res]:
    """Call *service* and return the awaitable of its response.

    Raises:
        SyncServiceError: *service* is not async. The error carries the returned value.
    """
    result: Any = service(request)
    if isawaitable(result):
        return result

    msg = (
        f"a service must be async, and {name_of(service)} returned {type(result).__name__}, "
        f"which is the response of this error; {_REMEDY}"
    )
    raise SyncServiceError(msg, response=result)


def check_inner(inner: object) -> None:
    """Refuse *inner* unless it can be a service. Each layer calls this on its inner service.

    Raises:
        TypeError: *inner* is not callable, or is certainly not async.
    """
    if not callable(inner):
        msg = f"service must be callable, got {shown(inner)}"
        raise TypeError(msg)
    check_async("service", inner)


def check_async(name: str, service: object) -> None:
    """Refuse *service* if it is certain that a call returns no awaitable.

    Raises:
        TypeError: *service* yields, or its annotation or class shows that it is not async.
    """
    function = _function_of(service)
    if function is not None and _yields(function):
        msg = (
            f"{name} must return its response, and {name_of(service)} yields; to stream, define "
            "the generator inside an async service and return it"
        )
        raise TypeError(msg)

    returned = _class_result(service) if function is None else _annotated_result(function)
    if returned is not None:
        msg = f"{name} must be async, and {name_of(service)} returns {returned}; {_REMEDY}"
        raise TypeError(msg)


def name_of(service: object) -> str:
    """Return the name of *service* without its arguments and attributes, which may be content."""
    if type(service) is partial:
        return name_of(service.func)
    return getattr(service, "__qualname__", None) or type(service).__name__


def _function_of(service: object) -> FunctionType | None:
    """Return the Python function that a call of *service* runs, or None."""
    if type(service) is partial:
        return _function_of(service.func)
    if isinstance(service, type):
        return None
    if ismethod(service):
        service = service.__func__
    function: object = service if isinstance(service, FunctionType) else type(service).__call__
    return function if isinstance(function, FunctionType) else None


def _yields(function: FunctionType) -> bool:
    """Return True if a call of *function* only makes a generator, which cannot be awaited."""
    is_coroutine = function.__code__.co_flags & CO_ITERABLE_COROUTINE  # made by types.coroutine
    return isasyncgenfunction(function) or (isgeneratorfunction(function) and not is_coroutine)


def _class_result(service: object) -> str | None:
    """Return the name of the class *service* if its instances cannot be awaited; otherwise None.

    None also stands for a class that makes its instances in its own way.
    """
    if not isinstance(service, type) or hasattr(service, "__await__"):
        return None
    makers: tuple[object, object] = type(service).__call__, service.__new__
    is_usual = makers == (type.__call__, object.__new__)
    return service.__qualname__ if is_usual else None


def _annotated_result(function: FunctionType) -> str | None:
    """Return the return annotation of *function* if it rules out an awaitable, otherwise None."""
    if iscoroutinefunction(function) or hasattr(function, "__wrapped__"):
        return None

    try:
        returned = get_type_hints(function)["return"]
    except Exception:  # noqa: BLE001 - there is no annotation, or it cannot be evaluated
        return None

    is_union = get_origin(returned) in (Union, UnionType)
    members = get_args(returned) if is_union else (returned,)
    kinds = [get_origin(member) or member for member in members]
    return " | ".join(kind.__name__ for kind in kinds) if all(map(_is_plain, kinds)) else None


def _is_plain(kind: Any) -> bool:
    """Return True if *kind* is a concrete class whose instances cannot be awaited."""
    if not isinstance(kind, type) or hasattr(kind, "__await__"):
        return False
    is_general = kind in (object, GeneratorType) or Any in kind.__mro__ or isabstract(kind)
    return not is_general and not getattr(kind, "_is_protocol", False)
