"""The changes of one session, as functions that run in an open transaction.

1. A function reads its session, decides, writes the head by compare-and-set, and then the rest. If
   it raises, the transaction is rolled back.
2. `group_commit` runs each function in a transaction of its own. It appends plain turns of many
   sessions together (`appends`).
"""

from __future__ import annotations

from typing import Any, Final, cast
from uuid import UUID

from tower_memory._codec import join_array, split_array
from tower_memory._errors import CorruptSessionError
from tower_memory._items import Item
from tower_memory._stores.append_checks import must_write
from tower_memory._stores.postgres.heads import (
    Head,
    find_for,
    put_head,
    put_tombstone,
    read_head,
    wall_time,
)
from tower_memory._stores.postgres.link import Connection
from tower_memory._stores.postgres.rows import place_of_replaced
from tower_memory._stores.postgres.tables import NOT_INDEXED
from tower_memory._stores.postgres.turn_rows import (
    NewTurn,
    add_turn,
    count_turns_from,
    end_pending,
    remove_turns,
)
from tower_memory._stores.postgres.words import words_of
from tower_memory._stores.search_text import TextReader
from tower_memory._stores.sql.rows import Place
from tower_memory._turn import Turn

_NEWEST: Final = (
    "SELECT first, number, turn, turn_id, created_at, words, metadata, items"
    " FROM memory_turn WHERE session = %b AND size > 0 ORDER BY first DESC, number DESC LIMIT 1"
)
_REMOVE_PENDING: Final = "DELETE FROM memory_pending WHERE session = %b"


def append(connection: Connection, turn: Turn[Any], new: NewTurn) -> int:
    """Append a turn that replaces others or has no items; it is no longer pending.

    Return the revision of the session. Every other turn is appended in a batch (`appends`).

    Raises:
        SessionCleared: See `SessionStore.append`.
        SessionConflict: See `SessionStore.append`.
        TurnMissing: See `SessionStore.append`.
    """
    found, time = find_for(connection, turn), wall_time()
    head, session = found.head, found.session

    replaced = place_of_replaced(connection, found, turn)
    state = found.state(new.turn, holds_replaced=replaced is not None)
    if not must_write(state, turn):
        if head is not None:
            put_head(connection, head.written(time))
            end_pending(connection, session, new.turn)
        return state.revision

    # A turn of this function is only written if it replaces a turn that the session holds.
    head, place = cast("Head", head), cast("Place", replaced)
    first, _ = place
    turns = head.turns - count_turns_from(connection, session, place)
    after = head.changed(time, turns=turns + 1, items=first + new.size)
    put_head(connection, after._replace(replaced=after.version))

    remove_turns(connection, session, place)
    end_pending(connection, session, new.turn)
    add_turn(connection, session, (first, after.version), new, time)
    return after.version


def pop(connection: Connection, session_id: str, reader: TextReader[Item]) -> Item | None:
    """Remove and return the session's newest item; None if there is none.

    Raises:
        CorruptSessionError: The item cannot be decoded.
    """
    found, time = read_head(connection, session_id), wall_time()
    newest = found.head and connection.execute(_NEWEST, (found.session,)).fetchone()
    if not found.head or not newest:
        return None

    first, number, turn, turn_id, created_at, words, metadata, array = newest
    try:
        *left, last = split_array(array)
        popped: Item = reader.codec.decode(last)
    except ValueError as error:
        raise CorruptSessionError(session_id, row=number, reason=str(error)) from error

    shorter = join_array(left)
    added = reader.added_text_of(shorter)
    place = (first, number)
    turns = found.head.turns - count_turns_from(connection, found.session, place) + bool(left)
    after = found.head.changed(time, turns=turns, items=found.head.items - 1)
    put_head(connection, after)

    # The later turns are removed, too: they have no items.
    remove_turns(connection, found.session, place)
    if left:  # the rest of the turn is added again, because a turn that changes gets a new number
        shortened = NewTurn(
            turn,
            turn_id,
            len(left),
            words if words == NOT_INDEXED else words_of(shorter, added),
            added.encode() or None,
            metadata,
            shorter,
        )
        add_turn(connection, found.session, (first, after.version), shortened, created_at)
    return popped


def clear(connection: Connection, session_id: str) -> None:
    """Remove all turns, pending turns and summaries of the session; its head stays.

    A session that does not exist gets a tombstone.
    """
    found, time = read_head(connection, session_id), wall_time()
    if found.head is None:
        put_tombstone(connection, found, time)
        return

    after = found.head.changed(time, turns=0, items=0)
    put_head(connection, after._replace(cleared=after.version))
    remove_content(connection, found.session)


def remove_content(connection: Connection, session: UUID) -> None:
    """Remove the turns, pending turns and summaries of a session."""
    remove_turns(connection, session, (0, 0))
    connection.execute(_REMOVE_PENDING, (session,))
