"""The store's write operations and their group commit, as functions that run on a worker thread.

1. An operation runs whole within one transaction, which it may share with other operations.
   Nothing that happens to its caller can split it, and no operation fails because another fails.
2. No function here awaits or knows an event loop.
3. If a caller no longer waits, its operation is dropped, unless it has begun.
4. No function waits here for another process's lock beyond `LOCK_SLICE`. If the file is locked, the
   caller is told to retry (`Locked`), so no caller's waiting delays another caller.
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
from tower_memory._stores.sqlite.schema import is_busy
from tower_memory._turn import Turn

LOCK_SLICE = 0.005
"""Seconds that the connection waits for another process's lock in one attempt, and seconds after a
failed attempt in which no other is made: otherwise each caller would wait for all others' attempts.
"""

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
    """The caller of an operation, with its deadline for getting the lock.

    Attributes:
        gone: True once the caller no longer waits for the operation.
    """

    __slots__ = ("_deadline", "gone")

    def __init__(self, patience: float = 0) -> None:
        self._deadline = time.monotonic() + patience
        self.gone = False

    def left(self) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

    def waits(self) -> bool:
        """Return True while the caller waits and its deadline has not passed."""
        return not self.gone and self.left() > 0


@final
class Write:
    """A queued write: its operation, its caller and, once settled, its outcome."""

    __slots__ = ("caller", "operation", "outcome", "settled")

    def __init__(self, operation: Callable[[sqlite3.Connection], Any], patience: float) -> None:
        self.operation = operation
        self.caller = Caller(patience)
        self.outcome: Any = None
        self.settled = False

    def settle(self, outcome: Any) -> None:
        """Set the outcome: the operation's result, or the exception to raise to the caller."""
        self.outcome = outcome
        self.settled = True


@final
class WriteQueue(deque[Write]):
    """The writes that wait for a commit, and the time at which the file was last found locked."""

    locked_at = -inf


@final
class Locked(Exception):
    """Raised when another process has locked the file; the caller may retry."""


def append(connection: sqlite3.Connection, turn: Turn[Any], encoded: Sequence[bytes]) -> int:
    """Add the turn to its session in the open transaction and return the session's revision."""
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
        turn_id = None  # only the first row has the id
    return revision


def pop(connection: sqlite3.Connection, session_id: str, codec: ItemCodec[Item]) -> Item | None:
    """Remove and return the session's newest item in the open transaction; None if it is empty."""
    newest = connection.execute(_LAST, (session_id,)).fetchone()
    if newest is None:
        return None
    row, item = newest
    (popped,) = decode_all(codec, session_id, [row], [item])
    connection.execute("DELETE FROM memory_item WHERE id = ?", (row,))
    return popped


def clear(connection: sqlite3.Connection, session_id: str) -> None:
    """Remove the session and all its items in the open transaction."""
    connection.execute(
        "DELETE FROM memory_item"
        " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)",
        (session_id,),
    )
    connection.execute("DELETE FROM memory_session WHERE session_id = ?", (session_id,))


def settle(connection: sqlite3.Connection, queue: WriteQueue, write: Write) -> Any:
    """Commit all queued writes in one transaction, then return or raise the outcome of *write*.

    Each caller queues its write and then calls this function. The first call commits the whole
    queue, so the writes that arrive during a commit share the next one. There is no leader, so no
    caller depends on another.

    Raises:
        Locked: Another process has locked the file, and the caller may retry.
    """
    if not write.settled and time.monotonic() > queue.locked_at + LOCK_SLICE:
        _commit(connection, queue)
    if not write.settled:
        raise Locked
    if isinstance(write.outcome, Exception):
        raise write.outcome
    return write.outcome


def _commit(connection: sqlite3.Connection, queue: WriteQueue) -> None:
    """Commit all queued writes in one transaction and settle each with its own outcome.

    If the file is locked, put the writes that have a waiting caller back into the queue.
    """
    batch = _drain(queue)
    if not batch:
        return

    try:
        with _transaction(connection):
            batch = [write for write in batch if not write.caller.gone]
            outcomes = [_run(connection, write) for write in batch]
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
        else:  # commit each write alone, so that only the faulty write fails
            for write in batch:
                _commit(connection, WriteQueue([write]))
    else:
        for write, outcome in zip(batch, outcomes, strict=True):
            write.settle(outcome)


def _run(connection: sqlite3.Connection, write: Write) -> Any:
    try:
        return write.operation(connection)
    except SessionError as error:  # raised before the operation wrote anything
        return error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    if connection.in_transaction:
        connection.execute("ROLLBACK")  # the rollback of an earlier transaction failed

    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _drain(queue: WriteQueue) -> list[Write]:
    """Empty the queue; return its writes, except those of callers that no longer wait."""
    drained: list[Write] = []
    while queue:
        write = queue.popleft()
        if not write.caller.gone:
            drained.append(write)
    return drained


def _insert(connection: sqlite3.Connection, sql: str, *values: object) -> int:
    """Insert one row and return its id."""
    return cast("int", connection.execute(sql, values).lastrowid)


def decode_all(
    codec: ItemCodec[Item], session_id: str, rows: Sequence[int], encoded: Iterable[bytes]
) -> list[Item]:
    """Decode the items of the rows with the ids *rows*.

    Raises:
        CorruptSessionError: An item cannot be decoded.
    """
    items: list[Item] = []
    try:
        items.extend(map(codec.decode, encoded))
    except ValueError as error:
        raise CorruptSessionError(session_id, row=rows[len(items)], reason=str(error)) from error
    return items


def _turn_key(turn_id: str) -> bytes | str:
    """Return the stored form of a turn id: 16 bytes if it is 32 hexadecimal digits, else itself."""
    return bytes.fromhex(turn_id) if _SIXTEEN_BYTES.fullmatch(turn_id) else turn_id


def turn_text(key: bytes | str) -> str:
    """Return the turn id that is stored as *key*."""
    return key.hex() if isinstance(key, bytes) else key
