"""Erasing the sessions of a Postgres store, one in each transaction."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

from tower_memory._capabilities.erasure import Erasure, check_erase
from tower_memory._items import Item
from tower_memory._stores.postgres import erasure
from tower_memory._stores.postgres.server_store import ServerStore


class Erasing(ServerStore[Item]):
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

        If the connection is lost during a commit, the call raises `SessionError`, and the session
        is perhaps erased: erase it again to be sure.
        """
        check_erase(session_id, prefix, inactive_since, expected_revision)
        before = erasure.latest_change(inactive_since)
        if session_id is None:
            return await self._erase_prefix(prefix or "", before)

        erase = partial(
            erasure.erase,
            session_id=session_id,
            updated_before=before,
            expected_revision=expected_revision,
        )
        return await self._write_once(erase, session_id)

    async def scrub(self) -> None:
        """Raise `SessionError`: a program cannot remove the last bytes from a Postgres server.

        The guide `tower_memory.postgres` says how the server's operator removes them.
        """
        msg = (
            "scrub() cannot remove the bytes of erased content from a "
            'Postgres server, but its operator can: see "Erased bytes" in the guide '
            "tower_memory.postgres"
        )
        raise self._address.error(msg)

    async def _erase_prefix(self, prefix: str, updated_before: int) -> Erasure:
        """Erase all sessions whose ids start with *prefix*."""
        database = await self._open()  # the same for all steps: a closed store stays closed
        total, last = Erasure(0, 0, 0), UUID(int=0)
        while True:
            find = partial(
                erasure.find_sessions, prefix=prefix, after=last, updated_before=updated_before
            )
            found = await database.read_once(find)
            if not found:
                return total

            for last, session_id in found:  # noqa: B007 - the last one is used
                erase = partial(erasure.erase, session_id=session_id, updated_before=updated_before)
                erased = await database.write(session_id, erase, may_repeat=False)
                total = total.plus(erased)
