"""The statements that read one session, as `SessionRows` for the code of all SQL stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, final
from uuid import UUID

from tower_memory._history import TurnInfo
from tower_memory._metadata import decode_metadata
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.heads import Found, read_head
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.records import to_datetime
from tower_memory._stores.session_cache import LastTurn, Version
from tower_memory._stores.sql.rows import AddRow, Changed, Place, Row, State
from tower_memory._turn import Turn

_VERSION: Final = (
    "SELECT revision, updated_at FROM memory_head WHERE session = %b AND session_id IS NOT NULL"
)
_VERSIONS: Final = (
    "SELECT session, revision, updated_at FROM memory_head"
    " WHERE session = ANY(%b::uuid[]) AND session_id IS NOT NULL"
)
_NEWEST: Final = (
    "(SELECT {} FROM memory_turn WHERE session = %(session)b"
    " ORDER BY first DESC, number DESC LIMIT 1)"
)
_STATE: Final = (
    "SELECT h.revision, h.updated_at, h.items,"  # noqa: S608 - all parts are constants
    f" {_NEWEST.format('first')}, {_NEWEST.format('number')}, {_NEWEST.format('created_at')},"
    " (SELECT created_at FROM memory_turn"
    " WHERE session = %(session)b AND first = %(first)b AND number = %(number)b)"
    " FROM memory_head AS h WHERE h.session = %(session)b AND h.session_id IS NOT NULL"
)
_TURN: Final = "SELECT first, number FROM memory_turn WHERE session = %b AND turn = %b"
_TURN_AT: Final = "SELECT number FROM memory_turn WHERE session = %b AND first = %b AND size > 0"
_PLACE_OF_ITEM: Final = (
    "SELECT first, number FROM memory_turn WHERE session = %b AND first = ("
    " SELECT max(first) FROM memory_turn WHERE session = %b AND first <= %b)"
    " ORDER BY number LIMIT 1"
)
# These rows have no id of their own, so the turn's number is also the `Row.id`.
_ROWS: Final = (
    "SELECT number, first, number, turn_id, created_at, metadata, items FROM memory_turn"
    " WHERE session = %b AND (first, number) >= (%b, %b) AND (first, number) < (%b, %b)"
    " ORDER BY first, number LIMIT %b"
)
_IS_THERE: Final = (
    "SELECT 1 FROM memory_turn"
    " WHERE session = %b AND first = %b AND number = %b AND created_at = %b"
)

_SLICE_LENGTH: Final = 100
"""Number of turns that one statement reads."""


@final
class PostgresRows:
    """The rows of one session, as `SessionRows` describes them.

    The hash of the session id is their key, so no method needs the *state*.

    Args:
        connection: The connection that reads.
        session_id: The session.
        versions: The versions of sessions that were found just before, or None.
    """

    def __init__(
        self,
        connection: Connection,
        session_id: str,
        versions: Mapping[UUID, Version] | None = None,
    ) -> None:
        self._connection = connection
        self._session_id = session_id
        self._session = hash_of(session_id)
        self._versions = versions

    def version(self) -> Version | None:
        """See `SessionRows.version`."""
        versions, self._versions = self._versions, None  # a second call reads it anew
        if versions is not None:
            return versions.get(self._session)
        found = self._connection.execute(_VERSION, (self._session,)).fetchone()
        return Version(*found) if found else None

    def state(self, known: LastTurn | None) -> State | None:
        """See `SessionRows.state`."""
        position, number, created_at = known or (None, None, None)
        values = {"session": self._session, "first": position, "number": number}
        found = self._connection.execute(_STATE, values).fetchone()
        if found is None:
            return None

        revision, updated_at, end, *newest, known_at = found
        return State(
            self._session,
            Version(revision, updated_at),
            end,
            None if newest[0] is None else LastTurn(*newest),
            has_known=known_at == created_at,
        )

    def tombstone_number(self) -> int:
        """See `SessionRows.tombstone_number`."""
        return read_head(self._connection, self._session_id).tombstone

    def place_of_turn(self, state: State, turn_id: str) -> Place | None:
        """See `SessionRows.place_of_turn`."""
        del state
        return place_of_turn(self._connection, self._session, turn_id)

    def place_before(self, state: State, position: int) -> Place:
        """See `SessionRows.place_before`."""
        del state
        found = self._connection.execute(_TURN_AT, (self._session, position)).fetchone()
        return position, found[0] if found else 0

    def place_of_item(self, state: State, position: int) -> Place:
        """See `SessionRows.place_of_item`."""
        del state
        values = (self._session, self._session, position)
        found = self._connection.execute(_PLACE_OF_ITEM, values).fetchone()
        if found is None:
            raise Changed
        first, number = found
        return first, number

    def read_slice(self, state: State, lower: Place, upper: Place, add: AddRow) -> bool:
        """See `SessionRows.read_slice`. All rows of the slice are fetched together."""
        del state
        values = (self._session, *lower, *upper, _SLICE_LENGTH)
        rows = self._connection.execute(_ROWS, values).fetchall()
        for row in rows:
            add(row)
        return len(rows) < _SLICE_LENGTH

    def is_there(self, state: State, turn: LastTurn) -> bool:
        """See `SessionRows.is_there`."""
        del state
        return self._connection.execute(_IS_THERE, (self._session, *turn)).fetchone() is not None

    @staticmethod
    def info(row: Row) -> TurnInfo:
        """See `SessionRows.info`."""
        return TurnInfo(
            row.turn_id.decode(),
            row.first,
            to_datetime(row.created_at * 1000),
            decode_metadata(row.metadata),
        )


def versions_of(connection: Connection, sessions: Iterable[UUID]) -> dict[UUID, Version]:
    """Return the versions of those *sessions* that exist."""
    rows = connection.execute(_VERSIONS, ([*sessions],))
    return {session: Version(revision, updated_at) for session, revision, updated_at in rows}


def place_of_turn(connection: Connection, session: UUID, turn_id: str) -> Place | None:
    """Return the place of a turn; None if the *session* does not hold it."""
    found = connection.execute(_TURN, (session, hash_of(turn_id))).fetchone()
    return found and (found[0], found[1])


def place_of_replaced(connection: Connection, found: Found, turn: Turn[Any]) -> Place | None:
    """Return the place of the turn that *turn* replaces in the session *found*.

    Return None if it replaces no turn, or one that the session does not hold.
    """
    if found.head is None or turn.replaces is None:
        return None
    return place_of_turn(connection, found.session, turn.replaces)
