"""The sessions and turns of an SQL store as they are stored, one after another, for an export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from tower_memory._codec import ItemCodec, decode_value


class StoredSession(NamedTuple):
    """The head of a session.

    Attributes:
        key: Key of the session's rows.
        session_id: The session's id.
        created_at: Nanoseconds since 1970, UTC.
        updated_at: Nanoseconds since 1970, UTC.
        turns: Number of turns.
        items: Number of items.
        metadata: JSON of the metadata; None for an empty mapping.
        forked_from: Id of the session of which it is a fork, or None.
    """

    key: Any
    session_id: str
    created_at: int
    updated_at: int
    turns: int
    items: int
    metadata: bytes | None
    forked_from: str | None


class StoredTurn(NamedTuple):
    """The row of a turn.

    Attributes:
        row: Number of the row, for errors.
        turn_id: The turn's id.
        created_at: Nanoseconds since 1970, UTC.
        metadata: JSON of the metadata; None for an empty mapping.
        items: JSON array of the items; perhaps damaged.
    """

    row: int
    turn_id: str
    created_at: int
    metadata: bytes | None
    items: bytes


class StoredStatements(Protocol):
    """The statements of an engine, as functions of a connection that reads one snapshot."""

    def find_session(self, connection: Any, /, session_id: str) -> StoredSession | None:
        """Return the head of a session, or None."""
        ...

    def sessions(self, connection: Any, /, prefix: str) -> Iterator[StoredSession]:
        """Yield the sessions whose ids start with *prefix*, the last active one at the end."""
        ...

    def count_turns(self, connection: Any, /, prefix: str) -> int:
        """Return the number of turns of the sessions whose ids start with *prefix*."""
        ...

    def turns(self, connection: Any, /, key: Any) -> Iterator[StoredTurn]:
        """Yield the turns of the session with this *key*, oldest first."""
        ...


class Snapshot(NamedTuple):
    """All sessions as they are at one moment."""

    statements: StoredStatements
    connection: Any

    def find_session(self, session_id: str) -> StoredSession | None:
        """See `StoredStatements.find_session`."""
        return self.statements.find_session(self.connection, session_id)

    def sessions(self, prefix: str) -> Iterable[StoredSession]:
        """See `StoredStatements.sessions`."""
        return self.statements.sessions(self.connection, prefix)

    def count_turns(self, prefix: str) -> int:
        """See `StoredStatements.count_turns`."""
        return self.statements.count_turns(self.connection, prefix)

    def turns(self, session: StoredSession) -> Iterator[StoredTurn]:
        """Yield the turns of *session*, oldest first."""
        return self.statements.turns(self.connection, session.key)


_codec: Final = ItemCodec[Any](Any)


def decode_stored(metadata: bytes | None, items: bytes) -> list[Any]:
    """Return the items of a stored turn.

    Raises:
        ValueError: The items or the metadata are damaged.
    """
    if metadata is not None and not isinstance(decode_value(metadata), dict):
        msg = "its metadata is no object"
        raise ValueError(msg)
    return _codec.decode_array(items)
