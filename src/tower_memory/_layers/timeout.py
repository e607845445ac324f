"""A layer that cancels calls that take too long.

1. The time covers everything inside the layer. Outside a retry, it limits all attempts together;
   inside a retry, it limits each attempt.
2. If the time is up while a turn is being saved, the turn is saved and its reply is returned (see
   `MemoryLayer`). The layer then raises nothing.
3. A stream is covered only until the inner service has returned it, not while it is read.

`ServiceBuilder` explains where to put the layer in a stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, final

import anyio

from tower_memory._arguments import check_seconds
from tower_memory._calls import call_service, check_inner
from tower_memory._service import Req, Res, Service, stack


@final
@dataclass(frozen=True, slots=True)
class TimeoutLayer:
    """Cancels a call after *seconds* and raises `TimeoutError`.

    Around memory, the time covers the load and the model call, and never cuts off the save.
    `ServiceBuilder` compares the orders of timeout, memory and retry.

    >>> import anyio
    >>> from tower_memory import TimeoutLayer
    >>> async def slow(request: str) -> None:
    ...     await anyio.sleep_forever()
    >>> anyio.run(TimeoutLayer(0.01)(slow), "Hi")
    Traceback (most recent call last):
    TimeoutError: the call took longer than 0.01 seconds

    Args:
        seconds: Maximum duration of a call; ``math.inf`` for no limit. With 0, a call is cancelled
            as soon as it waits.

    Raises:
        TypeError: *seconds* is not a number. When called: the service is not async; the error has
            its reply in the attribute ``response``.
        ValueError: *seconds* is negative, NaN, or finite and above 2**40.
        TimeoutError: A call took longer. The service raises this, not the layer.
    """

    seconds: float

    def __post_init__(self) -> None:
        check_seconds("seconds", self.seconds)

    def __call__(self, inner: Service[Req, Res], /) -> Timeout[Req, Res]:
        check_inner(inner)
        return Timeout(inner, self)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Timeout(Generic[Req, Res]):
    """A service that cancels *inner* after a time; made by `TimeoutLayer`."""

    inner: Service[Req, Res]
    layer: TimeoutLayer

    async def __call__(self, request: Req, /) -> Res:
        seconds = self.layer.seconds
        with anyio.fail_after(seconds, reason=f"the call took longer than {seconds} seconds"):
            return await call_service(self.inner, request)

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)
