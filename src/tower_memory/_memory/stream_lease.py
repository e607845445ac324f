"""Stream leases: an open stream owns the session lock of its turn.

1. The lease records the tasks that read the stream. Several tasks may read a stream, one after
   another. Often one task begins to read it, and another task finishes it.
2. The task that made the call counts as a reader. This task may hand the stream over unread and
   finish, as a task of ``asyncio.gather`` does. The lease then waits for the first reader, at most
   30 seconds from the reply on. The limit is needed because the library cannot know which task has
   an unread stream: that task may itself want the lock.
3. A lease is abandoned if no reader will go on. This is so if the stream was garbage-collected, if
   all its readers have finished and rule 2 does not apply, or if its reader waits for a lock that
   this lease blocks. `deadlock` decides this, since the last case needs the locks.
"""

from __future__ import annotations

from typing import Any, final
from weakref import ref

from anyio import current_time

from tower_memory._memory.tasks import current_task, is_finished

_UNREAD_SECONDS = 30.0
"""Seconds that the lease of a stream that was handed over unread waits for the first reader."""


@final
class StreamLease:
    """The readers of one open stream. The task that made the call creates it.

    Attributes:
        is_collected: Whether the stream was garbage-collected.
        is_begun: Whether a task has begun to read, enter or close the stream.
    """

    __slots__ = ("_read_by", "_readers", "is_begun", "is_collected")

    def __init__(self) -> None:
        self.is_begun = False
        self.is_collected = False
        self._readers: list[ref[Any]] = []
        self._read_by = current_time() + _UNREAD_SECONDS

    def add_reader(self) -> None:
        """Record that the current task reads the stream."""
        task = current_task()
        if not self._readers or self._readers[-1]() is not task:
            self._readers = [*(each for each in self._readers if each() is not task), ref(task)]

    def active_reader(self) -> Any | None:
        """Return the latest reader that has not finished, or None."""
        readers = (each() for each in reversed(self._readers))
        return next((reader for reader in readers if not is_finished(reader)), None)

    def waits_for_first_reader(self) -> bool:
        """Return True if no task has begun to read the stream, and the 30 seconds are not over."""
        return not self.is_begun and current_time() < self._read_by
