"""A layer that repeats failed calls. It is built on `stamina <https://stamina.hynek.me>`_.

1. The errors to retry have no default, because only the caller knows which calls are safe to
   repeat.
2. Only an `Exception` is retried. Cancellation is never retried, regardless of ``on``.
3. A service that is not async is never called again: the service has answered, and the error
   carries the reply.
4. If the last attempt fails, its error is raised unchanged.

`ServiceBuilder` explains where to put the layer in a stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from types import ModuleType
from typing import Generic, TypeAlias, final

from tower_memory._arguments import check_int, check_seconds, shown
from tower_memory._calls import SyncServiceError, call_service, check_inner
from tower_memory._service import Req, Res, Service, stack

RetryOn: TypeAlias = (
    type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float]
)
"""Errors to retry: a class, several classes, or a function of the error."""


@final
@dataclass(frozen=True, slots=True)
class RetryLayer:
    """Calls the service again if it raises an error of *on*, after a growing delay.

    stamina computes the delays: 0.1 seconds before the first retry, doubled for each further retry,
    plus up to 1 second of jitter, and at most 5 seconds in all. stamina logs each retry, without
    the request.

    If a paid reply could not be saved (`SaveError`), it is better to save the turn again than to
    call the model again. To retry only the save, put this layer around `SaveSession`:
    ``RetryLayer(on=SessionError)(SaveSession(store))``. `ServiceBuilder` compares the orders of
    memory and retry.

    >>> import anyio
    >>> from tower_memory import RetryLayer
    >>> failures = [ConnectionError()]
    >>> async def flaky(request: str) -> str:
    ...     if failures:
    ...         raise failures.pop()
    ...     return "Hello"
    >>> anyio.run(RetryLayer(on=ConnectionError)(flaky), "Hi")
    'Hello'

    Args:
        on: Errors to retry: an exception class, a tuple of exception classes, or a function of the
            error that returns True, False, or the seconds to wait before the next attempt.
        attempts: Maximum number of calls, including the first; 1 or more.
        timeout: Seconds after which no further attempt starts, or None for no limit. A running
            attempt is not cut off.

    Raises:
        ImportError: stamina is not installed.
        TypeError: *on* is neither exception classes nor a function, *attempts* is not an integer,
            or *timeout* is not a number. When called: the service is not async; the error has its
            reply in the attribute ``response``, and is never retried.
        ValueError: *on* is empty, *attempts* is below 1, or *timeout* is negative.
    """

    _: KW_ONLY
    on: RetryOn
    attempts: int = 3
    timeout: float | None = None

    def __post_init__(self) -> None:
        _check_on(self.on)
        check_int("attempts", self.attempts, least=1)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        _import_stamina()

    def __call__(self, inner: Service[Req, Res], /) -> Retry[Req, Res]:
        check_inner(inner)
        return Retry(inner, self)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Retry(Generic[Req, Res]):
    """A service that repeats failed calls of *inner*; made by `RetryLayer`."""

    inner: Service[Req, Res]
    layer: RetryLayer

    async def __call__(self, request: Req, /) -> Res:
        # Unlike stamina.retry, a caller does not pass the request to stamina's logging hooks.
        call = _import_stamina().AsyncRetryingCaller(
            attempts=self.layer.attempts, timeout=self.layer.timeout
        )
        response: Res = await call(_restrict(self.layer.on), call_service, self.inner, request)
        return response

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def _import_stamina() -> ModuleType:
    """Import stamina; raise with an install command if it is missing."""
    try:
        import stamina  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        msg = "RetryLayer needs stamina: pip install stamina, or 'tower-memory[retry]'"
        raise ImportError(msg) from error
    return stamina


def _check_on(on: object) -> None:
    """Refuse *on* unless it is an exception class, a tuple of them, or a function."""
    classes = on if isinstance(on, tuple) else (on,)
    if not isinstance(on, (type, tuple)) and callable(on):
        return
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            msg = f"on must be exceptions to retry or a function of one, got {shown(each)}"
            raise TypeError(msg)
    if not classes:
        msg = "on must name an exception to retry, got ()"
        raise ValueError(msg)


def _restrict(on: RetryOn) -> RetryOn:
    """Return a function that applies *on*, except to errors that are never retried (rules 2 and 3).

    The restriction is needed because stamina passes cancellation to a function as well.
    """

    def should_retry(error: BaseException) -> bool | float:
        if not isinstance(error, Exception) or isinstance(error, SyncServiceError):
            return False
        return isinstance(error, on) if isinstance(on, (type, tuple)) else on(error)

    return should_retry
