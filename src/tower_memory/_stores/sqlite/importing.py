"""Writing sessions of another file, with their ids and times, in an open transaction.

1. A turn whose id the session holds is skipped. Further turns follow the turns that are there.
   Therefore importing the same turns twice adds nothing.
2. A new session gets its times, metadata and origin from the other file. A session that exists
   keeps its time of creation and its metadata, and gets the metadata keys that it lacks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, final

from tower_memory._metadata import merge_encoded
from tower_memory._stores.records import turn_key
from tower_memory._stores.sql.importing import Entry, Imported, ImportedSession, ImportedTurn
from tower_memory._stores.sqlite.heads import create_head, find_head
from tower_memory._stores.sqlite.tombstones import tombstone_number
from tower_memory._stores.sqlite.turn_rows import add_turn, end_pending

_SET_ORIGIN: Final = (
    "UPDATE memory_head SET origin = (SELECT id FROM memory_head WHERE session_id = ?)"
    " WHERE session_id = ?"
)


def import_entries(connection: sqlite3.Connection, entries: Iterable[Entry]) -> Imported:
    """Write *entries*, sessions and their turns, in the open transaction.

    Raises:
        Exception: An error of the iterable *entries*; the transaction must be rolled back.
    """
    origins: list[tuple[str, str]] = []
    numbers = Imported(0, 0, 0, 0)
    target: _Target | None = None

    for entry in entries:
        if isinstance(entry, ImportedTurn):
            assert target is not None, "a session comes before its turns"  # noqa: S101
            target.add(entry)
            continue

        if target is not None:
            numbers = numbers.plus(target.finish())
        target = _Target(connection, entry)
        if target.is_new and entry.forked_from is not None:
            origins.append((entry.forked_from, entry.session_id))

    if target is not None:
        numbers = numbers.plus(target.finish())
    connection.executemany(_SET_ORIGIN, origins)
    return numbers


@final
class _Target:
    """The session of the store that gets the turns of an imported session."""

    def __init__(self, connection: sqlite3.Connection, session: ImportedSession) -> None:
        self._connection = connection
        self._session = session
        self._turns = self._items = self._skipped = 0

        session_id = session.session_id
        head = find_head(connection, session_id)
        self.is_new = head is None
        self._head = head or create_head(
            connection, session_id, tombstone_number(connection, session_id), session.created_at
        )

    def add(self, turn: ImportedTurn) -> None:
        """Add *turn*, unless the session holds it (rule 1)."""
        key, head = turn_key(turn.turn_id), self._head
        held = self._connection.execute(
            "SELECT 1 FROM memory_turn WHERE session = ? AND turn_id = ?", (head.id, key)
        ).fetchone()
        if held:
            self._skipped += 1
            return

        end_pending(self._connection, head.id, key)
        number, size = head.high + 1, len(turn.encoded.items)
        add_turn(
            self._connection,
            head.id,
            (head.items, number),
            turn.encoded,
            turn_key=key,
            created_at=turn.created_at,
        )
        self._head = head._replace(high=number, turns=head.turns + 1, items=head.items + size)
        self._turns += 1
        self._items += size

    def finish(self) -> Imported:
        """Write the head and the metadata of the session, and return the numbers."""
        updated_at = self._session.updated_at
        if not self.is_new:
            updated_at = max(updated_at, self._head.updated_at)

        head = self._head._replace(updated_at=updated_at)
        if self._turns:
            head.save(self._connection)
        elif self.is_new:
            head.save_unchanged(self._connection)

        self._add_metadata()
        return Imported(int(self.is_new), self._turns, self._items, self._skipped)

    def _add_metadata(self) -> None:
        """Add the metadata keys that the session lacks (rule 2)."""
        if self._session.metadata is None:
            return

        select = "SELECT CAST(metadata AS BLOB) FROM memory_head WHERE id = ?"
        (present,) = self._connection.execute(select, (self._head.id,)).fetchone()
        metadata: bytes | None = self._session.metadata
        if present is not None:
            session_id = self._session.session_id
            metadata = merge_encoded(present, metadata, session_id, overwrite=False)
        self._connection.execute(
            "UPDATE memory_head SET metadata = ? WHERE id = ?",
            (metadata and metadata.decode(), self._head.id),
        )
