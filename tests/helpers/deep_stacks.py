"""Calls at a stack depth close to Python's recursion limit."""

from __future__ import annotations

import sys


def nested(depth, innermost=None):
    """Return *innermost* in *depth* lists."""
    value = innermost
    for _ in range(depth):
        value = [value]
    return value


def frames():
    """Return the depth of the caller's stack."""
    frame, depth = sys._getframe(1), 0
    while frame:
        frame, depth = frame.f_back, depth + 1
    return depth


def call_deep(function, left):
    """Return the result of *function*, called with *left* frames left on the stack."""
    deeper = sys.getrecursionlimit() - frames() - left

    def descend(steps):
        return descend(steps - 1) if steps > 0 else function()

    return descend(deeper)


async def await_deep(function, left):
    """Return the result of the coroutine function, called with *left* frames left on the stack."""
    deeper = sys.getrecursionlimit() - frames() - left

    async def descend(steps):
        return await (descend(steps - 1) if steps > 0 else function())

    return await descend(deeper)
