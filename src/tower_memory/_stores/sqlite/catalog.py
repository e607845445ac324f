"""The statements of `SessionCatalog`, as functions that run in one read or one transaction.

The place of a session in a walk is its ``active``, which only rises while the session is there. But
a session that is erased and written again may get a lower one than before, since numbers above all
others are given again once their sessions are erased. Therefore a walk lists no session that was
created after its first page: ids of heads are never reused, so it has a higher id.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final, NamedTuple, cast

from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._errors import TurnMissing
from tower_memory._metadata import merge_encoded, metadata_dict
from tower_memory._stores.fork_errors import existing_target, unknown_source
from tower_memory._stores.records import to_datetime
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sqlite.heads import create_head, find_head
from tower_memory._stores.sqlite.id_range import id_range
from tower_memory._stores.sqlite.rows import place_of_turn
from tower_memory._stores.sqlite.tables import FIRST_NUMBER_SHIFT
from tower_memory._stores.sqlite.tombstones import tombstone_number
from tower_memory._stores.sqlite.turn_rows import added_texts, copy_turns

_INFO: Final = (
    "SELECT h.session_id, h.created_at, h.updated_at, h.revision, h.items, h.turns,"
    " CAST(h.metadata AS BLOB), origin.session_id, h.active, (SELECT max(id) FROM memory_head)"
    " FROM memory_head AS h {} LEFT JOIN memory_head AS origin ON origin.id = h.origin WHERE "
)
_DESCRIBE: Final = _INFO.format("") + "h.session_id = ?"
_METADATA: Final = "SELECT CAST(metadata AS BLOB) FROM memory_head WHERE session_id = ?"
_SET_METADATA: Final = "UPDATE memory_head SET metadata = ? WHERE session_id = ?"
_COUNT: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM memory_head WHERE session_id >= ? AND session_id < ?"
    " LIMIT ?)"
)
_MOST_SORTED: Final = 2000
"""Up to this number of matches, reading them all and sorting them is faster than a walk."""

# A unary + keeps SQLite from using the index of the other order. Only ids and places are sorted,
# and only the rows of the page are then read whole, which takes half the time.
_SORTED: Final = _INFO.format("") + (  # noqa: S608 - all parts are constants
    "h.id IN (SELECT id FROM memory_head WHERE session_id >= :start AND session_id < :end"
    " AND +active < :after AND +id <= :newest ORDER BY +active DESC LIMIT :limit)"
    " ORDER BY +h.active DESC"
)
_WALK: Final = _INFO.format("INDEXED BY memory_head_active") + (
    "h.active < :after AND +h.session_id >= :start AND +h.session_id < :end AND +h.id <= :newest"
    " ORDER BY h.active DESC LIMIT :limit"
)

_LARGEST: Final = 2**63 - 1
"""The largest number that SQLite knows."""


class WalkPlace(NamedTuple):
    """A place in a walk over the sessions.

    Attributes:
        active: The ``active`` of the last session that was listed.
        newest: The highest id of all heads when the walk began.
    """

    active: int
    newest: int


PLACE_LENGTH: Final = len(WalkPlace._fields)
"""Count of the numbers of a place."""

_START: Final = WalkPlace(_LARGEST, _LARGEST)


def page(
    connection: sqlite3.Connection, prefix: str, limit: int, after: tuple[int, ...] | None
) -> tuple[list[SessionInfo], WalkPlace | None]:
    """See `CatalogStatements.page`. A place is a `WalkPlace`."""
    start, end = id_range(prefix)
    active, newest = after or _START
    (matches,) = connection.execute(_COUNT, (start, end, _MOST_SORTED + 1)).fetchone()
    rows = connection.execute(
        _SORTED if matches <= _MOST_SORTED else _WALK,
        {
            "start": start,
            "end": end,
            "after": active,
            "newest": newest,
            "limit": min(limit + 1, _LARGEST),
        },
    ).fetchall()

    infos = [_info(row) for row in rows[:limit]]
    if not rows[limit:]:
        return infos, None
    *_, last_active, present = rows[limit - 1]
    return infos, WalkPlace(last_active, newest if after else present)


def describe(connection: sqlite3.Connection, session_id: str) -> SessionInfo | None:
    """See `CatalogStatements.describe`."""
    row = connection.execute(_DESCRIBE, (session_id,)).fetchone()
    return _info(row) if row else None


def annotate(
    connection: sqlite3.Connection,
    session_id: str,
    added: bytes | None,
    *,
    create: bool,
    overwrite: bool,
) -> SessionInfo | None:
    """See `CatalogStatements.annotate`."""
    found = connection.execute(_METADATA, (session_id,)).fetchone()
    if found is None:
        if not create:
            return None
        tombstone = tombstone_number(connection, session_id)
        create_head(connection, session_id, tombstone, time.time_ns()).save_unchanged(connection)

    (present,) = found or (None,)
    encoded = merge_encoded(present, added, session_id, overwrite=overwrite)
    connection.execute(_SET_METADATA, (encoded and encoded.decode(), session_id))
    return describe(connection, session_id)


def fork(
    connection: sqlite3.Connection,
    session_id: str,
    new_session_id: str,
    before: str | None,
    *,
    reader: TextReader[Any],
) -> SessionInfo:
    """See `CatalogStatements.fork`."""
    source = find_head(connection, session_id)
    if source is None:
        raise unknown_source(session_id)

    end = (source.items, source.high + 1)  # after all turns
    if before is not None:
        place = place_of_turn(connection, source.id, before)
        if place is None:
            raise TurnMissing(session_id, turn_id=before)
        end = place
    if find_head(connection, new_session_id) is not None:
        raise existing_target(new_session_id)

    added = added_texts(connection, source.id, end, reader)  # before anything is written
    tombstone = tombstone_number(connection, new_session_id)
    head = create_head(connection, new_session_id, tombstone, time.time_ns())
    shift = (head.id - source.id) << FIRST_NUMBER_SHIFT
    turns = copy_turns(connection, source.id, head.id, shift, end, added=added)

    head._replace(high=source.high + shift + 1, turns=turns, items=end[0]).save(connection)
    connection.execute(
        "UPDATE memory_head SET origin = source.id, metadata = source.metadata"
        " FROM memory_head AS source WHERE memory_head.id = ? AND source.id = ?",
        (head.id, source.id),
    )
    return cast("SessionInfo", describe(connection, new_session_id))


def _info(row: Any) -> SessionInfo:
    session_id, created_at, updated_at, revision, items, turns, metadata, forked_from, *_ = row
    return SessionInfo(
        session_id,
        to_datetime(created_at),
        to_datetime(updated_at),
        revision,
        items,
        turns,
        metadata_dict(metadata),
        forked_from,
    )
