"""The search index: the words of each turn, in the turn's row.

1. A store with ``search_index=True`` stores the words of a turn in the commit of the turn. Every
   other store marks its turns as not indexed.
2. A store that opens with ``search_index=True`` adds the words of the marked turns, in steps. Each
   step is a transaction of its own, so other writes go on, and a process that is killed loses
   nothing. Several processes may do this at the same time: a step changes only turns that are still
   marked.
3. A turn has the additional text that was stored with it. A marked turn without stored text has the
   text that the store's function returns now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.proposals import Place
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.postgres.words import words_of
from tower_memory._stores.search_text import TextReader, join_texts, message_text_of

_READ: Final = (
    f"SELECT t.session, t.number, t.turn_id, t.words = '{NOT_INDEXED}', t.added_text, t.items"  # noqa: S608 - a constant
    " FROM unnest(%b::uuid[], %b::bigint[], %b::bigint[]) AS place (session, first, number)"
    " JOIN memory_turn AS t ON t.session = place.session"
    " AND t.first = place.first AND t.number = place.number"
)
_ADD_WORDS: Final = (
    "UPDATE memory_turn SET words = %b, added_text = %b"  # noqa: S608 - a constant
    f" WHERE session = %b AND first = %b AND number = %b AND words = '{NOT_INDEXED}'"
)
_ENDS: Final = "SELECT max(created_at), min(created_at) FROM memory_turn"


class SearchedTurn(NamedTuple):
    """A turn, as a search reads it.

    Attributes:
        turn_id: The UTF-8 of its id.
        is_marked: True if it is marked as not indexed.
        added: The UTF-8 of its additional text, or None.
        items: Its items as one JSON array.
    """

    turn_id: bytes
    is_marked: bool
    added: bytes | None
    items: bytes

    def added_text(self, reader: TextReader[Any]) -> str:
        """Return the additional text, perhaps empty (rule 3)."""
        if self.is_marked and self.added is None:
            return reader.added_text_of(self.items)
        return (self.added or b"").decode(errors="replace")

    def text(self, reader: TextReader[Any]) -> str:
        """Return the whole text that a search finds."""
        return join_texts(message_text_of(self.items), self.added_text(reader))


def read_turns(connection: Connection, places: Sequence[Place]) -> dict[Place, SearchedTurn]:
    """Return the turns at *places*, except those that are no longer there."""
    by_number = {(place.session, place.number): place for place in places}
    values = (
        [place.session for place in places],
        [place.first for place in places],
        [place.number for place in places],
    )
    rows = connection.execute(_READ, values, prepare=False)
    return {by_number[session, number]: SearchedTurn(*stored) for session, number, *stored in rows}


def add_words(connection: Connection, places: Sequence[Place], reader: TextReader[Any]) -> None:
    """Add the words of the marked turns at *places* (rule 2).

    An error of the function of *reader* is raised before anything is written.
    """
    values: list[tuple[object, ...]] = []
    for place, turn in sorted(read_turns(connection, places).items()):
        added = turn.added_text(reader)
        words = words_of(turn.items, added)
        key = (place.session, place.first, place.number)
        values.append((words, added.encode() or None, *key))
    with connection.cursor() as cursor:
        cursor.executemany(_ADD_WORDS, values)


def find_ends(connection: Connection) -> tuple[int, int] | None:
    """Return the times of the newest and of the oldest turn; None if there is no turn."""
    newest, oldest = connection.execute(_ENDS).fetchall()[0]
    return None if newest is None else (newest, oldest)
