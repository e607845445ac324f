"""Tasks, for session locks and stream leases: the current task, and how tasks are related.

A task is asyncio's task object, or the coroutine of a trio task. Code that a bridge runs in another
event loop counts as the task that called the bridge.
"""

from __future__ import annotations

import asyncio
from typing import Any

from anyio import TaskInfo, get_current_task, get_running_tasks

from tower_memory._portal import is_asyncio, remote_task


def current_task() -> Any:
    """Return the task that runs now, or the task of another event loop that it works for."""
    if (task := remote_task.get()) is not None:
        return task
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no asyncio loop is running
        task = None
    return get_current_task().coro if task is None else task


def is_finished(task: Any) -> bool:
    """Return True if *task* has ended; None stands for a task that was garbage-collected."""
    if task is None or isinstance(task, asyncio.Task):
        return task is None or task.done()
    return getattr(task, "cr_frame", task) is None


def is_started_beside(task: Any) -> bool:
    """Return True if the current task belongs to a task group that was opened outside *task*.

    Return False if the current task is *task*, if a task group inside *task* waits for the current
    task, or if the task groups are not known.
    """
    if task is None or task is current_task() or remote_task.get() is not None:
        return False

    # Trio's root task has all tasks as descendants, even those that a thread has started.
    has_roots = is_asyncio()
    running = (each for each in get_running_tasks() if has_roots or each.parent_id is not None)
    tasks: dict[int | None, TaskInfo] = {each.id: each for each in running}
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else task
    other = next((each for each in tasks.values() if each.coro is coroutine), None)
    if other is None:
        return False

    # Task groups form trees of tasks. Code inside *task* may have started another tree.
    ancestors = _ancestors(get_current_task(), tasks)
    return other.id not in ancestors and ancestors[-1] == _ancestors(other, tasks)[-1]


def _ancestors(task: TaskInfo, tasks: dict[int | None, TaskInfo]) -> list[int]:
    """Return the ids of *task* and of the tasks whose task groups it runs in, outermost last."""
    ids = [task.id]
    while (parent := tasks.get(task.parent_id)) is not None:
        task = parent
        ids.append(task.id)
    return ids
