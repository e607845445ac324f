"""Writing sessions of another file, with their ids and times: a transaction for each session.

1. A turn whose id the session holds is skipped. Further turns follow the turns that are there.
   Therefore importing the same turns twice adds nothing, and an import that was cut can be made
   again.
2. A new session gets its times and metadata from the other file. A session that exists keeps its
   time of creation and its metadata, and gets the metadata keys that it lacks.
3. Origins are set last, because the origin of a session may follow it in the file. A session gets
   its origin if it has none, and if its time of creation is the one in the file.
4. The turns are marked as not indexed. A store with a search index adds their words when it opens,
   since only that store knows their additional text.
5. Memory holds one session at a time, because its transaction may be made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from tower_memory._metadata import merge_encoded
from tower_memory._stores.postgres.direct import begin_answer, commit
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.heads import Found, Head, put_head, read_heads, wall_time
from tower_memory._stores.postgres.link import Connection, Link
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.postgres.turn_rows import PlacedTurn, add_turns, new_turn
from tower_memory._stores.sql.importing import Entry, Imported, ImportedSession, ImportedTurn

_SLICE_BYTES: Final = 2**18
"""Size of the items of a slice. For each slice, the server has the time of an answer anew."""


def import_entries(link: Link, entries: Iterable[Entry]) -> Imported:
    """Write *entries*, sessions and their turns.

    Raises:
        psycopg.Error: The server failed. The earlier sessions are written.
        Exception: The iterable *entries* raised it. The earlier sessions are written.
    """
    forks: list[ImportedSession] = []
    numbers = Imported(0, 0, 0, 0)
    for session, turns in _sessions(entries):
        write = partial(import_session, session=session, turns=turns)
        numbers = numbers.plus(commit(link, session.session_id, write))
        if session.forked_from is not None:
            forks.append(session)

    for session in forks:
        commit(link, session.session_id, partial(set_origin, session=session))
    return numbers


def _sessions(entries: Iterable[Entry]) -> Iterator[tuple[ImportedSession, list[ImportedTurn]]]:
    """Yield each session with its turns."""
    session: ImportedSession | None = None
    turns: list[ImportedTurn] = []

    for entry in entries:
        if isinstance(entry, ImportedTurn):
            turns.append(entry)
            continue
        if session is not None:
            yield session, turns
        session, turns = entry, []

    if session is not None:
        yield session, turns


def import_session(
    connection: Connection, session: ImportedSession, turns: Sequence[ImportedTurn]
) -> Imported:
    """Write a session in the open transaction, and return the numbers of the import."""
    by_id: dict[UUID, ImportedTurn] = {}
    for turn in turns:
        by_id.setdefault(hash_of(turn.turn_id), turn)

    key = hash_of(session.session_id)
    found = read_heads(connection, [key], [*by_id])[key]
    for held in (found.head and found.head.held) or ():
        del by_id[held]
    new = [*by_id.values()]

    size = sum(len(turn.encoded.items) for turn in new)
    numbers = Imported(int(found.head is None), len(new), size, len(turns) - len(new))
    after = _after(found, session, (len(new), size), wall_time())
    if after is None:
        return numbers
    put_head(connection, after)

    placed = _placed(new, after.items - size, after.version - len(new))
    for part in _slices(placed):
        begin_answer(connection)
        add_turns(connection, found.session, part)
    return numbers


def _after(
    found: Found, session: ImportedSession, added: tuple[int, int], time: int
) -> Head | None:
    """Return the head after the import; None if nothing of the session changes.

    *added* has the counts of new turns and of their items. Each new turn gets a number, and the
    last number is the version of the head.
    """
    head, (turns, items) = found.head, added
    metadata = _metadata(head, session)
    if head is not None and not turns and metadata == head.metadata:
        return None

    if not turns:
        after = found.written(session.session_id, time)
    else:
        before = (head.turns, head.items) if head else (0, 0)
        after = found.changed(
            session.session_id, time, turns=before[0] + turns, items=before[1] + items
        )
        last = after.version + turns - 1
        after = after._replace(version=last, active=last, revision=last)

    updated_at = session.updated_at // 1000
    if head is None:
        after = after._replace(created_at=session.created_at // 1000, updated_at=updated_at)
    elif turns:
        after = after._replace(updated_at=max(head.updated_at, updated_at))
    return after._replace(metadata=metadata)


def _metadata(head: Head | None, session: ImportedSession) -> bytes | None:
    """Return the metadata of the session after the import (rule 2)."""
    present = head.metadata if head else None
    if present is None or session.metadata is None:
        return present or session.metadata
    return merge_encoded(present, session.metadata, session.session_id, overwrite=False)


def _placed(turns: Iterable[ImportedTurn], position: int, number: int) -> Iterator[PlacedTurn]:
    """Yield the *turns* with their places: from *position* on, with numbers above *number*."""
    for turn in turns:
        number += 1
        row = new_turn(turn.turn_id, turn.encoded, NOT_INDEXED)
        yield PlacedTurn((position, number), row, turn.created_at // 1000)
        position += row.size


def _slices(turns: Iterable[PlacedTurn]) -> Iterator[list[PlacedTurn]]:
    """Divide the *turns* into slices of about `_SLICE_BYTES`."""
    part: list[PlacedTurn] = []
    size = 0

    for placed in turns:
        part.append(placed)
        size += len(placed.turn.items)
        if size >= _SLICE_BYTES:
            yield part
            part, size = [], 0

    if part:
        yield part


def set_origin(connection: Connection, session: ImportedSession) -> None:
    """Set the origin of an imported session, if its origin exists (rule 3)."""
    key, origin_key = hash_of(session.session_id), hash_of(session.forked_from or "")
    found = read_heads(connection, [key, origin_key], [])
    head, origin = found[key].head, found[origin_key].head
    if head is None or origin is None or head.origin is not None:
        return
    if head.created_at != session.created_at // 1000:
        return

    after = head.written(wall_time())._replace(
        origin=origin.session, origin_number=origin.first_number
    )
    put_head(connection, after)
