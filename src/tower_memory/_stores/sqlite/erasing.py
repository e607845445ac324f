"""Erasing and scrubbing an open file, step by step.

A call that uses the file several times runs as the steps of one operation, so the file closes only
after the last step (`OpenFile.in_steps`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tower_memory._capabilities.erasure import Erasure
from tower_memory._stores.clock import Deadline
from tower_memory._stores.sqlite import erasure
from tower_memory._stores.sqlite.connections import Connections
from tower_memory._stores.sqlite.file_guard import Connection
from tower_memory._stores.sqlite.open_file import OpenFile


async def erase_sessions(
    file: OpenFile, session_ids: Sequence[str], updated_before: int | None, patience: float
) -> Erasure:
    """Erase sessions in one commit; see `erasure.erase`."""
    erase = partial(erasure.erase, session_ids=session_ids, updated_before=updated_before)
    session_id = session_ids[0] if len(session_ids) == 1 else None
    return await file.write(session_id, erase, patience, after_commit=empty_log)


async def erase_prefix(
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
            erased = await erase_sessions(file, found, updated_before, patience)
            total = Erasure(*map(sum, zip(total, erased, strict=True)))
            last = found[-1]

    return await file.in_steps(steps, patience)


async def scrub(file: OpenFile, patience: float) -> None:
    """Rewrite the file, then empty its log; each step waits at most *patience* seconds."""

    async def steps() -> None:
        for step in (erasure.rewrite_file, erasure.empty_log):
            await file.run_on_writer(partial(step, deadline=Deadline(patience)), patience)

    await file.in_steps(steps, patience)


def empty_log(_connections: Connections, connection: Connection, removed: object) -> None:
    """Empty the log after a commit, unless there was no session to clear."""
    if removed is not False:
        erasure.try_to_empty_log(connection)
