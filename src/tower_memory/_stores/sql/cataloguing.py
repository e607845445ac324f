"""The catalogue of an SQL store: listing, describing, annotating and forking sessions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from tower_memory._capabilities.catalog import (
    SessionInfo,
    check_annotate,
    check_fork,
)
from tower_memory._capabilities.pages import Page, check_page, from_cursor, to_cursor
from tower_memory._items import Item
from tower_memory._metadata import encode_metadata
from tower_memory._store import check_session_id
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sql.sql_store import PagePlace, SqlStore


class CatalogStatements(Protocol):
    """The statements of `SessionCatalog`, as functions of a connection.

    Attributes:
        PLACE_LENGTH: Count of the numbers of a session's place.
    """

    @property
    def PLACE_LENGTH(self) -> int: ...  # noqa: N802 - a constant of a module

    def page(
        self, connection: Any, /, prefix: str, limit: int, after: PagePlace | None
    ) -> tuple[list[SessionInfo], PagePlace | None]:
        """Return at most *limit* sessions, the last active first, and the place of the next page.

        *after* is the place of the last session of the page before; None for the first page. The
        place of the next page is None if there is none.
        """
        ...

    def describe(self, connection: Any, /, session_id: str) -> SessionInfo | None:
        """Return the description of a session; None if there is no such session."""
        ...

    def annotate(
        self,
        connection: Any,
        /,
        session_id: str,
        added: bytes | None,
        *,
        create: bool,
        overwrite: bool,
    ) -> SessionInfo | None:
        """Merge *added*, the JSON of a mapping or None, into the metadata of a session.

        Return the new description, or None if there is no such session and *create* is False.
        """
        ...

    def fork(
        self,
        connection: Any,
        /,
        session_id: str,
        new_session_id: str,
        before: str | None,
        *,
        reader: TextReader[Any],
    ) -> SessionInfo:
        """Copy the turns before the turn *before*, or all turns, to a new session.

        Raises:
            SessionError: See `SessionCatalog.fork`.
            TurnMissing: See `SessionCatalog.fork`.
            SessionConflict: See `SessionCatalog.fork`.
        """
        ...


class Cataloguing(SqlStore[Item]):
    """The methods of `SessionCatalog`."""

    _catalog: CatalogStatements

    async def sessions(
        self, *, prefix: str = "", limit: int = 50, after: str | None = None
    ) -> Page[SessionInfo]:
        """Return a page of the sessions, the last active first (`SessionCatalog.sessions`)."""
        check_page(prefix, limit)
        query = ("sessions", prefix)
        place = None
        if after is not None:
            place = from_cursor(after, query, length=self._catalog.PLACE_LENGTH)

        page = partial(self._catalog.page, prefix=prefix, limit=limit, after=place)
        infos, following = await self._read(page)
        return Page(infos, next=None if following is None else to_cursor(query, following))

    async def describe(self, session_id: str) -> SessionInfo | None:
        """Return the description of a session, or None (`SessionCatalog.describe`)."""
        check_session_id(session_id)
        describe = partial(self._catalog.describe, session_id=session_id)
        return await self._read(describe, session_id)

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
            self._catalog.annotate,
            session_id=session_id,
            added=added,
            create=create,
            overwrite=overwrite,
        )
        return await self._write(annotate, session_id)

    async def fork(
        self, session_id: str, new_session_id: str, *, before: str | None = None
    ) -> SessionInfo:
        """Copy a session to a new session, in one commit (`SessionCatalog.fork`)."""
        check_fork(session_id, new_session_id, before)
        fork = partial(
            self._catalog.fork,
            session_id=session_id,
            new_session_id=new_session_id,
            before=before,
            reader=self._reader,
        )
        return await self._write_once(fork, session_id)
