"""Reads in steps, as the reader thread runs them.

1. A read that meets a passing fault begins anew, until the patience of its call has passed. A read
   changes nothing, so it may be repeated. Reads that are between two steps share the connection: if
   it is lost, one of them opens a new one, and the others use that at once.
2. If several loads begin in one visit of the thread, one statement asks for the versions of all
   their cached sessions (`find_versions`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from typing import Final, Generic, TypeVar, final
from uuid import UUID

import psycopg

from tower_memory._history import History
from tower_memory._items import Item
from tower_memory._stores.clock import Patience
from tower_memory._stores.jobs import Job
from tower_memory._stores.postgres import faults
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.link import Connection, Link
from tower_memory._stores.postgres.rows import PostgresRows, versions_of
from tower_memory._stores.session_cache import SessionCache, Version
from tower_memory._stores.sql import reads
from tower_memory._stores.sql.reads import Wanted

T = TypeVar("T")

_RETRY_DELAY: Final = 0.02
"""Seconds that the thread waits before a read begins anew after a fault."""


class Read(Generic[T]):
    """A read in steps: a function of the link that returns a generator.

    Args:
        operation: Function of the connection that returns the steps.
        patience: The patience of the caller, which begins anew with each step.
    """

    def __init__(
        self, operation: Callable[[Connection], Generator[None, None, T]], patience: Patience
    ) -> None:
        self.patience = patience
        self._operation = operation
        self._deadline = patience.deadline

    def __call__(self, link: Link) -> Generator[None, None, T]:
        """Run the steps of the operation (rule 1)."""
        while True:
            connection = None
            try:
                connection = link.connection(self.patience.deadline)
                return (yield from self._steps(connection))
            except psycopg.Error as error:
                is_lost = faults.is_lost(error)
                if connection is not None and is_lost:
                    connection.close()  # not the link's: it may be open again, for other reads
                if self._deadline.has_passed() or not faults.may_pass(error):
                    raise
            yield  # the other jobs of the visit run before the wait
            if not (is_lost and link.is_open):
                time.sleep(_RETRY_DELAY)

    def _steps(self, connection: Connection) -> Generator[None, None, T]:
        """Run the steps; each has the patience of the caller anew."""
        steps = self._operation(connection)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            yield
            connection.deadline = self.patience.begin_step()


@final
class Load(Read[History[Item]]):
    """A load of a session through the session cache.

    Attributes:
        session: The hash of the session id.
        versions: The versions of sessions that `find_versions` has found just before, or None.
    """

    def __init__(self, wanted: Wanted[Item], cache: SessionCache, patience: Patience) -> None:
        super().__init__(self._load, patience)
        self.session = hash_of(wanted.session_id)
        self.versions: dict[UUID, Version] | None = None
        self._wanted = wanted
        self._cache = cache

    def is_cached(self) -> bool:
        """Return True if the session is in the cache, so that the load begins with its version."""
        return self._cache.has(self._wanted.codec.key, self._wanted.session_id)

    def _load(self, connection: Connection) -> Generator[None, None, History[Item]]:
        versions, self.versions = self.versions, None  # if the load begins anew, they are outdated
        rows = PostgresRows(connection, self._wanted.session_id, versions)
        return reads.load(rows, self._cache, self._wanted)


def find_versions(link: Link, jobs: Sequence[Job[Link]]) -> None:
    """Give the loads of the *jobs* the versions of their cached sessions (rule 2)."""
    loads = [job.operation for job in jobs if isinstance(job.operation, Load)]
    cached = [load for load in loads if load.is_cached()]
    if len(cached) < 2:  # noqa: PLR2004 - a single load asks itself
        return

    try:
        connection = link.connection(cached[0].patience.deadline)
        versions = versions_of(connection, {load.session for load in cached})
    except Exception:  # noqa: BLE001 - each load meets the fault itself, and handles it
        return
    for load in cached:
        load.versions = versions
