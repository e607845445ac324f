"""Re-entrancy: which turns the running code is part of.

1. A context variable contains these turns. Tasks inherit the variable, so a tool that a turn starts
   in a task of its own is part of the turn as well. A turn that has released its lock no longer
   counts.
2. A turn may start a worker that serves other turns, too. The worker inherits the variable, but the
   turn does not wait for the worker's end. If the worker's task group was opened outside the turn's
   task, the worker runs beside the turn, and may wait for the turn. The turn may still wait for the
   worker, through a queue or a thread. Therefore the worker's wait has a limit (session_lock.py).
3. The library cannot know whether a turn waits for a bare asyncio task, for a task of an
   ``asyncio.TaskGroup``, or for a task of a task group that the turn's own task has opened. Such a
   task counts as part of the turn: a wrong error is better than a turn that waits for ever. A
   task that is started with an empty `contextvars.Context` is part of no turn.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any, NamedTuple, final
from weakref import ref

from tower_memory._memory.lock_state import LockHolder
from tower_memory._memory.tasks import current_task, is_started_beside


class _Part(NamedTuple):
    """A turn that code is part of, and the task that runs this code."""

    turn: LockHolder
    task: ref[Any]


_turns: ContextVar[tuple[_Part, ...]] = ContextVar("tower_memory_turns", default=())


def enclosing_turns() -> tuple[LockHolder, ...]:
    """Return the turns that the running code is part of, outermost first."""
    return tuple(turn for turn, task in _inherited() if not is_started_beside(task()))


def inherited_turns() -> tuple[LockHolder, ...]:
    """Return all turns in which the running code was started, outermost first.

    These are the enclosing turns and the turns beside which the code runs (rule 2).
    """
    return tuple(part.turn for part in _inherited())


def join_turns(context: Context) -> None:
    """Make the code in the current context part of the turns of the code in *context*."""
    _turns.set(context.get(_turns, ()))


@final
class Inside:
    """Makes the code in this context, and the tasks that it starts, part of *turn*."""

    __slots__ = ("_token", "_turn")

    def __init__(self, turn: LockHolder) -> None:
        self._turn = turn

    def __enter__(self) -> None:
        part = _Part(self._turn, ref(current_task()))
        self._token = _turns.set((*_inherited(), part))

    def __exit__(self, *_exc_info: object) -> None:
        with suppress(ValueError):  # finalized in another context, which has its own value
            _turns.reset(self._token)


def _inherited() -> tuple[_Part, ...]:
    parts = _turns.get()
    return tuple(part for part in parts if not part.turn.is_released) if parts else parts
