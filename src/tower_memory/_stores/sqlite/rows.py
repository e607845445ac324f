"""The statements that read one session, and its load through the session cache."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from typing import final

from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._metadata import decode_metadata
from tower_memory._stores.records import to_datetime, turn_key, turn_text
from tower_memory._stores.session_cache import LastTurn, SessionCache, Version
from tower_memory._stores.sql import reads
from tower_memory._stores.sql.reads import Wanted
from tower_memory._stores.sql.rows import AddRow, Place, Row, State
from tower_memory._stores.sqlite.tombstones import tombstone_number

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


@final
class SqliteRows:
    """The rows of one session, as `SessionRows` describes them.

    Args:
        connection: The connection that reads.
        session_id: The session.
    """

    def __init__(self, connection: sqlite3.Connection, session_id: str) -> None:
        self._connection = connection
        self._session_id = session_id

    def version(self) -> Version | None:
        """See `SessionRows.version`."""
        found = self._connection.execute(_VERSION, (self._session_id,)).fetchone()
        return found and Version(*found)

    def state(self, known: LastTurn | None) -> State | None:
        """See `SessionRows.state`."""
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

    def tombstone_number(self) -> int:
        """See `SessionRows.tombstone_number`."""
        return tombstone_number(self._connection, self._session_id)

    def place_of_turn(self, state: State, turn_id: str) -> Place | None:
        """See `SessionRows.place_of_turn`."""
        return place_of_turn(self._connection, state.head_id, turn_id)

    def place_before(self, state: State, position: int) -> Place:
        """See `SessionRows.place_before`."""
        found = self._connection.execute(_TURN_AT, (state.head_id, position)).fetchone()
        return position, found[0] if found else 0

    def place_of_item(self, state: State, position: int) -> Place:
        """See `SessionRows.place_of_item`."""
        place: Place = self._connection.execute(
            _PLACE_OF_ITEM, {"session": state.head_id, "position": position}
        ).fetchone()
        return place

    def read_slice(self, state: State, lower: Place, upper: Place, add: AddRow) -> bool:
        """See `SessionRows.read_slice`. The rows are fetched one by one."""
        with closing(self._connection.execute(_ROWS, (state.head_id, *lower, *upper))) as rows:
            return all(map(add, rows))  # until the first False

    def is_there(self, state: State, turn: LastTurn) -> bool:
        """See `SessionRows.is_there`."""
        return self._connection.execute(_IS_THERE, (state.head_id, *turn)).fetchone() is not None

    @staticmethod
    def info(row: Row) -> TurnInfo:
        """See `SessionRows.info`."""
        return TurnInfo(
            turn_text(row.turn_id),
            row.first,
            to_datetime(row.created_at),
            decode_metadata(row.metadata),
        )


def load(
    connection: sqlite3.Connection, cache: SessionCache, wanted: Wanted[Item]
) -> Generator[None, None, History[Item]]:
    """Load the *wanted* items of a session through *cache*, in steps; see `reads.load`."""
    return reads.load(SqliteRows(connection, wanted.session_id), cache, wanted)


def place_of_turn(connection: sqlite3.Connection, head_id: object, turn_id: str) -> Place | None:
    """Return the place of a turn; None if the session with the head *head_id* does not hold it."""
    place: Place | None = connection.execute(_TURN, (head_id, turn_key(turn_id))).fetchone()
    return place
