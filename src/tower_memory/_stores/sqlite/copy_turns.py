"""Copying of rows with one item each to the turns of schema 2.

Files of schema 1 and the tables of tower-llm and openai-agents have such rows.

1. The JSON of each item is copied byte for byte. A turn's items are these texts, joined to an
   array.
2. A row with a turn id starts a turn, and the rows that directly follow it in its session belong to
   it. The other rows are those that another program wrote. They belong to no turn, so each of
   their exchanges becomes a turn.
3. The id of such a turn is a hash of the session id and the position of its first item. Therefore a
   file gets the same ids wherever it is copied, and also if a program of schema 1 took it over
   before. The hash has 128 bits, and its key is used for nothing else. So a collision with the id
   of another turn is as improbable as one of two random ids.
4. A row that is not JSON makes its turn unreadable and nothing else. The turn's text keeps all
   bytes and gets a mark in front, which no JSON text starts with. Without the mark, the texts of
   two damaged rows could together be the JSON of one item that was never stored.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, NamedTuple, final

from msgspec import Raw, json

from tower_memory._codec import join_array
from tower_memory._stores.progress import Report
from tower_memory._stores.sqlite.tables import FIRST_NUMBER_SHIFT
from tower_memory.dialects._known_links import known_links

DAMAGED: Final = b"damaged: "
"""The mark in front of the items of a turn that cannot be read (rule 4)."""

WATCH_INTERVAL: Final = 1000
"""Number of rows between two calls of *report* and *keep_going*."""

_json: json.Decoder[Any] = json.Decoder()
_raw: json.Decoder[Raw] = json.Decoder(Raw)

# A text may hold bytes that are not UTF-8, which Python's module cannot bind as text.
_INSERT_TURN = (
    "INSERT INTO memory_turn (session, number, turn_id, created_at, first, size, items) VALUES"
    " (:head, :number, CASE :kind WHEN 'text' THEN CAST(:turn_id AS TEXT) ELSE :turn_id END,"
    " :created_at, :first, :size, CAST(:items AS TEXT))"
)
_UPDATE_HEAD = (
    "UPDATE memory_head SET high = :high, revision = :high, active = :active,"
    " created_at = :created_at, updated_at = :updated_at, turns = :turns, items = :items"
    " WHERE id = :head"
)


class Stopped(Exception):
    """Raised when the rows are no longer wanted; the open transaction must be rolled back."""


class Row(NamedTuple):
    """A row with one item.

    Attributes:
        id: Id of the row; a row that was written later has a larger id.
        session: Id of the session's head.
        created_at: Nanoseconds since 1970, UTC.
        item: JSON of the item.
        turn_id: Bytes of the id of the turn that the row starts, or None.
        kind: SQLite's type of the turn id: ``"blob"``, ``"text"`` or ``"null"``.
    """

    id: int
    session: int
    created_at: int
    item: bytes
    turn_id: bytes | None = None
    kind: str = "null"


@final
@dataclass(slots=True)
class _Session:
    """The copied rows of one session.

    Attributes:
        turns: Number of turns.
        items: Number of items.
        created_at: Time of the first row.
        updated_at: Time of the last row.
        last_row: Id of the last row.
    """

    turns: int = 0
    items: int = 0
    created_at: int = 0
    updated_at: int = 0
    last_row: int = 0


def watch(
    rows: Iterable[Row], total: int, report: Report, keep_going: Callable[[], bool]
) -> Iterator[Row]:
    """Yield *rows*; now and then report their number, and stop if they are no longer wanted.

    Raises:
        Stopped: *keep_going* returned False.
    """
    for done, row in enumerate(rows):
        if done % WATCH_INTERVAL == 0:
            report(done, total)
            if not keep_going():
                raise Stopped
        yield row


def copy_turns(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Copy *rows* to turns in the open transaction, and complete the heads of their sessions.

    Args:
        connection: A connection to a file with the tables of schema 2. Each session of the file has
            a new head.
        rows: Rows in the order of their sessions' items. Sessions may alternate.
    """
    sessions: defaultdict[int, _Session] = defaultdict(_Session)

    for rows_of_turn in _group(rows):
        head = rows_of_turn[0].session
        _insert_turn(connection, head, sessions[head], rows_of_turn)

    _complete_heads(connection, sessions)


def _group(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each turn (rule 2)."""
    turn: list[Row] = []
    for row in rows:
        if turn and _starts_turn(row, turn[0]):
            yield turn
            turn = []
        turn.append(row)
    if turn:
        yield turn


def _starts_turn(row: Row, first: Row) -> bool:
    """Return True if *row* does not belong to the turn that *first* starts."""
    if row.session != first.session or row.turn_id is not None:
        return True
    return first.turn_id is None and _starts_exchange(row.item)


def _starts_exchange(item: bytes) -> bool:
    try:
        decoded = _json.decode(item)
    except (ValueError, RecursionError):
        return False
    return known_links(decoded).starts_exchange


def _insert_turn(
    connection: sqlite3.Connection, head: int, session: _Session, rows: Sequence[Row]
) -> None:
    """Insert the turn of *rows*, and add it to *session*, whose head has the id *head*."""
    start, end = rows[0], rows[-1]
    kind, turn_id = start.kind, start.turn_id
    if turn_id is None:
        kind, turn_id = "blob", _hashed_id(connection, head, session.items)

    number = (head << FIRST_NUMBER_SHIFT) + session.turns + 1
    items = _join([row.item for row in rows])
    connection.execute(
        _INSERT_TURN,
        {
            "head": head,
            "number": number,
            "kind": kind,
            "turn_id": turn_id,
            "created_at": start.created_at,
            "first": session.items,
            "size": len(rows),
            "items": items,
        },
    )

    if not session.turns:
        session.created_at = start.created_at
    session.turns += 1
    session.items += len(rows)
    session.updated_at = end.created_at
    session.last_row = end.id


def _hashed_id(connection: sqlite3.Connection, head: int, first: int) -> bytes:
    """Return the id of the turn at the position *first* that has no id of its own (rule 3)."""
    (session_id,) = connection.execute(
        "SELECT CAST(session_id AS BLOB) FROM memory_head WHERE id = ?", (head,)
    ).fetchone()
    hashed = first.to_bytes(8, "big") + session_id
    return blake2b(hashed, digest_size=16, key=b"tower-memory: turn without an id").digest()


def _join(items: Sequence[bytes]) -> bytes:
    """Return *items* as a JSON array (rules 1 and 4)."""
    array = join_array(items)
    return array if all(map(_is_json, items)) else DAMAGED + array


def _is_json(item: bytes) -> bool:
    try:
        _raw.decode(item)
    except ValueError:
        return False
    except RecursionError:  # a program with a higher recursion limit can perhaps read it
        return True
    return True


def _complete_heads(connection: sqlite3.Connection, sessions: dict[int, _Session]) -> None:
    """Set the state of all heads; the session with the latest row becomes the last active one."""
    empty = [
        head
        for (head,) in connection.execute("SELECT id FROM memory_head ORDER BY id")
        if head not in sessions
    ]
    connection.executemany("UPDATE memory_head SET active = ? WHERE id = ?", enumerate(empty, 1))

    by_activity = sorted(sessions.items(), key=lambda entry: entry[1].last_row)
    connection.executemany(
        _UPDATE_HEAD,
        (
            {
                "head": head,
                "high": (head << FIRST_NUMBER_SHIFT) + session.turns,
                "active": active,
                "created_at": session.created_at,
                "updated_at": session.updated_at,
                "turns": session.turns,
                "items": session.items,
            }
            for active, (head, session) in enumerate(by_activity, len(empty) + 1)
        ),
    )
