"""Searching the sessions of a file."""

from __future__ import annotations

from functools import partial

from tower_memory._capabilities.pages import Page, check_page, from_cursor, to_cursor
from tower_memory._capabilities.search import SearchHit
from tower_memory._items import Item
from tower_memory._search_words import query_words
from tower_memory._stores.sqlite.file_store import FileStore
from tower_memory._stores.sqlite.search import Wanted, search


class Searching(FileStore[Item]):
    """The method of `SessionSearch`."""

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that have every word of *text* (`SessionSearch.search`)."""
        words = frozenset(query_words(text))
        check_page(prefix, limit)
        query = ("search", prefix, *sorted(words))
        place = None
        if after is not None:
            created_at, row = from_cursor(after, query, length=2)
            place = created_at, row

        wanted = Wanted(words, prefix, limit, place, self._reader)
        file = await self._open_file()
        hits, following = await file.read_in_steps(
            partial(search, wanted=wanted), self.busy_timeout
        )
        return Page(hits, next=None if following is None else to_cursor(query, following))
