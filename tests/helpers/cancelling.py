"""Cancel an operation at each of its suspensions."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tower_memory.testing._cancellation import CancelAtSuspension


async def by_scope(operation, nth):
    """Run *operation* and cancel it at its nth suspension with an anyio scope.

    Return its result, whether it was cancelled, and whether it had an nth suspension.
    """
    with anyio.CancelScope() as scope:
        suspended = CancelAtSuspension(operation, nth, scope.cancel)
        return await suspended, False, suspended.reached
    return None, True, True


async def natively(operation, nth):
    """Do the same with asyncio's own cancellation."""

    async def run():
        suspended = CancelAtSuspension(operation, nth, asyncio.current_task().cancel)
        return await suspended, False, suspended.reached

    try:
        return await asyncio.create_task(run())
    except asyncio.CancelledError:
        return None, True, True


async def natively_twice(operation, nth):
    """Do the same, and cancel again at the next suspension, as an impatient caller does."""

    async def run():
        cancel = asyncio.current_task().cancel
        suspended = CancelAtSuspension(operation, nth, cancel)
        return await CancelAtSuspension(suspended, nth + 1, cancel), False, suspended.reached

    try:
        return await asyncio.create_task(run())
    except asyncio.CancelledError:
        return None, True, True


CANCELLATIONS = [
    pytest.param("asyncio", by_scope, id="asyncio"),
    pytest.param("trio", by_scope, id="trio"),
    pytest.param("asyncio", natively, id="natively"),
    pytest.param("asyncio", natively_twice, id="natively twice"),
]
every_cancellation = pytest.mark.parametrize(("anyio_backend", "cancelled"), CANCELLATIONS)

MOST_ATTEMPTS = 20
"""Number of attempts after which an operation that has not suspended once never suspends."""


async def cancel_at_every_suspension(make_operation, cancelled, check):
    """Cancel what *make_operation(attempt)* makes at its nth suspension, for every n; then *check*.

    Return the number of suspensions that were tried.
    """
    nth, attempt = 1, 0
    while True:
        attempt += 1
        outcome, was_cancelled, reached = await cancelled(make_operation(attempt), nth)
        await check(attempt, outcome, was_cancelled)

        if reached:
            nth += 1
        elif nth > 1:
            return nth
        else:  # on a busy machine, a thread may have done its work before its caller suspends
            assert attempt < MOST_ATTEMPTS, "the operation never suspends"
