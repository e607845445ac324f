"""Erasing and scrubbing an open file, step by step.

A call that uses the file several times runs as the steps of one operation, so the file closes only
after the last step (`OpenFile.in_steps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from tower_memory._capabilities.erasure import Erasure, check_erase
from tower_memory._items import Item
from tower_memory._stores.clock import Deadline
from tower_memory._stores.sqlite import erasure
from tower_memory._stores.sqlite.connections import Connections
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.file_store import FileStore
from tower_memory._stores.sqlite.open_file import OpenFile
from tower_memory._stores.sqlite.search_index import empty_index, find_index


class Erasing(FileStore[Item]):
    """The methods of `SessionErasure`."""

    async def erase(
        self,
        *,
        session_id: str | None = None,
        prefix: str | None = None,
        inactive_since: datetime | None = None,
        expected_revision: int | None = None,
    ) -> Erasure:
        """Remove whole sessions for good, and return their numbers (`SessionErasure.erase`).

        Their rows in tables that were taken over are removed, too. The write-ahead log is emptied
        as for `clear`.
        """
        check_erase(session_id, prefix, inactive_since, expected_revision)
        before = None if inactive_since is None else erasure.latest_change(inactive_since)
        file = await self._open_file()
        if session_id is not None:
            return await _erase_sessions(
                file, [session_id], before, self.busy_timeout, expected_revision
            )
        return await _erase_prefix(file, prefix or "", before, self.busy_timeout)

    async def scrub(self) -> None:
        """Remove every byte of erased, cleared and replaced content (`SessionErasure.scrub`).

        A search index is built anew, the whole file is rewritten, and the write-ahead log is
        emptied. Writes wait while the file is rewritten: about a second for each 150 MB. It raises
        `SessionError` if another process has locked the file, or reads from an old state of it, for
        longer than *busy_timeout*.
        """
        file = await self._open_file()

        async def steps() -> None:
            if await file.read(find_index, self.busy_timeout) is not None:
                await file.write(None, empty_index, self.busy_timeout)
                await self._build_index(file)
            await _rewrite(file, self.busy_timeout)

        await file.in_steps(steps, self.busy_timeout)


async def _erase_sessions(
    file: OpenFile,
    session_ids: Sequence[str],
    updated_before: int | None,
    patience: float,
    expected_revision: int | None = None,
) -> Erasure:
    """Erase sessions in one commit; see `erasure.erase`."""
    erase = partial(
        erasure.erase,
        session_ids=session_ids,
        updated_before=updated_before,
        expected_revision=expected_revision,
    )
    session_id = session_ids[0] if len(session_ids) == 1 else None
    return await file.write(session_id, erase, patience, after_commit=empty_log)


async def _erase_prefix(
    file: OpenFile, prefix: str, updated_before: int | None, patience: float
) -> Erasure:
    """Erase all sessions whose ids start with *prefix*, some in each commit."""

    async def steps() -> Erasure:
        total, last = Erasure(0, 0, 0), ""
        while True:
            find = partial(
                erasure.find_sessions, prefix=prefix, after=last, updated_before=updated_before
            )
            found = await file.read(find, patience)
            if not found:
                return total
            erased = await _erase_sessions(file, found, updated_before, patience)
            total = total.plus(erased)
            last = found[-1]

    return await file.in_steps(steps, patience)


async def _rewrite(file: OpenFile, patience: float) -> None:
    """Rewrite the file, then empty its log; each step waits at most *patience* seconds."""
    for step in (erasure.rewrite_file, erasure.empty_log):
        await file.run_on_writer(partial(step, deadline=Deadline(patience)), patience)


def empty_log(_connections: Connections, connection: Connection, removed: object) -> None:
    """Empty the log after a commit, unless there was no session to clear."""
    if removed is not False:
        erasure.try_to_empty_log(connection)
