"""The catalogue of a store in memory: listing, describing, annotating and forking sessions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from anyio.lowlevel import checkpoint

from tower_memory._capabilities.catalog import (
    SessionInfo,
    check_annotate,
    check_fork,
)
from tower_memory._capabilities.pages import Page, check_page, from_cursor, to_cursor
from tower_memory._errors import TurnMissing
from tower_memory._items import Item
from tower_memory._metadata import encode_metadata, merge_encoded, metadata_dict
from tower_memory._store import check_session_id
from tower_memory._stores.fork_errors import existing_target, unknown_source
from tower_memory._stores.in_memory.memory_store import MemoryStore
from tower_memory._stores.in_memory.sessions import StoredSession
from tower_memory._stores.records import to_datetime

_MOST_SORTED: Final = 2000
"""Maximum number of sessions with a prefix that are sorted for a page. With more, all sessions are
walked in the order of their activity."""


class Cataloguing(MemoryStore[Item]):
    """The methods of `SessionCatalog`."""

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions, the last active first (`SessionCatalog.sessions`)."""
        check_page(prefix, limit)
        query = ("sessions", prefix)
        place = None if after is None else from_cursor(after, query, length=1)[0]
        await checkpoint()

        found = self._page(prefix, limit + 1, place)
        following = to_cursor(query, (found[limit - 1].active,)) if found[limit:] else None
        return Page(map(self._info, found[:limit]), next=following)

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session, or None (`SessionCatalog.describe`)."""
        check_session_id(session_id)
        await checkpoint()
        session = self._sessions.get(session_id)
        return self._info(session) if session else None

    async def annotate(
        self,
        session_id: str,
        metadata: Mapping[str, Any],
        *,
        create: bool = False,
        overwrite: bool = True,
    ) -> SessionInfo | None:
        """Merge *metadata* into the session's metadata (`SessionCatalog.annotate`)."""
        check_annotate(session_id, metadata)
        added = encode_metadata(metadata, session_id)
        await checkpoint()

        session = self._sessions.get(session_id)
        if session is None:
            if not create:
                return None
            session = self._sessions.create(session_id)

        session.metadata = merge_encoded(session.metadata, added, session_id, overwrite=overwrite)
        return self._info(session)

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session (`SessionCatalog.fork`)."""
        check_fork(session_id, new_session_id, before)
        await checkpoint()

        source = self._sessions.get(session_id)
        if source is None:
            raise unknown_source(session_id)
        if before is not None and before not in source.held:
            raise TurnMissing(session_id, turn_id=before)
        if self._sessions.get(new_session_id) is not None:
            raise existing_target(new_session_id)

        turns = len(source.content.turns) if before is None else source.index_of(before)
        forked = self._sessions.change(new_session_id)
        forked.content = source.content.first_turns(turns)
        forked.held = dict.fromkeys(
            (turn.turn_id for turn in forked.content.turns), forked.revision
        )
        forked.metadata = source.metadata
        forked.origin = (session_id, source.first_number)
        return self._info(forked)

    def _page(self, prefix: str, limit: int, after: int | None) -> Sequence[StoredSession]:
        """Return at most *limit* sessions that were active before the place *after*."""
        if self._sessions.count_with(prefix) <= _MOST_SORTED:
            found = self._named(prefix, after)
        else:
            walked = self._sessions.last_active_first(after)
            found = (session for session in walked if session.session_id.startswith(prefix))
        return [*islice(found, min(limit, sys.maxsize))]

    def _named(self, prefix: str, after: int | None) -> Iterator[StoredSession]:
        """Return the sessions with *prefix* that were active before the place *after*, in order."""
        named = (self._sessions.get(each) for each in self._sessions.ids_with(prefix))
        found = [each for each in named if each and (after is None or each.active < after)]
        return iter(sorted(found, key=lambda session: -session.active))

    def _info(self, session: StoredSession) -> SessionInfo:
        origin = session.origin and self._sessions.get(session.origin[0])
        is_there = origin and session.origin and origin.first_number == session.origin[1]
        return SessionInfo(
            session.session_id,
            to_datetime(session.created_at),
            to_datetime(session.updated_at),
            session.revision,
            session.content.end,
            len(session.content.turns),
            metadata_dict(session.metadata),
            origin.session_id if origin and is_there else None,
        )
