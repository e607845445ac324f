"""The layer that ends a call which takes too long.

1. The time covers everything inside the layer: outside a retry it is the time for all attempts,
   inside a retry the time for each.
2. A turn that is being saved when the time is up is saved and its reply returned (see
   `MemoryLayer`): the layer then raises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, final

import anyio

from tower_memory._arguments import check_seconds
from tower_memory._service import Req, Res, Service, check_inner, stack


@final
@dataclass(frozen=True, slots=True)
class TimeoutLayer:
    """Cancels a call after *seconds* and raises `TimeoutError`.

    >>> async def slow(request: str) -> str:
    ...     await anyio.sleep_forever()
    >>> anyio.run(TimeoutLayer(0.01)(slow), "Hi")
    Traceback (most recent call last):
    TimeoutError: it took longer than 0.01 seconds

    Args:
        seconds: How long the call may take; 0 for not at all, ``math.inf`` for ever.

    Raises:
        TypeError: *seconds* is no number.
        ValueError: *seconds* is negative or not a number (NaN).
        TimeoutError: When called: it took longer.
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
    """A service that gives up after a while; made by `TimeoutLayer`."""

    inner: Service[Req, Res]
    layer: TimeoutLayer

    async def __call__(self, request: Req, /) -> Res:
        seconds = self.layer.seconds
        with anyio.fail_after(seconds, reason=f"it took longer than {seconds} seconds"):
            return await self.inner(request)

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)
