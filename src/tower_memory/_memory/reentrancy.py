"""Re-entrancy: which turns the running code is part of.

A context variable holds these turns. Tasks inherit it, so a tool that a turn starts in a task of
its own is part of the turn as well. A turn that has released its lock no longer counts.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from tower_memory._memory.lock_state import LockHolder

_turns: ContextVar[tuple[LockHolder, ...]] = ContextVar("tower_memory_turns", default=())


def enclosing_turns() -> tuple[LockHolder, ...]:
    """Return the turns that the running code is part of, outermost first."""
    return tuple(turn for turn in _turns.get() if not turn.is_released)


@contextmanager
def inside(turn: LockHolder) -> Generator[None]:
    """Make the code in this context, and the tasks that it starts, part of *turn*."""
    token = _turns.set((*enclosing_turns(), turn))
    try:
        yield
    finally:
        with suppress(ValueError):  # finalized in another context, which has its own value
            _turns.reset(token)
