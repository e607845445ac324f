"""Searching a file: in its index, or by reading all turns.

1. A search walks over the ids of turns, from the highest: all turns, or those that the index
   proposes. It keeps the places of the newest turns that contain the words, which it has read
   itself.
2. It pauses after each slice of about a millisecond. The time of the oldest kept turn bounds the
   next slice, so a common word is cheap.
3. At the end it reads each hit again, with a pause after each. The last step leaves out the turns
   that were removed meanwhile, so a search that returns after an erasure contains nothing of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from heapq import heappush, heapreplace
from typing import Any, Final, NamedTuple, TypeAlias

from tower_memory._capabilities.search import SearchHit
from tower_memory._excerpts import excerpt
from tower_memory._search_words import search_words
from tower_memory._stores.clock import now
from tower_memory._stores.records import to_datetime, turn_text
from tower_memory._stores.search_text import join_texts, message_text_of
from tower_memory._stores.sql.searching import Wanted
from tower_memory._stores.sqlite.id_range import id_range
from tower_memory._stores.sqlite.search_index import SearchIndex, added_text, find_index

_PLACES: Final = "SELECT t.created_at, t.id FROM"
_WHERE: Final = (
    "CROSS JOIN memory_head AS h ON h.id = t.session"
    " WHERE t.id >= :low AND t.id < :below AND t.created_at >= :oldest"
    " AND (t.created_at, t.id) < (:after_time, :after_row)"
    " AND h.session_id >= :start AND h.session_id < :end"
)
_ALL: Final = f"{_PLACES} memory_turn AS t {_WHERE} ORDER BY t.id DESC"
_PROPOSED: Final = (
    f"{_PLACES} memory_words AS w CROSS JOIN memory_turn AS t ON t.id = w.rowid {_WHERE}"
    " AND memory_words MATCH :words AND w.rowid >= :low AND w.rowid < :below"
    " ORDER BY w.rowid DESC"
)
_TURN: Final = (
    "SELECT h.session_id, t.turn_id, t.number, CAST(t.items AS BLOB) FROM memory_turn AS t"
    " CROSS JOIN memory_head AS h ON h.id = t.session WHERE t.created_at = ? AND t.id = ?"
)
_IS_THERE: Final = "SELECT 1 FROM memory_turn WHERE id = ? AND number = ?"

_SLICE: Final = 0.001
"""Seconds after which a slice ends with the turn that is being read."""

_FIRST_RANGE: Final = 1000
"""Number of ids that the first slice walks over; faster slices walk over more."""

_MOST: Final = 2**63 - 1

Place: TypeAlias = tuple[int, int]
"""The time and the row of a turn, which order the hits."""

PLACE_LENGTH: Final = 2
"""Count of the numbers of a `Place`."""


class _Found(NamedTuple):
    """A turn that contains the words."""

    session_id: str
    turn_id: str
    created_at: int
    row: int
    number: int
    text: str

    def is_there(self, connection: sqlite3.Connection) -> bool:
        """Return True if the turn is stored as it was read: a number stands for one content."""
        return connection.execute(_IS_THERE, (self.row, self.number)).fetchone() is not None

    def hit(self, words: frozenset[str]) -> SearchHit:
        """Return the turn as a hit."""
        time = to_datetime(self.created_at)
        return SearchHit(self.session_id, self.turn_id, time, excerpt(self.text, words))


def search(
    connection: sqlite3.Connection, wanted: Wanted
) -> Generator[None, None, tuple[list[SearchHit], Place | None]]:
    """See `SearchStatements.search`."""
    index = find_index(connection)
    uses_index = index is not None and index.is_complete
    statement = _PROPOSED if uses_index else _ALL
    parameters = _parameters(wanted)

    newest: list[Place] = []  # a heap, with one turn more than the page
    (below,) = connection.execute("SELECT ifnull(max(id), 0) + 1 FROM memory_turn").fetchone()
    size = _FIRST_RANGE
    while below > 1:
        began = now()
        parameters.update(low=max(1, below - size), below=below)
        if len(newest) > wanted.limit:
            parameters["oldest"] = newest[0][0]

        below = parameters["low"]
        with closing(connection.execute(statement, parameters)) as places:
            for place in places:
                _add(connection, newest, place, wanted, index)
                if now() > began + _SLICE:
                    below = place[1]
                    break
        size = size * 2 if now() < began + _SLICE / 2 else max(_FIRST_RANGE, size // 2)
        yield

    newest.sort(reverse=True)
    page, more = newest[: wanted.limit], newest[wanted.limit :]
    hits: list[tuple[_Found, SearchHit]] = []
    for place in page:
        if found := _find(connection, place, wanted, index):
            hits.append((found, found.hit(wanted.words)))
        yield
    there = [hit for found, hit in hits if found.is_there(connection)]
    return there, page[-1] if more else None


def _parameters(wanted: Wanted) -> dict[str, Any]:
    """Return the parameters of the statement that stay the same in all slices."""
    start, end = id_range(wanted.prefix)
    after_time, after_row = wanted.after or (_MOST, _MOST)
    return {
        "start": start,
        "end": end,
        "after_time": after_time,
        "after_row": after_row,
        "oldest": -_MOST,
        "words": " AND ".join(f'"{word}"' for word in sorted(wanted.words)),
    }


def _add(
    connection: sqlite3.Connection,
    newest: list[Place],
    place: Place,
    wanted: Wanted,
    index: SearchIndex | None,
) -> None:
    """Add the turn at *place* to the *newest* turns, if it is one of them and has the words."""
    is_full = len(newest) > wanted.limit
    if is_full and place < newest[0]:
        return

    if _find(connection, place, wanted, index) is None:
        return
    if is_full:
        heapreplace(newest, place)
    else:
        heappush(newest, place)


def _find(
    connection: sqlite3.Connection, place: Place, wanted: Wanted, index: SearchIndex | None
) -> _Found | None:
    """Return the turn at *place*; None if it lacks a word, or is no longer there."""
    created_at, row = place
    found = connection.execute(_TURN, place).fetchone()
    if found is None or not found[0].startswith(wanted.prefix):
        return None

    session_id, turn_id, number, array = found
    added = added_text(connection, index, row, array, wanted.reader)
    text = join_texts(message_text_of(array), added)
    if not wanted.words <= search_words(text):
        return None
    return _Found(session_id, turn_text(turn_id), created_at, row, number, text)
