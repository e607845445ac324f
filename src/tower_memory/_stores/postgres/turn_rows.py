"""The rows of turns: every statement that adds or removes turns, except the one of `appends`.

A function that removes a turn also removes the summaries that cover this turn. Each function that
writes runs in a transaction that has written the session's head (rule 2 of `heads`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from tower_memory._codec import join_array
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.records import EncodedTurn
from tower_memory._stores.sql.rows import Place

_ADD: Final = (
    "INSERT INTO memory_turn (session, first, number, turn, turn_id, created_at, size, words,"
    " added_text, metadata, items) VALUES (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)"
)
_COPY: Final = (
    "INSERT INTO memory_turn (session, first, number, turn, turn_id, created_at, size, words,"
    " added_text, metadata, items)"
    " SELECT %b, first, number + %b, turn, turn_id, created_at, size, words, added_text, metadata,"
    " items FROM memory_turn WHERE session = %b AND (first, number) < (%b, %b)"
)
_COUNT_FROM: Final = (
    "SELECT count(*) FROM memory_turn WHERE session = %b AND (first, number) >= (%b, %b)"
)
_REMOVE_FROM: Final = "DELETE FROM memory_turn WHERE session = %b AND (first, number) >= (%b, %b)"
_REMOVE_SUMMARIES_FROM: Final = "DELETE FROM memory_summary WHERE session = %b AND number >= %b"
_END_PENDING: Final = "DELETE FROM memory_pending WHERE session = %b AND turn = ANY(%b::uuid[])"


class NewTurn(NamedTuple):
    """A turn in the form in which its row is stored, without its place.

    Attributes:
        turn: The hash of its id.
        turn_id: The UTF-8 of its id.
        size: Number of items.
        words: The hashes of its search words, or `NOT_INDEXED`.
        added_text: The UTF-8 of the additional text that a search finds, or None.
        metadata: The JSON of its metadata, or None.
        items: Its items as one JSON array.
    """

    turn: UUID
    turn_id: bytes
    size: int
    words: str
    added_text: bytes | None
    metadata: bytes | None
    items: bytes


def new_turn(turn_id: str, encoded: EncodedTurn, words: str) -> NewTurn:
    """Return the form of an *encoded* turn in which its row is stored."""
    return NewTurn(
        hash_of(turn_id),
        turn_id.encode(),
        len(encoded.items),
        words,
        encoded.added_text.encode() or None,
        encoded.metadata,
        join_array(encoded.items),
    )


class PlacedTurn(NamedTuple):
    """A turn with its place and its time.

    Attributes:
        place: Position of its first item, and its number.
        turn: The turn.
        created_at: Microseconds since 1970.
    """

    place: Place
    turn: NewTurn
    created_at: int

    def values(self, session: UUID) -> tuple[object, ...]:
        """Return the values of its row in the *session*."""
        hashed, turn_id, *rest = self.turn
        return (session, *self.place, hashed, turn_id, self.created_at, *rest)


def add_turn(
    connection: Connection, session: UUID, place: Place, turn: NewTurn, created_at: int
) -> None:
    """Add a turn at *place*; *created_at* is in microseconds since 1970."""
    connection.execute(_ADD, PlacedTurn(place, turn, created_at).values(session))


def add_turns(connection: Connection, session: UUID, turns: Sequence[PlacedTurn]) -> None:
    """Add several turns without waiting for each; they are no longer pending."""
    connection.execute(_END_PENDING, (session, [placed.turn.turn for placed in turns]))
    with connection.cursor() as cursor:
        cursor.executemany(_ADD, [placed.values(session) for placed in turns])


def copy_turns(
    connection: Connection, session: UUID, new_session: UUID, shift: int, end: Place
) -> None:
    """Copy the turns before the place *end* to another session.

    *shift* is added to the number of each turn.
    """
    connection.execute(_COPY, (new_session, shift, session, *end))


def end_pending(connection: Connection, session: UUID, turn: UUID) -> None:
    """Remove the pending turn with an id, if there is one: a stored turn is not pending."""
    connection.execute(_END_PENDING, (session, [turn]))


def count_turns_from(connection: Connection, session: UUID, start: Place) -> int:
    """Count the turns from the place *start* on."""
    (count,) = connection.execute(_COUNT_FROM, (session, *start)).fetchall()[0]
    return int(count)


def remove_turns(connection: Connection, session: UUID, start: Place) -> None:
    """Remove the turns from the place *start* on.

    *start* is the place of a turn, the first place after a turn, or ``(0, 0)`` for all turns. So
    the removed turns, and no others, have the number of *start* or a higher one.
    """
    connection.execute(_REMOVE_SUMMARIES_FROM, (session, start[1]))
    connection.execute(_REMOVE_FROM, (session, *start))
