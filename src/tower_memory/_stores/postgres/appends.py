"""Appending plain turns of many sessions with one statement.

1. The statement of an append writes the heads by compare-and-set (rule 1 of `heads`), and adds the
   turns of the heads that it has written. It is a transaction of its own, in one round trip.
2. A session that another writer has changed or removed since its head was read is left out, and so
   is one that holds the turn. The turn is then decided anew.
3. If the thread has written a session before, it decides by the head that it wrote (`RecentHeads`),
   since rule 2 finds the changes of other writers. If the turn is then to be written, the head is
   not read again. The head in the database decides every other outcome.
4. A plain turn has items and replaces no turns. `writes.append` appends every other turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from tower_memory._errors import SessionError
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.heads import (
    START_LENGTH,
    Found,
    Head,
    RecentHeads,
    read_heads,
    wall_time,
)
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.turn_rows import NewTurn
from tower_memory._turn import Turn

_TYPES: Final = (
    *("uuid", "bytea", "bytea", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint"),
    *("uuid", "bytea", "bigint", "text", "bytea", "bytea", "bytea"),
)
_STATEMENT: Final = """
    WITH new (
        session, session_id, id_start, previous, version, cleared, turns, items, first,
        turn, turn_id, size, words, added_text, metadata, turn_items
    ) AS (
        {new}
    ), head AS (
        INSERT INTO memory_head AS h (
            session, session_id, id_start, version, previous, active, revision, first_number,
            cleared, replaced, created_at, updated_at, turns, items
        )
        SELECT session, session_id, id_start, version, previous, version, version, version,
            cleared, 0, %b, %b, turns, items
        FROM new
        WHERE (session, turn) NOT IN (
            SELECT t.session, t.turn FROM memory_turn AS t
            WHERE t.session = {session} AND t.turn = {turn}
        ) AND (previous IS NULL OR session IN (
            SELECT p.session FROM memory_head AS p WHERE p.session = {session}
        ))
        ORDER BY session
        ON CONFLICT (session) DO UPDATE SET
            session_id = excluded.session_id, id_start = excluded.id_start,
            version = excluded.version, previous = excluded.previous,
            active = excluded.active, revision = excluded.revision,
            first_number = CASE
                WHEN h.session_id IS NULL THEN excluded.first_number ELSE h.first_number END,
            cleared = excluded.cleared,
            created_at = CASE
                WHEN h.session_id IS NULL THEN excluded.created_at ELSE h.created_at END,
            updated_at = excluded.updated_at, turns = excluded.turns, items = excluded.items
        WHERE h.version = excluded.previous
        RETURNING h.session
    ), ended AS (
        DELETE FROM memory_pending AS p USING new, head
        WHERE head.session = new.session AND p.session = new.session AND p.turn = new.turn
    )
    INSERT INTO memory_turn (
        session, first, number, turn, turn_id, created_at, size, words, added_text, metadata, items
    )
    SELECT new.session, first, version, turn, turn_id, %b, size, words, added_text,
        metadata, turn_items
    FROM new JOIN head ON head.session = new.session
    RETURNING session
"""
_ONE: Final = f"VALUES ({', '.join(f'%b::{each}' for each in _TYPES)})"
_MANY: Final = f"SELECT * FROM unnest({', '.join(f'%b::{each}[]' for each in _TYPES)})"  # noqa: S608 - constants
_APPEND_ONE: Final = _STATEMENT.format(new=_ONE, session="%b::uuid", turn="%b::uuid").encode()
_APPEND_MANY: Final = _STATEMENT.format(
    new=_MANY, session="ANY(%b::uuid[])", turn="ANY(%b::uuid[])"
).encode()


class Append(NamedTuple):
    """A plain turn, and the form in which its row is stored."""

    turn: Turn[Any]
    new: NewTurn


class Appended(NamedTuple):
    """The outcome of an append.

    Attributes:
        revision: The session's revision.
        before: The head before; None if there was no session, or if nothing was written.
        after: The head after; None if nothing was written.
    """

    revision: int
    before: Head | None
    after: Head | None


class _Row(NamedTuple):
    """A turn to be written, and the new head of its session."""

    turn: NewTurn
    head: Head


def append_turns(
    connection: Connection, appends: Sequence[Append], recent: RecentHeads
) -> list[Appended | SessionError | None]:
    """Append turns of different sessions, and return the outcome of each.

    The outcome is an error for a turn that is refused, and None for a turn that was left out
    (rule 2).
    """
    time = wall_time()
    outcomes = _decide_all(connection, appends, recent, time)
    heads = [_new_head(outcome) for outcome in outcomes]
    to_write = [
        _Row(append.new, head)
        for append, head in zip(appends, heads, strict=True)
        if head is not None
    ]
    written = _write(connection, to_write, time) if to_write else set[UUID]()

    for row in to_write:
        if row.head.session in written:
            recent.add(row.head)
        else:
            recent.forget(row.head.session)
    return [
        outcome if head is None or head.session in written else None
        for outcome, head in zip(outcomes, heads, strict=True)
    ]


def _decide_all(
    connection: Connection, appends: Sequence[Append], recent: RecentHeads, time: int
) -> list[Appended | SessionError]:
    """Decide each append by a recent head or by the head in the database (rule 3)."""
    sessions = [hash_of(append.turn.session_id) for append in appends]
    decided: dict[UUID, Appended | SessionError] = {}
    for append, session in zip(appends, sessions, strict=True):
        found = recent.find(session)
        if found is not None:
            decided[session] = _decide(append, found, time)

    unknown = [
        (append, session)
        for append, session in zip(appends, sessions, strict=True)
        if session not in decided or _new_head(decided[session]) is None
    ]
    if unknown:
        turns = [append.new.turn for append, _ in unknown]
        found_heads = read_heads(connection, [session for _, session in unknown], turns)
        for append, session in unknown:
            decided[session] = _decide(append, found_heads[session], time)
    return [decided[session] for session in sessions]


def _decide(append: Append, found: Found, time: int) -> Appended | SessionError:
    """Return the outcome of the append if its head is as it was *found*, or its refusal."""
    turn, new = append
    state = found.state(new.turn)
    try:
        if not must_write(state, turn):
            return Appended(state.revision, None, None)
    except SessionError as error:
        return error

    turns, items = (found.head.turns, found.head.items) if found.head else (0, 0)
    after = found.changed(turn.session_id, time, turns=turns + 1, items=items + new.size)
    return Appended(after.version, found.head, after)


def _new_head(outcome: Appended | SessionError) -> Head | None:
    """Return the head that is to be written; None if nothing is written."""
    return outcome.after if isinstance(outcome, Appended) else None


def _write(connection: Connection, rows: Sequence[_Row], time: int) -> set[UUID]:
    """Write heads and turns at *time*, and return the sessions that were written."""
    if len(rows) == 1:  # Postgres plans this statement only once
        (row,) = rows
        key = (row.head.session, row.turn.turn)
        values = (*_values(row), time, time, *key, row.head.session, time)
        written = connection.execute(_APPEND_ONE, values)
    else:
        keys = ([row.head.session for row in rows], [row.turn.turn for row in rows])
        columns = map(list, zip(*map(_values, rows), strict=True))
        written = connection.execute(_APPEND_MANY, (*columns, time, time, *keys, keys[0], time))
    return {session for (session,) in written}


def _values(row: _Row) -> tuple[object, ...]:
    """Return the values of *row*, in the order of the statement."""
    turn, head = row
    return (
        head.session,
        head.session_id,
        head.session_id and head.session_id[:START_LENGTH],
        head.previous,
        head.version,
        head.cleared,
        head.turns,
        head.items,
        head.items - turn.size,  # the position of the turn's first item
        turn.turn,
        turn.turn_id,
        turn.size,
        turn.words,
        turn.added_text,
        turn.metadata,
        turn.items,
    )
