"""The sessions and turns of an import, and its numbers."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from tower_memory._stores.records import EncodedTurn


class ImportedSession(NamedTuple):
    """A session of another file; its turns follow.

    Attributes:
        session_id: The session's id.
        created_at: Nanoseconds since 1970, UTC.
        updated_at: Nanoseconds since 1970, UTC.
        metadata: JSON object of the metadata; None for an empty mapping.
        forked_from: Id of the session of which it is a fork, or None.
    """

    session_id: str
    created_at: int
    updated_at: int
    metadata: bytes | None = None
    forked_from: str | None = None


class ImportedTurn(NamedTuple):
    """A turn of the session before it.

    Attributes:
        turn_id: The turn's id.
        created_at: Nanoseconds since 1970, UTC.
        encoded: Its items and metadata.
    """

    turn_id: str
    created_at: int
    encoded: EncodedTurn


Entry: TypeAlias = ImportedSession | ImportedTurn


class Imported(NamedTuple):
    """The numbers of an import.

    Attributes:
        sessions: Number of new sessions.
        turns: Number of turns that were added.
        items: Number of items of these turns.
        skipped: Number of turns that their sessions held already.
    """

    sessions: int
    turns: int
    items: int
    skipped: int

    def plus(self, other: Imported) -> Imported:
        """Return the sums of the numbers of two imports."""
        return Imported(*map(sum, zip(self, other, strict=True)))
