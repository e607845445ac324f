"""Searching the sessions of a store in memory, by reading all their turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from anyio.lowlevel import checkpoint

from tower_memory._capabilities.pages import Page, check_page, from_cursor, to_cursor
from tower_memory._capabilities.search import SearchHit
from tower_memory._codec import decode_value
from tower_memory._excerpts import excerpt
from tower_memory._history import TurnInfo
from tower_memory._items import Item
from tower_memory._message_text import turn_text
from tower_memory._search_words import query_words, search_words
from tower_memory._stores.in_memory.memory_store import MemoryStore
from tower_memory._stores.in_memory.sessions import StoredSession, run_to_end
from tower_memory._stores.records import to_nanoseconds
from tower_memory._stores.search_text import join_texts

_TURNS_AT_ONCE: Final = 50
"""Number of turns that are read before other tasks may run."""


class _Candidate(NamedTuple):
    """A turn that may be a hit; candidates are ordered by time, session and number."""

    created_at: int
    first_number: int
    number: int
    session: StoredSession
    turn: TurnInfo

    @property
    def place(self) -> tuple[int, int, int]:
        """The place of the turn in the order of hits."""
        return self[:3]

    def hit(self, excerpt: str) -> SearchHit:
        """Return the turn as a hit."""
        turn = self.turn
        return SearchHit(self.session.session_id, turn.turn_id, turn.created_at, excerpt)


class Searching(MemoryStore[Item]):
    """The method of `SessionSearch`."""

    async def search(
        self, text: str, *, prefix: str = "", limit: int = 20, after: str | None = None
    ) -> Page[SearchHit]:
        """Return a page of the turns that have every word of *text* (`SessionSearch.search`)."""
        words = query_words(text)
        check_page(prefix, limit)
        query = ("search", prefix, *sorted(words))
        place = None if after is None else from_cursor(after, query, length=3)
        await checkpoint()

        found: list[tuple[_Candidate, SearchHit]] = []
        following = None
        for number, candidate in enumerate(self._candidates(prefix, place), 1):
            if not number % _TURNS_AT_ONCE:
                await checkpoint()

            content = self._text_of(candidate)
            if content is None or not words <= search_words(content):
                continue
            if len(found) == limit:
                following = to_cursor(query, found[-1][0].place)
                break
            found.append((candidate, candidate.hit(excerpt(content, words))))

        # A turn that was removed or shortened after it was read is no hit.
        hits = [
            hit for candidate, hit in found if words <= search_words(self._text_of(candidate) or "")
        ]
        return Page(hits, next=following)

    def _candidates(self, prefix: str, after: Sequence[int] | None) -> Iterator[_Candidate]:
        """Return the turns of the sessions with *prefix* after a place, the newest first."""
        found = [
            _Candidate(to_nanoseconds(turn.created_at), session.first_number, index, session, turn)
            for each in self._sessions.ids_with(prefix)
            if (session := self._sessions.get(each))
            for index, turn in enumerate(session.content.turns)
        ]
        found.sort(key=lambda candidate: candidate.place, reverse=True)
        return (each for each in found if after is None or each.place < tuple(after))

    def _text_of(self, candidate: _Candidate) -> str | None:
        """Return the text of a turn; None if it was removed meanwhile."""
        session, turn = candidate.session, candidate.turn
        turns = session.content.turns
        is_there = candidate.number < len(turns) and turns[candidate.number] is turn
        if not is_there or self._sessions.get(session.session_id) is not session:
            return None

        following = turns[candidate.number + 1 : candidate.number + 2]
        start, end = turn.position, following[0].position if following else session.content.end
        values = [
            decode_value(each) if type(each) is bytes else each
            for each in session.content.kept_items(start, end)
        ]
        text = turn_text(values)
        if self._reader.text_of is None:
            return text
        items = run_to_end(session.content.read(start, end, self._codec)).copies()
        return join_texts(text, self._reader.added_text(items))
