"""The statements that read one session.

1. Rows are read in slices of about a millisecond, each with one statement, and the reader pauses
   after each slice. No statement is open during a pause, so later statements see later commits.
2. While a later turn is still there, all turns before it are as they were (rule 3 of `tables`). So
   after each slice the reader checks that the newest turn is still there that was there when it
   began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeAlias, final

from tower_memory._codec import ItemCodec, split_array
from tower_memory._errors import CorruptSessionError
from tower_memory._history import TurnInfo
from tower_memory._items import Item
from tower_memory._metadata import decode_metadata
from tower_memory._stores.cached_session import all_shareable, to_kept
from tower_memory._stores.clock import now
from tower_memory._stores.records import to_datetime, turn_key, turn_text
from tower_memory._stores.session_cache import LastTurn, Version

_VERSION = "SELECT revision, updated_at FROM memory_head WHERE session_id = ?"
_STATE = (
    "SELECT h.id, h.revision, h.updated_at, h.items, t.first, t.number, t.created_at,"
    " (SELECT created_at FROM memory_turn"
    " WHERE session = h.id AND first = :first AND number = :number)"
    " FROM memory_head AS h LEFT JOIN memory_turn AS t ON t.id = ("
    " SELECT id FROM memory_turn WHERE session = h.id ORDER BY first DESC, number DESC LIMIT 1)"
    " WHERE session_id = :session_id"
)
_TURN = "SELECT first, number FROM memory_turn WHERE session = ? AND turn_id = ?"
_TURN_AT = "SELECT number FROM memory_turn WHERE session = ? AND first = ? AND size > 0"
_PLACE_OF_ITEM = (
    "SELECT first, min(number) FROM memory_turn WHERE session = :session AND first = ("
    " SELECT max(first) FROM memory_turn WHERE session = :session AND first <= :position)"
)
_ROWS = (
    "SELECT id, first, number, turn_id, created_at, CAST(metadata AS BLOB), CAST(items AS BLOB)"
    " FROM memory_turn WHERE session = ? AND (first, number) >= (?, ?) AND (first, number) < (?, ?)"
    " ORDER BY first, number"
)
_IS_THERE = (
    "SELECT 1 FROM memory_turn WHERE session = ? AND first = ? AND number = ? AND created_at = ?"
)

_SLICE: Final = 0.001
"""Seconds after which a slice ends with the row that is being read."""

Place: TypeAlias = tuple[int, int]
"""The position of a turn's first item, and the turn's number; places order a session's turns."""


class Changed(Exception):
    """Raised when turns that are read were changed meanwhile; the reader begins anew."""


class Row(NamedTuple):
    """The row of a turn, as it is stored, without its items."""

    id: int
    first: int
    number: int
    turn_id: bytes | str
    created_at: int
    metadata: bytes | None

    def info(self) -> TurnInfo:
        """Return the turn as histories show it; its position counts from the session's start."""
        return TurnInfo(
            turn_text(self.turn_id),
            self.first,
            to_datetime(self.created_at),
            decode_metadata(self.metadata),
        )


@final
@dataclass(slots=True)
class Rows:
    """Consecutive turns that were read, oldest first.

    Attributes:
        touches_cached: True if the cached turns follow directly.
        rows: The values of each `Row`, as a plain tuple, which is faster.
        arrays: The items of each as a JSON array.
        items: The decoded items of each.
        all_items: The same items, one after another.
    """

    touches_cached: bool
    rows: list[Any] = field(default_factory=list)
    arrays: list[bytes] = field(default_factory=list)
    items: list[list[Any]] = field(default_factory=list)
    all_items: list[Any] = field(default_factory=list)

    @property
    def newest(self) -> LastTurn | None:
        """Newest of these turns; None without turns."""
        if not self.rows:
            return None
        row = Row(*self.rows[-1])
        return LastTurn(row.first, row.number, row.created_at)

    def turns(self) -> Generator[tuple[TurnInfo, Sequence[Any]]]:
        """Yield each turn, newest first, with its items as the cache keeps them."""
        for number in range(len(self.rows) - 1, -1, -1):
            items = self.items[number]
            is_shared = all_shareable(items)
            kept = items if is_shared else to_kept(items, split_array(self.arrays[number]))
            yield Row(*self.rows[number]).info(), kept

    def items_between(self, start: int, end: int) -> list[Any]:
        """Return the items from position *start* to *end* of the session."""
        if not self.rows:
            return []

        first = Row(*self.rows[0]).first
        is_all = start == first and end - start == len(self.all_items)
        return self.all_items if is_all else self.all_items[start - first : end - first]


class State(NamedTuple):
    """The state of a session when its load begins.

    Attributes:
        head_id: Id of its head.
        version: Its version.
        end: Number of its items.
        newest: Its newest turn; None without turns.
        has_known: True if the turn that the reader knew as the newest is still there.
    """

    head_id: int
    version: Version
    end: int
    newest: LastTurn | None
    has_known: bool


def after(turn: LastTurn | None) -> Place:
    """Return the first place after *turn*, or the first place of all if it is None."""
    return (0, 0) if turn is None else (turn.position, turn.number + 1)


@final
class SessionReader(Generic[Item]):
    """Reads the rows of one session.

    Args:
        connection: The connection that reads.
        session_id: The session.
        codec: Decodes its items.
    """

    def __init__(
        self, connection: sqlite3.Connection, session_id: str, codec: ItemCodec[Item]
    ) -> None:
        self._connection = connection
        self._session_id = session_id
        self._codec = codec

    def state(self, known: LastTurn | None) -> State | None:
        """Return the state of the session, or None if there is no session.

        *known* is the newest turn that the reader knows, for `State.has_known`.
        """
        position, number, created_at = known or (None, None, None)
        found = self._connection.execute(
            _STATE, {"session_id": self._session_id, "first": position, "number": number}
        ).fetchone()
        if found is None:
            return None

        head_id, revision, updated_at, end, *newest, known_at = found
        return State(
            head_id,
            Version(revision, updated_at),
            end,
            None if newest[0] is None else LastTurn(*newest),
            has_known=known_at == created_at,
        )

    def place_before(self, state: State, position: int) -> Place:
        """Return the first place that is not before *position*.

        A turn without items at this position belongs to the item before it.
        """
        found = self._connection.execute(_TURN_AT, (state.head_id, position)).fetchone()
        return position, found[0] if found else 0

    def place_of_item(self, state: State, position: int) -> Place:
        """Return the place of the turn that holds the item at *position*."""
        if position == 0:
            return 0, 0
        place: Place = self._connection.execute(
            _PLACE_OF_ITEM, {"session": state.head_id, "position": position}
        ).fetchone()
        return place

    def read(self, rows: Rows, state: State, lower: Place, upper: Place) -> Generator[None]:
        """Add the turns from place *lower* to before *upper* to *rows*, in slices (rule 1).

        Raises:
            Changed: The newest turn of *state* is gone, so the turns before it may have changed.
            CorruptSessionError: A turn cannot be decoded.
        """
        is_complete = False
        while not is_complete:
            if rows.rows:
                yield
                lower = after(rows.newest)

            until = now() + _SLICE
            found = self._connection.execute(_ROWS, (state.head_id, *lower, *upper))
            with closing(found):
                is_complete = True
                for row in found:
                    rows.rows.append(row[:-1])
                    rows.arrays.append(row[-1])
                    items = self._decode(row)
                    rows.items.append(items)
                    rows.all_items += items
                    if now() > until:
                        is_complete = False
                        break

            # The newest turn was there if it was read just now.
            was_read = rows.newest == state.newest
            if state.newest and not was_read and not self._is_there(state.head_id, state.newest):
                raise Changed

    def _decode(self, row: Sequence[Any]) -> list[Item]:
        try:
            return self._codec.decode_array(row[-1])
        except ValueError as error:
            raise CorruptSessionError(self._session_id, row=row[0], reason=str(error)) from error

    def _is_there(self, head_id: int, turn: LastTurn) -> bool:
        return self._connection.execute(_IS_THERE, (head_id, *turn)).fetchone() is not None


def place_of_turn(connection: sqlite3.Connection, head_id: int, turn_id: str) -> Place | None:
    """Return the place of a turn; None if the session with the head *head_id* does not hold it."""
    place: Place | None = connection.execute(_TURN, (head_id, turn_key(turn_id))).fetchone()
    return place


def version_of(connection: sqlite3.Connection, session_id: str) -> Version | None:
    """Return the version of a session; None if there is none."""
    found = connection.execute(_VERSION, (session_id,)).fetchone()
    return found and Version(*found)
