"""Wait for a condition."""

from __future__ import annotations

import anyio


async def until(condition):
    """Let other tasks run until *condition()* is true; fail after a minute."""
    with anyio.fail_after(60):
        while not condition():
            await anyio.lowlevel.checkpoint()
