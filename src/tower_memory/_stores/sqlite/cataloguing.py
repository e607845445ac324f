"""The catalogue of a file: listing, describing, annotating and forking sessions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tower_memory._capabilities.catalog import (
    SessionInfo,
    check_annotate,
    check_fork,
)
from tower_memory._capabilities.pages import Page, check_page, from_cursor, to_cursor
from tower_memory._items import Item
from tower_memory._metadata import encode_metadata
from tower_memory._store import check_session_id
from tower_memory._stores.sqlite import catalog
from tower_memory._stores.sqlite.file_store import FileStore


class Cataloguing(FileStore[Item]):
    """The methods of `SessionCatalog`."""

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions, the last active first (`SessionCatalog.sessions`)."""
        check_page(prefix, limit)
        query = ("sessions", prefix)
        place = None
        if after is not None:
            place = catalog.WalkPlace(*from_cursor(after, query, length=2))

        page = partial(catalog.page, prefix=prefix, limit=limit, after=place)
        file = await self._open_file()
        infos, following = await file.read(page, self.busy_timeout)
        return Page(infos, next=None if following is None else to_cursor(query, following))

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session, or None (`SessionCatalog.describe`)."""
        check_session_id(session_id)
        describe = partial(catalog.describe, session_id=session_id)
        file = await self._open_file()
        return await file.read(describe, self.busy_timeout, session_id)

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
        annotate = partial(
            catalog.annotate,
            session_id=session_id,
            added=added,
            create=create,
            overwrite=overwrite,
        )
        file = await self._open_file()
        return await file.write(session_id, annotate, self.busy_timeout)

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session, in one commit (`SessionCatalog.fork`)."""
        check_fork(session_id, new_session_id, before)
        fork = partial(
            catalog.fork,
            session_id=session_id,
            new_session_id=new_session_id,
            before=before,
            reader=self._reader,
        )
        file = await self._open_file()
        return await file.write(session_id, fork, self.busy_timeout)
