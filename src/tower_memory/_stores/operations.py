"""The store's operations, each one function that runs whole on its connection's thread.

1. One operation is one transaction: nothing that happens to its caller can cut it in half.
2. Nothing here awaits, and nothing here knows of event loops.
3. A caller that is gone is not worked for: what has not begun is dropped, a load stops.
4. Nobody waits here for another process's lock: who finds the file locked is told to ask again, so
   that nobody's patience is spent on another's behalf.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from typing import Any, cast, final

from tower_memory._codec import ItemCodec
from tower_memory._errors import CorruptSessionError, SessionConflict
from tower_memory._items import Item
from tower_memory._sessions import History, Turn, turn_starts
from tower_memory._stores.schema import is_busy

LOCK_SLICE = 0.005
"""Seconds that a connection waits for the lock before its caller is told to ask again."""

_NEWEST = (
    "SELECT id, turn_id, CAST(item AS BLOB) FROM memory_item"
    " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)"
    " ORDER BY id DESC LIMIT ?"
)
_SIXTEEN_BYTES = re.compile("[0-9a-f]{32}")


@final
class Caller:
    """Whoever waits for an operation, and for how many seconds at most for the lock."""

    __slots__ = ("_deadline", "gone")

    def __init__(self, patience: float = 0) -> None:
        self._deadline = time.monotonic() + patience
        self.gone = False

    def waits(self) -> bool:
        """Whether the lock is still worth waiting for."""
        return not self.gone and time.monotonic() < self._deadline


@final
class PendingTurn:
    """A turn in the queue: what to write, for whom, and in the end what came of it."""

    __slots__ = ("caller", "encoded", "outcome", "turn")

    def __init__(self, turn: Turn[Any], encoded: Sequence[bytes], patience: float) -> None:
        self.turn = turn
        self.encoded = encoded
        self.caller = Caller(patience)
        self.outcome: int | Exception | None = None


TurnQueue = deque[PendingTurn]


@final
class Locked(Exception):
    """Raised when another process has the file locked, and the caller may ask again."""


def load(
    connection: sqlite3.Connection,
    caller: Caller,
    session_id: str,
    limit: int | None,
    codec: ItemCodec[Item],
) -> History[Item]:
    """The session's newest *limit* items, decoded."""
    # One row even for none, as the newest row's id is the revision; -1 for all of them.
    rows = connection.execute(
        _NEWEST, (session_id, -1 if limit is None else min(max(limit, 1), 2**63 - 1))
    )
    revision = 0
    newest_first: list[tuple[str | None, Item]] = []
    with closing(rows):  # left open, it would keep later loads from seeing what is new
        for row, turn_id, item in rows:
            revision = revision or row
            if limit == 0 or caller.gone:
                break
            newest_first.append((_turn_text(turn_id), _decode(codec, session_id, row, item)))
    oldest_first = newest_first[::-1]
    return History(
        (item for _, item in oldest_first),
        revision=revision,
        turns=turn_starts(turn_id for turn_id, _ in oldest_first),
    )


def settle(connection: sqlite3.Connection, queue: TurnQueue, pending: PendingTurn) -> int:
    """Commit all that is queued in one transaction, then say what came of *pending*.

    Every caller puts its turn into the queue and asks for this. Whichever comes first commits for
    all, so turns that arrive while a commit runs share the next one; no caller leads, so none
    can be waited for.
    """
    if pending.outcome is None:
        _commit(connection, queue)
    if pending.outcome is None:
        raise Locked
    if isinstance(pending.outcome, Exception):
        raise pending.outcome
    return pending.outcome


def pop(
    connection: sqlite3.Connection,
    caller: Caller,
    session_id: str,
    codec: ItemCodec[Item],
) -> Item | None:
    """Take the session's newest item."""
    with _transaction(connection, caller.waits):
        newest = connection.execute(_NEWEST, (session_id, 1)).fetchone()
        if newest is None or caller.gone:
            return None
        row, _, item = newest
        popped = _decode(codec, session_id, row, item)
        connection.execute("DELETE FROM memory_item WHERE id = ?", (row,))
        return popped


def clear(connection: sqlite3.Connection, caller: Caller, session_id: str) -> None:
    """Take everything out of the session."""
    with _transaction(connection, caller.waits):
        if caller.gone:
            return
        connection.execute(
            "DELETE FROM memory_item"
            " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)",
            (session_id,),
        )
        connection.execute("DELETE FROM memory_session WHERE session_id = ?", (session_id,))


@contextmanager
def _transaction(
    connection: sqlite3.Connection, ask_again: Callable[[], bool] = lambda: False
) -> Generator[None]:
    """One write transaction. Where the file is locked, *ask_again* tells `Locked` from a fault."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")  # of an earlier one, which failed when it was due
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_busy(error) and ask_again():
            raise Locked from error
        raise
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _commit(connection: sqlite3.Connection, queue: TurnQueue) -> None:
    """Write all that is queued in one transaction and give each turn its own outcome.

    Where the file is locked, those who wait for it stay in the queue.
    """
    batch = _take(queue)
    if not batch:
        return
    try:
        with _transaction(connection):
            batch = [pending for pending in batch if not pending.caller.gone]
            outcomes = [_write(connection, pending.turn, pending.encoded) for pending in batch]
    except Exception as error:  # noqa: BLE001 - it becomes the outcome, which settle raises
        if isinstance(error, sqlite3.Error) and is_busy(error):
            for pending in reversed(batch):
                if pending.caller.waits():
                    queue.appendleft(pending)
                else:
                    pending.outcome = error
        elif len(batch) == 1:
            batch[0].outcome = error
        else:  # one turn's fault is not its neighbours'
            for pending in batch:
                _commit(connection, deque([pending]))
    else:
        for pending, outcome in zip(batch, outcomes, strict=True):
            pending.outcome = outcome


def _take(queue: TurnQueue) -> list[PendingTurn]:
    taken: list[PendingTurn] = []
    while queue:
        pending = queue.popleft()
        if not pending.caller.gone:
            taken.append(pending)
    return taken


def _write(
    connection: sqlite3.Connection, turn: Turn[Any], encoded: Sequence[bytes]
) -> int | SessionConflict:
    """Write *turn* in the open transaction; the revision after it, or why it was not written."""
    session: int | None
    revision: int
    session, revision = connection.execute(
        "SELECT s.id, ifnull((SELECT max(id) FROM memory_item WHERE session = s.id), 0)"
        " FROM (SELECT ? AS session_id) LEFT JOIN memory_session AS s USING (session_id)",
        (turn.session_id,),
    ).fetchone()
    turn_id: bytes | str | None = _turn_key(turn.turn_id)
    if connection.execute(
        "SELECT 1 FROM memory_item WHERE session = ? AND turn_id = ?", (session, turn_id)
    ).fetchone():
        return revision
    if turn.expected_revision not in (None, revision):
        return SessionConflict(turn.session_id, expected=turn.expected_revision, actual=revision)
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


def _insert(connection: sqlite3.Connection, sql: str, *values: object) -> int:
    """Insert one row and return its id."""
    return cast("int", connection.execute(sql, values).lastrowid)


def _decode(codec: ItemCodec[Item], session_id: str, row: int, item: bytes) -> Item:
    try:
        return codec.decode(item)
    except ValueError as error:
        raise CorruptSessionError(session_id, row=row, reason=str(error)) from error


def _turn_key(turn_id: str) -> bytes | str:
    """How a turn id is stored: the 16 bytes that it spells, if it does, else as it is."""
    return bytes.fromhex(turn_id) if _SIXTEEN_BYTES.fullmatch(turn_id) else turn_id


def _turn_text(key: bytes | str | None) -> str | None:
    return key.hex() if isinstance(key, bytes) else key
