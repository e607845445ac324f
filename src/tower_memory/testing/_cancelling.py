"""Cancelling a coroutine at each of its suspensions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar, final

from anyio import CancelScope
from anyio.lowlevel import current_token

T = TypeVar("T")


@final
class Suspended(Generic[T]):
    """*awaited*, with *cancel* called as soon as it is suspended the nth time.

    Attributes:
        reached: Whether it was suspended so often.
    """

    def __init__(self, awaited: Awaitable[T], nth: int, cancel: Callable[[], object]) -> None:
        self.reached = False
        self._awaited = awaited
        self._left = nth
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, T]:
        steps: Any = self._awaited.__await__()
        step, value = steps.send, None
        while True:
            try:
                suspended = step(value)
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._left -= 1
            if self._left == 0:
                self.reached = True
                self._cancel()
            try:
                step, value = steps.send, (yield suspended)
            except BaseException as error:  # noqa: BLE001 - it goes where it was meant to go
                step, value = steps.throw, error


async def cancel_by_scope(awaited: Awaitable[object], nth: int) -> bool:
    """Await it in a scope that is cancelled at its nth suspension; whether it had so many."""
    scope = CancelScope()
    suspended = Suspended(awaited, nth, scope.cancel)
    with scope:
        await suspended
    return suspended.reached


async def cancel_natively(awaited: Awaitable[object], nth: int) -> bool:
    """The same in a task of asyncio's own, cancelled its way."""

    async def run() -> None:
        await suspended

    suspended = Suspended(awaited, nth, lambda: task.cancel())  # noqa: PLW0108 - not yet there
    task = asyncio.create_task(run())
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    if not task.cancelled():
        task.result()  # which raises what it raised
    return suspended.reached


def ways_to_cancel() -> list[Callable[[Awaitable[object], int], Awaitable[bool]]]:
    """Those of the event loop that runs."""
    on_asyncio = isinstance(current_token().native_token, asyncio.AbstractEventLoop)
    return [cancel_by_scope, cancel_natively] if on_asyncio else [cancel_by_scope]
