"""Cancellation of a coroutine at each of its suspensions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar, final

from anyio import CancelScope
from anyio.lowlevel import current_token

T = TypeVar("T")


@final
class CancelAtSuspension(Generic[T]):
    """Awaits *awaited*, and calls *cancel* when it suspends for the nth time.

    Attributes:
        reached: True once *awaited* has suspended n times.
    """

    def __init__(self, awaited: Awaitable[T], nth: int, cancel: Callable[[], object]) -> None:
        self.reached = False
        self._awaited = awaited
        self._left = nth
        self._cancel = cancel

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine: Any = self._awaited.__await__()
        resume, value = coroutine.send, None

        while True:
            try:
                suspended = resume(value)
            except StopIteration as stop:
                result: T = stop.value
                return result

            self._left -= 1
            if self._left == 0:
                self.reached = True
                self._cancel()

            # Pass on the value or the error, such as a cancellation, that the event loop sends.
            try:
                resume, value = coroutine.send, (yield suspended)
            except BaseException as error:  # noqa: BLE001 - raised inside the coroutine
                resume, value = coroutine.throw, error


async def cancel_by_scope(awaited: Awaitable[object], nth: int) -> bool:
    """Await *awaited* in a scope that is cancelled at its nth suspension.

    Return True if *awaited* suspended n times.
    """
    scope = CancelScope()
    cancelling = CancelAtSuspension(awaited, nth, scope.cancel)
    with scope:
        await cancelling
    return cancelling.reached


async def cancel_natively(awaited: Awaitable[object], nth: int) -> bool:
    """Await *awaited* in an asyncio task that is cancelled at its nth suspension.

    Return True if *awaited* suspended n times.
    """

    async def run() -> None:
        await cancelling

    # The lambda looks the task up when it is called; the task does not exist yet.
    cancelling = CancelAtSuspension(awaited, nth, lambda: task.cancel())  # noqa: PLW0108
    task = asyncio.create_task(run())
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()

    if not task.cancelled():
        task.result()  # raises the error of a failed task
    return cancelling.reached


def ways_to_cancel() -> list[Callable[[Awaitable[object], int], Awaitable[bool]]]:
    """Return the ways to cancel that the current event loop has."""
    on_asyncio = isinstance(current_token().native_token, asyncio.AbstractEventLoop)
    return [cancel_by_scope, cancel_natively] if on_asyncio else [cancel_by_scope]
