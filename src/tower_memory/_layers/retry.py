"""The layer that calls again what failed. It rests on `stamina <https://stamina.hynek.me>`_.

1. There is no default for what is retried: only the caller knows what is safe to repeat.
2. Cancellation is never retried, whatever ``on`` says: only an `Exception` can be.
3. The last error comes through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from types import ModuleType
from typing import Generic, TypeAlias, final

from tower_memory._arguments import check_seconds, check_whole
from tower_memory._service import Req, Res, Service, check_inner, stack

RetryOn: TypeAlias = (
    type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float]
)


@final
@dataclass(frozen=True, slots=True)
class RetryLayer:
    """Calls the service again when it raises *on*, waiting longer each time.

    The waits are stamina's: 0.1 seconds, doubled for each further one up to 5, and up to 1 second
    of jitter on top. A reply that was paid for and could not be saved (`SaveError`) is best saved
    again, not asked for again: put the layer around `SaveSession` for that. stamina logs each
    retry, without the request.

    >>> import anyio
    >>> answers = iter([ConnectionError(), "Hello"])
    >>> async def flaky(request: str) -> str:
    ...     match next(answers):
    ...         case Exception() as error:
    ...             raise error
    ...         case answer:
    ...             return answer
    >>> anyio.run(RetryLayer(on=ConnectionError)(flaky), "Hi")
    'Hello'

    Args:
        on: An exception class, several of them, or a function of the exception that says whether
            to try again: True, False, or after how many seconds.
        attempts: How often to call at most, the first time included; 1 or more.
        timeout: Seconds after which no further attempt is begun, or None; it cuts none short.

    Raises:
        ImportError: stamina is not installed.
        TypeError: *on* is nothing of the kind, or *attempts* or *timeout* is no number.
        ValueError: *attempts* is below 1, or *timeout* is negative.
    """

    _: KW_ONLY
    on: RetryOn
    attempts: int = 3
    timeout: float | None = None

    def __post_init__(self) -> None:
        _check_on(self.on)
        check_whole("attempts", self.attempts, least=1)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        _stamina()

    def __call__(self, inner: Service[Req, Res], /) -> Retry[Req, Res]:
        check_inner(inner)
        return Retry(inner, self)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Retry(Generic[Req, Res]):
    """A service that tries again; made by `RetryLayer`."""

    inner: Service[Req, Res]
    layer: RetryLayer

    async def __call__(self, request: Req, /) -> Res:
        # A caller, not stamina.retry, which shows the request to whoever logs retries.
        call = _stamina().AsyncRetryingCaller(
            attempts=self.layer.attempts, timeout=self.layer.timeout
        )
        response: Res = await call(_never_cancellation(self.layer.on), self.inner, request)
        return response

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def _stamina() -> ModuleType:
    try:
        import stamina  # noqa: PLC0415 - an extra, imported where it is used
    except ImportError as error:
        msg = "RetryLayer needs stamina: pip install stamina, or 'tower-memory[retry]'"
        raise ImportError(msg) from error
    return stamina


def _check_on(on: object) -> None:
    classes = on if isinstance(on, tuple) else (on,)
    if not isinstance(on, (type, tuple)) and callable(on):
        return
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            msg = f"on must be exceptions to retry or a function of one, got {each!r}"
            raise TypeError(msg)
    if not classes:
        msg = "on must name an exception to retry, got ()"
        raise ValueError(msg)


def _never_cancellation(on: RetryOn) -> RetryOn:
    """*on*, not asked about cancellation: stamina would ask a function about everything."""
    if isinstance(on, (type, tuple)):
        return on

    def ask(error: BaseException) -> bool | float:
        return isinstance(error, Exception) and on(error)

    return ask
