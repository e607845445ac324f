"""Stream leases: an open stream owns the session lock of its turn.

1. The lease records the tasks that read the stream. A stream may be read by several tasks, one
   after another, and is often finished by another task than began it.
2. A lease without a reader that will go on is abandoned: the stream was garbage-collected, all
   its readers have finished, or its reader waits for a lock that this lease blocks. `deadlock`
   decides this, since the last case needs the locks.
"""

from __future__ import annotations

from typing import Any, final
from weakref import ref

from tower_memory._memory.tasks import current_task, is_finished


@final
class StreamLease:
    """The readers of one open stream.

    Attributes:
        is_collected: Whether the stream was garbage-collected.
    """

    __slots__ = ("_readers", "is_collected")

    def __init__(self) -> None:
        self.is_collected = False
        self._readers: list[ref[Any]] = []

    def add_reader(self) -> None:
        """Record that the current task reads the stream."""
        task = current_task()
        if not self._readers or self._readers[-1]() is not task:
            self._readers = [*(each for each in self._readers if each() is not task), ref(task)]

    def active_reader(self) -> Any | None:
        """Return the latest reader that has not finished, or None."""
        readers = (each() for each in reversed(self._readers))
        return next((reader for reader in readers if not is_finished(reader)), None)
