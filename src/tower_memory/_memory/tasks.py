"""Tasks: the unit in which session locks and stream leases think.

A task is asyncio's task object, or the coroutine of a trio task. Code that a bridge runs in another
event loop counts as the task that called the bridge.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from anyio import get_current_task

from tower_memory._portal import remote_task


def current_task() -> Any:
    """Return the task that runs now, or the task of another event loop that it works for."""
    if (task := remote_task.get()) is not None:
        return task
    with suppress(RuntimeError):  # no asyncio loop is running
        if (task := asyncio.current_task()) is not None:
            return task
    return get_current_task().coro


def is_finished(task: Any) -> bool:
    """Return True if *task* has ended; None stands for a task that was garbage-collected."""
    if task is None or isinstance(task, asyncio.Task):
        return task is None or task.done()
    return getattr(task, "cr_frame", task) is None
