"""The changes of one session, as functions that run in an open transaction.

1. A function changes its session whole, or raises before it has written anything.
2. No function here awaits, or knows an event loop. `group_commit` runs several in one transaction.
3. Every change gives the session its next number (see `tables`).
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, NamedTuple

from tower_memory._codec import join_array, split_array
from tower_memory._errors import CorruptSessionError
from tower_memory._items import Item
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.records import EncodedTurn, to_datetime, turn_key
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.session_cache import CommittedTurn, LastTurn, Version
from tower_memory._stores.sql.committed import committed_turn
from tower_memory._stores.sqlite.heads import add_tombstone, create_head, find_for, find_head
from tower_memory._stores.sqlite.turn_rows import add_turn, end_pending, remove_turns, shorten_turn
from tower_memory._turn import Turn

_NEWEST = (
    "SELECT id, number, first, CAST(items AS BLOB) FROM memory_turn WHERE session = ? AND size > 0"
    " ORDER BY first DESC, number DESC LIMIT 1"
)


class Appended(NamedTuple):
    """The result of an append.

    Attributes:
        revision: The session's revision.
        committed: The new turn, for the session cache; None if nothing was written, or if turns
            were replaced: the next load then reads the session anew.
    """

    revision: int
    committed: CommittedTurn | None


def append(connection: sqlite3.Connection, turn: Turn[Any], encoded: EncodedTurn) -> Appended:
    """Add the turn to its session, unless the session holds it; it is no longer pending.

    Raises:
        SessionCleared: See `SessionStore.append`.
        SessionConflict: See `SessionStore.append`.
        TurnMissing: See `SessionStore.append`.
    """
    head, replaced, state = find_for(connection, turn)
    to_write, key = must_write(state, turn), turn_key(turn.turn_id)
    if head is not None:
        end_pending(connection, head.id, key)
    if not to_write:
        return Appended(state.revision, None)

    now = time.time_ns()
    before = Version(head.revision, head.updated_at) if head else None
    head = head or create_head(connection, turn.session_id, state.cleared, now)
    number = head.high + 1
    first, turns, last_replaced = head.items, head.turns, head.replaced

    if replaced is not None:
        first = replaced[0]
        turns -= remove_turns(connection, head.id, replaced)
        last_replaced = number

    add_turn(connection, head.id, (first, number), encoded, turn_key=key, created_at=now)
    end = first + len(encoded.items)
    head._replace(
        high=number, replaced=last_replaced, updated_at=now, turns=turns + 1, items=end
    ).save(connection)

    if replaced is not None:
        return Appended(number, None)
    last = LastTurn(first, number, now)
    committed = committed_turn(
        turn,
        encoded,
        before=before,
        after=Version(number, now),
        last=last,
        created_at=to_datetime(now),
    )
    return Appended(number, committed)


def pop(connection: sqlite3.Connection, session_id: str, reader: TextReader[Item]) -> Item | None:
    """Remove and return the session's newest item; None if there is none.

    Raises:
        CorruptSessionError: The item cannot be decoded.
    """
    head = find_head(connection, session_id)
    newest = head and connection.execute(_NEWEST, (head.id,)).fetchone()
    if not head or not newest:
        return None

    row, number, first, array = newest
    try:
        *left, last = split_array(array)
        popped: Item = reader.codec.decode(last)
        shorter = join_array(left)
        shorter.decode()
    except ValueError as error:
        raise CorruptSessionError(session_id, row=row, reason=str(error)) from error

    added = reader.added_text_of(shorter)  # before anything is written

    # Later turns, which have no items, are removed, too, and the item's turn if it is then empty.
    lowest = number + 1 if left else number
    removed = remove_turns(connection, head.id, (first, lowest))

    head = head._replace(high=head.high + 1, updated_at=time.time_ns())
    if left:  # a turn that changes gets a new number
        shorten_turn(connection, row, head.high, left, before=array, added=added)
    head._replace(turns=head.turns - removed, items=head.items - 1).save(connection)
    return popped


def clear(connection: sqlite3.Connection, session_id: str) -> bool:
    """Remove all turns, pending turns and summaries of the session; its head stays.

    Return False if there is no such session.
    """
    head = find_head(connection, session_id)
    if head is None:
        add_tombstone(connection, session_id)
        return False

    remove_content(connection, head.id)
    number = head.high + 1
    head._replace(high=number, cleared=number, updated_at=time.time_ns(), turns=0, items=0).save(
        connection
    )
    return True


def remove_content(connection: sqlite3.Connection, head_id: int) -> None:
    """Remove the turns, pending turns and summaries of the session with the head *head_id*."""
    remove_turns(connection, head_id, (0, 0))
    connection.execute("DELETE FROM memory_pending WHERE session = ?", (head_id,))
