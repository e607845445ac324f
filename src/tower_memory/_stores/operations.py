"""The store's operations, each one function that runs whole on its connection's thread.

1. One operation is whole within one transaction, which it may share with others: nothing that
   happens to its caller can cut it in half, and none fails for what another did.
2. Nothing here awaits, and nothing here knows of event loops.
3. A caller that is gone is not worked for: what has not begun is dropped.
4. Nobody waits here for another process's lock: who finds the file locked is told to ask again, so
   that nobody's patience is spent on another's behalf.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, cast, final

from tower_memory._codec import ItemCodec
from tower_memory._errors import CorruptSessionError, SessionConflict, SessionError
from tower_memory._items import Item
from tower_memory._sessions import Turn
from tower_memory._stores.schema import is_busy

LOCK_SLICE = 0.005
"""Seconds that a connection waits for the lock before its caller is told to ask again, and after
which it tries again: each of many callers would otherwise wait for all others' tries."""

_STATE = (
    "SELECT s.id, ifnull((SELECT max(id) FROM memory_item WHERE session = s.id), 0),"
    " EXISTS (SELECT 1 FROM memory_item WHERE session = s.id AND turn_id = ?)"
    " FROM (SELECT ? AS session_id) LEFT JOIN memory_session AS s USING (session_id)"
)
_LAST = (
    "SELECT id, CAST(item AS BLOB) FROM memory_item"
    " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)"
    " ORDER BY id DESC LIMIT 1"
)
_SIXTEEN_BYTES = re.compile("[0-9a-f]{32}")


@final
class Caller:
    """Whoever waits for an operation, and for how many seconds at most for the lock."""

    __slots__ = ("_deadline", "gone")

    def __init__(self, patience: float = 0) -> None:
        self._deadline = time.monotonic() + patience
        self.gone = False

    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._deadline - time.monotonic())

    def waits(self) -> bool:
        """Whether the lock is still worth waiting for."""
        return not self.gone and self.left() > 0


@final
class Write:
    """Something to write, in the queue: what, for whom, and in the end what came of it."""

    __slots__ = ("caller", "operation", "outcome", "settled")

    def __init__(self, operation: Callable[[sqlite3.Connection], Any], patience: float) -> None:
        self.operation = operation
        self.caller = Caller(patience)
        self.outcome: Any = None
        self.settled = False

    def settle(self, outcome: Any) -> None:
        """Note what came of it: what it returns, or an exception that it raises."""
        self.outcome = outcome
        self.settled = True


@final
class WriteQueue(deque[Write]):
    """What is to be written, and when the file was last found locked."""

    locked_at = -inf


@final
class Locked(Exception):
    """Raised when another process has the file locked, and the caller may ask again."""


def append(connection: sqlite3.Connection, turn: Turn[Any], encoded: Sequence[bytes]) -> int:
    """Add the turn to its session, in the open transaction; the revision after it."""
    session: int | None
    revision: int
    turn_id: bytes | str | None = _turn_key(turn.turn_id)
    session, revision, is_held = connection.execute(_STATE, (turn_id, turn.session_id)).fetchone()
    if is_held:
        return revision
    if turn.expected_revision not in (None, revision):
        raise SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
    if session is None and encoded:
        session = _insert(
            connection, "INSERT INTO memory_session (session_id) VALUES (?)", turn.session_id
        )
    now = time.time_ns()
    for item in encoded:
        revision = _insert(
            connection,
            "INSERT INTO memory_item (session, created_at, turn_id, item) VALUES (?, ?, ?, ?)",
            *(session, now, turn_id, item.decode()),
        )
        turn_id = None  # on the first row only
    return revision


def pop(connection: sqlite3.Connection, session_id: str, codec: ItemCodec[Item]) -> Item | None:
    """Take the session's newest item, in the open transaction."""
    newest = connection.execute(_LAST, (session_id,)).fetchone()
    if newest is None:
        return None
    row, item = newest
    (popped,) = decode_all(codec, session_id, [row], [item])
    connection.execute("DELETE FROM memory_item WHERE id = ?", (row,))
    return popped


def clear(connection: sqlite3.Connection, session_id: str) -> None:
    """Take everything out of the session, in the open transaction."""
    connection.execute(
        "DELETE FROM memory_item"
        " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)",
        (session_id,),
    )
    connection.execute("DELETE FROM memory_session WHERE session_id = ?", (session_id,))


def settle(connection: sqlite3.Connection, queue: WriteQueue, write: Write) -> Any:
    """Commit all that is queued in one transaction, then say what came of *write*.

    Every caller puts its own into the queue and asks for this. Whichever comes first commits for
    all, so what arrives while a commit runs shares the next one; no caller leads, so none can be
    waited for.
    """
    if not write.settled and time.monotonic() > queue.locked_at + LOCK_SLICE:
        _commit(connection, queue)
    if not write.settled:
        raise Locked
    if isinstance(write.outcome, Exception):
        raise write.outcome
    return write.outcome


def _commit(connection: sqlite3.Connection, queue: WriteQueue) -> None:
    """Write all that is queued in one transaction and give each its own outcome.

    Where the file is locked, those who wait for it stay in the queue.
    """
    batch = _take(queue)
    if not batch:
        return
    try:
        with _transaction(connection):
            batch = [write for write in batch if not write.caller.gone]
            outcomes = [_outcome(connection, write) for write in batch]
    except Exception as error:  # noqa: BLE001 - it becomes the outcome, which settle raises
        if isinstance(error, sqlite3.Error) and is_busy(error):
            queue.locked_at = time.monotonic()
            for write in reversed(batch):
                if write.caller.waits():
                    queue.appendleft(write)
                else:
                    write.settle(error)
        elif len(batch) == 1:
            batch[0].settle(error)
        else:  # one's fault is not its neighbours'
            for write in batch:
                _commit(connection, WriteQueue([write]))
    else:
        for write, outcome in zip(batch, outcomes, strict=True):
            write.settle(outcome)


def _outcome(connection: sqlite3.Connection, write: Write) -> Any:
    try:
        return write.operation(connection)
    except SessionError as error:  # before anything was written
        return error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    if connection.in_transaction:
        connection.execute("ROLLBACK")  # of an earlier one, which failed when it was due
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _take(queue: WriteQueue) -> list[Write]:
    taken: list[Write] = []
    while queue:
        write = queue.popleft()
        if not write.caller.gone:
            taken.append(write)
    return taken


def _insert(connection: sqlite3.Connection, sql: str, *values: object) -> int:
    """Insert one row and return its id."""
    return cast("int", connection.execute(sql, values).lastrowid)


def decode_all(
    codec: ItemCodec[Item], session_id: str, rows: Sequence[int], encoded: Iterable[bytes]
) -> list[Item]:
    """The items in the *rows* of these ids.

    Raises:
        CorruptSessionError: One cannot be decoded.
    """
    items: list[Item] = []
    try:
        items.extend(map(codec.decode, encoded))
    except ValueError as error:
        raise CorruptSessionError(session_id, row=rows[len(items)], reason=str(error)) from error
    return items


def _turn_key(turn_id: str) -> bytes | str:
    """How a turn id is stored: the 16 bytes that it spells, if it does, else as it is."""
    return bytes.fromhex(turn_id) if _SIXTEEN_BYTES.fullmatch(turn_id) else turn_id


def turn_text(key: bytes | str) -> str:
    """The turn id that is stored as *key*."""
    return key.hex() if isinstance(key, bytes) else key
