"""Searching the sessions of an SQL store."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, NamedTuple, Protocol

from tower_memory._capabilities.pages import Page, check_page, from_cursor, to_cursor
from tower_memory._capabilities.search import SearchHit
from tower_memory._items import Item
from tower_memory._search_words import query_words
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sql.sql_store import PagePlace, SqlStore


class Wanted(NamedTuple):
    """A search: its words, and the parameters of `SessionSearch.search`.

    Attributes:
        words: The words of the query.
        prefix: The text that the session ids start with.
        limit: Maximum number of hits.
        after: The place of the last hit of the page before, or None.
        reader: Reads the text of turns.
    """

    words: frozenset[str]
    prefix: str
    limit: int
    after: PagePlace | None
    reader: TextReader[Any]


class SearchStatements(Protocol):
    """The statements of `SessionSearch`, as a function of a connection.

    Attributes:
        PLACE_LENGTH: Count of the numbers of a hit's place.
    """

    @property
    def PLACE_LENGTH(self) -> int: ...  # noqa: N802 - a constant of a module

    def search(
        self, connection: Any, /, wanted: Wanted
    ) -> Generator[None, None, tuple[list[SearchHit], PagePlace | None]]:
        """Return the hits, the newest first, and the place of the next page, or None."""
        ...


class Searching(SqlStore[Item]):
    """The method of `SessionSearch`."""

    _search: SearchStatements

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that have every word of *text* (`SessionSearch.search`)."""
        words = frozenset(query_words(text))
        check_page(prefix, limit)
        query = ("search", prefix, *sorted(words))
        place = None
        if after is not None:
            place = from_cursor(after, query, length=self._search.PLACE_LENGTH)

        wanted = Wanted(words, prefix, limit, place, self._reader)
        search = partial(self._search.search, wanted=wanted)
        hits, following = await self._read_in_steps(search)
        return Page(hits, next=None if following is None else to_cursor(query, following))
