"""Appending plain turns of many sessions with one statement.

1. The statement of an append writes the heads by compare-and-set (rule 1 of `heads`), and adds the
   turns of the heads that it has written. It is a transaction of its own, in one round trip.
2. A session that another writer has changed since its head was read is left out. Its turn is
   decided anew.
3. A plain turn has items and replaces no turns. `writes.append` appends every other turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from tower_memory._stores.append_checks import must_write
from tower_memory._stores.postgres.hashes import hash_of
from tower_memory._stores.postgres.heads import START_LENGTH, Found, Head, now, read_heads
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.turn_rows import NewTurn
from tower_memory._turn import Turn

# words: one array per turn, as text, since Postgres has no arrays of arrays of different lengths.
_APPEND: Final = """
    WITH new AS (
        SELECT * FROM unnest(
            %b::uuid[], %b::bytea[], %b::bytea[], %b::bigint[], %b::bigint[], %b::bigint[],
            %b::bigint[], %b::bigint[], %b::bigint[], %b::uuid[], %b::bytea[], %b::bigint[],
            %b::text[], %b::bytea[], %b::bytea[], %b::bytea[]
        ) AS new (
            session, session_id, id_start, previous, version, cleared,
            turns, items, first, turn, turn_id, size,
            words, added_text, metadata, turn_items
        )
    ), head AS (
        INSERT INTO memory_head AS h (
            session, session_id, id_start, version, previous, active, revision, first_number,
            cleared, replaced, created_at, updated_at, turns, items
        )
        SELECT session, session_id, id_start, version, previous, version, version, version,
            cleared, 0, %b, %b, turns, items
        FROM new ORDER BY session
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
    SELECT new.session, first, version, turn, turn_id, %b, size, words::bigint[], added_text,
        metadata, turn_items
    FROM new JOIN head ON head.session = new.session
    RETURNING session
"""


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
        first: Position of the turn's first item.
    """

    revision: int
    before: Head | None
    after: Head | None
    first: int


def append_turns(
    connection: Connection, appends: Sequence[Append]
) -> list[Appended | Exception | None]:
    """Append turns of different sessions, and return the outcome of each.

    An outcome is an error for a turn that is refused, and None for a turn that was left out
    (rule 2).
    """
    sessions = [hash_of(append.turn.session_id) for append in appends]
    found = read_heads(connection, sessions, [append.new.turn for append in appends])

    time = now()
    outcomes = [
        _decide(append, found[session], time)
        for append, session in zip(appends, sessions, strict=True)
    ]
    to_write = [
        (append, outcome.after, outcome.first)
        for append, outcome in zip(appends, outcomes, strict=True)
        if isinstance(outcome, Appended) and outcome.after is not None
    ]
    written = _write(connection, to_write, time) if to_write else set[UUID]()

    return [
        None
        if isinstance(outcome, Appended)
        and outcome.after is not None
        and outcome.after.session not in written
        else outcome
        for outcome in outcomes
    ]


def _decide(append: Append, found: Found, time: int) -> Appended | Exception:
    """Return what the append would do, or the error by which it is refused."""
    turn, new = append
    state = found.state(new.turn)
    try:
        if not must_write(state, turn):
            return Appended(state.revision, None, None, 0)
    except Exception as error:  # noqa: BLE001 - the outcome of this turn only
        return error

    turns, first = (found.head.turns, found.head.items) if found.head else (0, 0)
    after = found.changed(turn.session_id, time, turns=turns + 1, items=first + new.size)
    return Appended(after.version, found.head, after, first)


def _write(
    connection: Connection, to_write: Sequence[tuple[Append, Head, int]], time: int
) -> set[UUID]:
    """Write turns, each with the new head and its first position; return the sessions written."""
    heads = [head for _, head, _ in to_write]
    turns = [append.new for append, _, _ in to_write]
    values = (
        [head.session for head in heads],
        [head.session_id for head in heads],
        [head.session_id and head.session_id[:START_LENGTH] for head in heads],
        [head.previous for head in heads],
        [head.version for head in heads],
        [head.cleared for head in heads],
        [head.turns for head in heads],
        [head.items for head in heads],
        [first for _, _, first in to_write],
        [turn.turn for turn in turns],
        [turn.turn_id for turn in turns],
        [turn.size for turn in turns],
        [f"{{{','.join(map(str, turn.words))}}}" for turn in turns],
        [turn.added_text for turn in turns],
        [turn.metadata for turn in turns],
        [turn.items for turn in turns],
        *(time, time, time),
    )
    return {session for (session,) in connection.execute(_APPEND, values)}
