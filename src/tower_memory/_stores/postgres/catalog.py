"""The statements of `SessionCatalog`, as functions that run in one read or one transaction.

The place of a session in a walk is its ``active``, which only rises while the session exists, and
is higher still if the session is erased and written again. So a walk from the highest place to the
lowest never returns a session twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from tower_memory._capabilities.catalog import SessionInfo
from tower_memory._errors import TurnMissing
from tower_memory._metadata import merge_encoded, metadata_dict
from tower_memory._stores.fork_errors import existing_target, unknown_source
from tower_memory._stores.postgres.hashes import from_uuid, hash_of, to_uuid
from tower_memory._stores.postgres.heads import put_head, read_head, wall_time
from tower_memory._stores.postgres.id_range import PREFIX_CONDITION, id_range
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.rows import place_of_turn
from tower_memory._stores.postgres.turn_rows import copy_turns, count_turns_from
from tower_memory._stores.records import to_datetime
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sql.sql_store import PagePlace

PLACE_LENGTH: Final = 3
"""Count of the numbers of a session's place: its ``active``, and its key as two numbers."""

_COLUMNS: Final = (
    "session_id, created_at, updated_at, revision, items, turns, metadata, origin, origin_number,"
    " active, session"
)
_DESCRIBE: Final = (
    f"SELECT {_COLUMNS} FROM memory_head WHERE session = %b AND session_id IS NOT NULL"  # noqa: S608 - all parts are constants
)
_PAGE: Final = (
    f"SELECT {_COLUMNS} FROM memory_head"  # noqa: S608 - all parts are constants
    " WHERE active > 0 AND (active, session) < (%b, %b) {}"
    " ORDER BY active DESC, session DESC LIMIT %b"
)
_IDS: Final = (
    "SELECT session, first_number, session_id FROM memory_head"
    " WHERE session = ANY(%b::uuid[]) AND session_id IS NOT NULL"
)

_LARGEST: Final = 2**63 - 1
_START: Final = (_LARGEST, UUID(int=2**128 - 1))
"""The place before all sessions."""


class _Row(NamedTuple):
    """A row of `_COLUMNS`."""

    session_id: bytes
    created_at: int
    updated_at: int
    revision: int
    items: int
    turns: int
    metadata: bytes | None
    origin: UUID | None
    origin_number: int | None
    active: int
    session: UUID


def page(
    connection: Connection, prefix: str, limit: int, after: PagePlace | None
) -> tuple[list[SessionInfo], PagePlace | None]:
    """See `CatalogStatements.page`."""
    active, session = (after[0], to_uuid(after[1], after[2])) if after else _START
    statement = _PAGE.format(PREFIX_CONDITION if prefix else "")
    values = (active, session, *(id_range(prefix) if prefix else ()), min(limit, _LARGEST - 1) + 1)
    # With a prefix, the best plan depends on the number of matches: the server plans it each time.
    found = connection.execute(statement, values, prepare=False if prefix else None).fetchall()

    rows = [_Row(*row) for row in found[:limit]]
    infos = _infos(connection, rows)
    if len(found) <= limit:
        return infos, None
    return infos, (rows[-1].active, *from_uuid(rows[-1].session))


def describe(connection: Connection, session_id: str) -> SessionInfo | None:
    """See `CatalogStatements.describe`."""
    row = connection.execute(_DESCRIBE, (hash_of(session_id),)).fetchone()
    return _infos(connection, [_Row(*row)])[0] if row else None


def annotate(
    connection: Connection,
    session_id: str,
    added: bytes | None,
    *,
    create: bool,
    overwrite: bool,
) -> SessionInfo | None:
    """See `CatalogStatements.annotate`."""
    found = read_head(connection, session_id)
    if found.head is None and not create:
        return None

    present = found.head and found.head.metadata
    merged = merge_encoded(present, added, session_id, overwrite=overwrite)
    put_head(connection, found.written(session_id, wall_time())._replace(metadata=merged))
    return describe(connection, session_id)


def fork(
    connection: Connection,
    session_id: str,
    new_session_id: str,
    before: str | None,
    *,
    reader: TextReader[Any],
) -> SessionInfo:
    """See `CatalogStatements.fork`. The source gets a new version, so it cannot change meanwhile.

    The copies keep the search words and the additional text, so *reader* is not used.
    """
    del reader
    found, time = read_head(connection, session_id), wall_time()
    source = found.head
    if source is None:
        raise unknown_source(session_id)

    turns, end = source.turns, (source.items, source.version + 1)  # after all turns
    if before is not None:
        place = place_of_turn(connection, found.session, before)
        if place is None:
            raise TurnMissing(session_id, turn_id=before)
        turns, end = turns - count_turns_from(connection, found.session, place), place

    target = read_head(connection, new_session_id)
    if target.head is not None:
        raise existing_target(new_session_id)

    new = target.changed(new_session_id, time, turns=turns, items=end[0])._replace(
        origin=source.session, origin_number=source.first_number, metadata=source.metadata
    )
    put_head(connection, source.written(time))
    put_head(connection, new)
    copy_turns(connection, source.session, new.session, new.version - source.version, end)
    return cast("SessionInfo", describe(connection, new_session_id))


def _infos(connection: Connection, rows: Sequence[_Row]) -> list[SessionInfo]:
    """Return the descriptions of sessions; read all their origins with one statement."""
    origins = {row.origin for row in rows if row.origin is not None}
    found = connection.execute(_IDS, ([*origins],)) if origins else ()
    ids = {(session, number): session_id.decode() for session, number, session_id in found}

    return [
        SessionInfo(
            row.session_id.decode(),
            to_datetime(row.created_at * 1000),
            to_datetime(row.updated_at * 1000),
            row.revision,
            row.items,
            row.turns,
            metadata_dict(row.metadata),
            ids.get((row.origin, row.origin_number)),
        )
        for row in rows
    ]
