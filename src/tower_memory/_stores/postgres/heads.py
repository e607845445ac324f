"""The head rows of sessions: reading them, and writing them by compare-and-set.

1. A writer reads a head, decides, and writes the head with a new version, if the head still has the
   version that was read. If it has another one, nothing is written, and the writer begins anew.
2. Every write of a session's rows also writes its head, in the same transaction (rule 2 of
   `tables`). So a decision from the rows of a session is still right when it is written.
3. No row is locked while a writer decides. A statement that writes several heads writes them in the
   order of their keys, so two such statements cannot wait for each other.
4. A change is a write that adds or removes turns. Only a change gives the session another revision,
   time of change and place in the order of activity.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final
from uuid import UUID

from tower_memory._stores.append_checks import SessionState, absent_session
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.records import TOMBSTONE_LIFETIME
from tower_memory._stores.session_cache import Version
from tower_memory._turn import Turn

_COLUMNS: Final = (
    "session, session_id, version, previous, active, revision, first_number, cleared, replaced,"
    " created_at, updated_at, turns, items, origin, origin_number, metadata"
)
_READ: Final = (
    f"SELECT {_COLUMNS}, ("  # noqa: S608 - all parts are constants
    " SELECT array_agg(t.turn) FROM memory_turn AS t"
    " WHERE t.session = h.session AND t.turn = ANY(%b::uuid[]))"
    " FROM memory_head AS h WHERE h.session = ANY(%b::uuid[])"
)
# Postgres plans this statement only once, and the other one each time.
_READ_ONE: Final = _READ.replace("ANY(%b::uuid[])", "%b::uuid").encode()
_PUT: Final = (
    f"INSERT INTO memory_head ({_COLUMNS}, id_start) VALUES"  # noqa: S608 - as above
    " (%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)"
    " ON CONFLICT (session) DO UPDATE SET session_id = excluded.session_id,"
    " version = excluded.version, previous = excluded.previous, active = excluded.active,"
    " revision = excluded.revision, first_number = excluded.first_number,"
    " cleared = excluded.cleared, replaced = excluded.replaced,"
    " created_at = excluded.created_at, updated_at = excluded.updated_at,"
    " turns = excluded.turns, items = excluded.items, origin = excluded.origin,"
    " origin_number = excluded.origin_number, metadata = excluded.metadata,"
    " id_start = excluded.id_start"
    " WHERE memory_head.version = excluded.previous RETURNING 1"
)

_REMOVE_OLD_TOMBSTONES: Final = (
    "DELETE FROM memory_head WHERE id_start IS NULL AND active > %b AND active < 0"
)

_MOST_RECENT: Final = 10_000
"""Maximum number of heads that a thread remembers, about 10 MB."""

START_LENGTH: Final = 64
"""Number of bytes of a session id in ``id_start``."""

_TOMBSTONE_LIFETIME: Final = TOMBSTONE_LIFETIME // 1000
"""Microseconds for which a tombstone has an effect."""


class Stale(Exception):
    """Raised when another writer was faster: nothing was written, and the writer decides anew."""


def wall_time() -> int:
    """Return the time in microseconds since 1970. The clock of `clock.now` only measures waits."""
    return time.time_ns() // 1000


@final
class Head(NamedTuple):
    """The head row of a session as it is stored, and the turn ids that were looked for with it.

    Attributes:
        held: The hashes of those turn ids that the session holds; None for none.
    """

    session: UUID
    session_id: bytes | None
    version: int
    previous: int | None
    active: int
    revision: int
    first_number: int
    cleared: int
    replaced: int
    created_at: int
    updated_at: int
    turns: int
    items: int
    origin: UUID | None = None
    origin_number: int | None = None
    metadata: bytes | None = None
    held: Sequence[UUID] | None = None

    @property
    def cache_version(self) -> Version:
        """The identity of the session's content, for the session cache."""
        return Version(self.revision, self.updated_at)

    def written(self, time: int) -> Head:
        """Return the head after a write at *time* that leaves the turns as they are."""
        return self._replace(version=max(self.version + 1, time), previous=self.version)

    def changed(self, time: int, *, turns: int, items: int) -> Head:
        """Return the head after a change at *time*, with the new counts of *turns* and *items*."""
        head = self.written(time)
        return head._replace(
            active=head.version,
            revision=head.version,
            updated_at=time,
            turns=turns,
            items=items,
        )


@final
class RecentHeads:
    """The heads that a thread has written last, so that it need not read them again.

    If another writer has changed a row since, the row has another version than the recent head, and
    a compare-and-set writes nothing.
    """

    def __init__(self) -> None:
        self._heads: OrderedDict[UUID, Head] = OrderedDict()

    def find(self, session: UUID) -> Found | None:
        """Return a session as the thread has written it; None if its head is not known."""
        head = self._heads.get(session)
        return None if head is None else Found(session, head, 0, head.version)

    def add(self, head: Head) -> None:
        """Add a head; if there are too many, forget the head that was added longest ago."""
        self._heads.pop(head.session, None)
        self._heads[head.session] = head._replace(held=None, metadata=None)
        if len(self._heads) > _MOST_RECENT:
            self._heads.popitem(last=False)

    def forget(self, session: UUID) -> None:
        """Forget the head of a session."""
        self._heads.pop(session, None)


class Found(NamedTuple):
    """A session as its rows are now.

    Attributes:
        session: The hash of its id.
        head: Its head; None if it does not exist.
        tombstone: The number of its tombstone, if it does not exist; 0 for none.
        version: The version of its row, which may be a tombstone; None if there is no row.
    """

    session: UUID
    head: Head | None
    tombstone: int
    version: int | None

    def state(self, turn: UUID, *, holds_replaced: bool = False) -> SessionState:
        """Return the state that decides whether a turn with the hash *turn* may be appended."""
        head = self.head
        if head is None:
            return absent_session(self.tombstone)
        return SessionState(
            revision=head.revision,
            first_number=head.first_number,
            cleared=head.cleared,
            replaced=head.replaced,
            holds_turn=turn in (head.held or ()),
            holds_replaced=holds_replaced,
        )

    def written(self, session_id: str, time: int) -> Head:
        """Return the head after a write at *time* that leaves the turns as they are.

        A session that does not exist is created.
        """
        if self.head is not None:
            return self.head.written(time)
        return self._new_head(session_id.encode(), self.tombstone, time)

    def changed(self, session_id: str, time: int, *, turns: int, items: int) -> Head:
        """Return the head after a change at *time*, with the new counts of *turns* and *items*.

        A session that does not exist is created.
        """
        if self.head is not None:
            return self.head.changed(time, turns=turns, items=items)
        head = self._new_head(session_id.encode(), self.tombstone, time)
        return head._replace(revision=head.version, turns=turns, items=items)

    def erased(self, time: int) -> Head:
        """Return the tombstone after an erasure at *time*."""
        head = self._new_head(None, 0, time)
        return head._replace(active=-head.version, revision=head.version, cleared=head.version)

    def _new_head(self, session_id: bytes | None, cleared: int, time: int) -> Head:
        """Return a head without turns; its number is larger than all earlier ones."""
        number = max((self.version or 0) + 1, time)
        return Head(
            session=self.session,
            session_id=session_id,
            version=number,
            previous=self.version,
            active=number,
            revision=cleared,
            first_number=number,
            cleared=cleared,
            replaced=0,
            created_at=time,
            updated_at=time,
            turns=0,
            items=0,
        )


def read_heads(
    connection: Connection, sessions: Sequence[UUID], turns: Sequence[UUID]
) -> dict[UUID, Found]:
    """Return the *sessions*; also look for the *turns*, each a hash of a turn id."""
    found = {session: Found(session, None, 0, None) for session in sessions}
    for row in connection.execute(_READ, (list(turns), list(sessions))):
        head = Head(*row)
        found[head.session] = _found(head)
    return found


def read_head(connection: Connection, session_id: str, turn: UUID | None = None) -> Found:
    """Return one session; also look for the *turn*, the hash of a turn id."""
    session = hash_of(session_id)
    row = connection.execute(_READ_ONE, (turn, session)).fetchone()
    return _found(Head(*row)) if row else Found(session, None, 0, None)


def _found(head: Head) -> Found:
    """Return the session of a row, which may be a tombstone."""
    if head.session_id is not None:
        return Found(head.session, head, 0, head.version)
    is_alive = head.updated_at > wall_time() - _TOMBSTONE_LIFETIME
    return Found(head.session, None, head.cleared if is_alive else 0, head.version)


def find_for(connection: Connection, turn: Turn[Any]) -> Found:
    """Return the session of *turn*, and look for its turn id."""
    return read_head(connection, turn.session_id, hash_of(turn.turn_id))


def put_head(connection: Connection, head: Head) -> None:
    """Write a head, if its row has the version ``head.previous``, or if there is no row.

    Raises:
        Stale: The row has another version.
    """
    start = head.session_id and head.session_id[:START_LENGTH]
    if connection.execute(_PUT, (*head[:-1], start)).fetchone() is None:
        raise Stale


def put_tombstone(connection: Connection, found: Found, time: int) -> None:
    """Write the tombstone of a session, and remove all tombstones that have no effect any more.

    Raises:
        Stale: See `put_head`.
    """
    put_head(connection, found.erased(time))
    connection.execute(_REMOVE_OLD_TOMBSTONES, (_TOMBSTONE_LIFETIME - time,))
