"""Loads through a session cache: a cached session is refreshed by reading only its new rows.

1. Rows are only added, removed from the end, or cleared, and an id is never reused (`schema`).
   Therefore, while the last row that was read is still there, all rows before it are unchanged.
2. The cache belongs to a connection and is dropped with it, because the next connection may be to
   another file.
3. The cache takes at most a given number of bytes. It evicts the least recently used session first.
4. A load stops once its caller no longer waits. A long load pauses now and then so that the event
   loop can run, which would otherwise wait for Python's switch interval.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from time import monotonic, sleep
from typing import Any, Final, Generic, NamedTuple, TypeAlias, final

from tower_memory._codec import ItemCodec
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._stores.session_cache import KeptSession, in_parts
from tower_memory._stores.sqlite.writes import Caller, decode_all, turn_text

_Row: TypeAlias = tuple[int, int, bytes | str | None, bytes]
"""An item's row: id, time of writing, id of the turn that it starts or None, and JSON."""

_ROWS = (
    "SELECT id, created_at, turn_id, CAST(item AS BLOB) FROM memory_item"
    " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)"
)
_FROM = f"{_ROWS} AND id >= ? ORDER BY id"
_NEWEST = f"{_ROWS} ORDER BY id DESC LIMIT ?"

_PAUSE_INTERVAL: Final = 0.001
"""Seconds between two pauses of a load."""

_PAUSE: Final = 1e-6
"""Seconds that a pause asks to sleep. Systems sleep about fifty times as long, which lets another
thread wake up."""

_BYTES_PER_CHARACTER: Final = 4
"""Maximum number of bytes that a character of a session id takes."""


@final
@dataclass(slots=True)
class HotSession:
    """A cached session.

    Attributes:
        kept: The items that were read.
        last: The last row's id and time of writing; the id is 0 if there is no row.
    """

    kept: KeptSession = field(default_factory=KeptSession)
    last: tuple[int, int] = (0, 0)

    def covers(self, limit: int | None) -> bool:
        """Return True if the newest *limit* items (None: all items) are cached."""
        return self.kept.is_whole or (limit is not None and limit <= len(self.kept.items))


@final
class HotSessions:
    """The session cache of one connection, by item type and session id.

    Attributes:
        size: The bytes that the cache takes, estimated rather too high.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[Any, str], HotSession] = OrderedDict()
        self.size = 0

    def take(self, session_id: str, codec: ItemCodec[Any]) -> HotSession | None:
        """Remove and return the session with items of *codec*'s type; None on a miss."""
        session = self._sessions.pop((codec.key, session_id), None)
        if session is not None:
            self.size -= _size(session_id, session)
        return session

    def put(self, session_id: str, codec: ItemCodec[Any], session: HotSession, most: int) -> None:
        """Add *session* as the most recently used and evict down to *most* bytes.

        A session that alone takes more than *most* bytes is evicted, too.
        """
        self._sessions[codec.key, session_id] = session
        self.size += _size(session_id, session)
        while self.size > most:
            (_, evicted_id), evicted = self._sessions.popitem(last=False)
            self.size -= _size(evicted_id, evicted)


def _size(session_id: str, session: HotSession) -> int:
    return session.kept.size + _BYTES_PER_CHARACTER * len(session_id)


class Load(NamedTuple, Generic[Item]):
    """A request to load a session.

    Attributes:
        session_id: The session.
        limit: The maximum number of items to load, the newest; None loads all.
        codec: The codec that decodes the items.
        caller: The caller; the load stops once it no longer waits.
        most: The maximum size of the cache after the load, in bytes.
    """

    session_id: str
    limit: int | None
    codec: ItemCodec[Item]
    caller: Caller
    most: int


def load(connection: sqlite3.Connection, hot: HotSessions, wanted: Load[Item]) -> History[Item]:
    """Load the *wanted* items from the cache *hot* and from new rows, and update the cache.

    A session without rows is not cached, and neither is an incomplete load.

    Raises:
        CorruptSessionError: An item cannot be decoded.
    """
    session_id, limit, codec = wanted.session_id, wanted.limit, wanted.codec
    reading = _Reading(connection, wanted)

    session = hot.take(session_id, codec)
    if session is not None and session.covers(limit) and reading.refresh(session):
        history = session.kept.history(session.last[0], limit, codec, reading.pause)
    else:
        session, items = reading.read_all() if limit is None else reading.read_newest(limit)
        history = History(
            items,
            revision=session.last[0],
            turns=session.kept.starts,
            is_cut=not session.kept.is_whole,
        )

    if session.last[0] and not wanted.caller.gone:
        hot.put(session_id, codec, session, wanted.most)
    return history


@final
@dataclass(slots=True)
class _Reading:
    """The reading of one session's rows.

    Each cursor is closed: an open cursor would keep later reads from seeing new rows.
    """

    connection: sqlite3.Connection
    wanted: Load[Any]
    next_pause: float = field(default_factory=lambda: monotonic() + _PAUSE_INTERVAL)

    def pause(self) -> None:
        """Let the event loop run if the last pause is at least `_PAUSE_INTERVAL` ago."""
        if monotonic() >= self.next_pause:
            sleep(_PAUSE)
            self.next_pause = monotonic() + _PAUSE_INTERVAL

    def refresh(self, session: HotSession) -> bool:
        """Add the new rows to *session*; return False if its last row is gone (rule 1)."""
        with self._rows(_FROM, session.last[0]) as rows:
            known = rows.fetchone()
            if known is None or known[:2] != session.last:
                return False
            self._add(session, rows)
            return True

    def read_all(self) -> tuple[HotSession, list[Any]]:
        """Read the whole session; return it and its items."""
        session = HotSession()
        with self._rows(_FROM, 0) as rows:
            return session, self._add(session, rows)

    def read_newest(self, limit: int) -> tuple[HotSession, list[Any]]:
        """Read the newest *limit* items; return the session with them, and the items."""
        session = HotSession()
        newest_first: list[_Row] = []

        # One row more than *limit* shows if there are older items, and gives the revision if
        # *limit* is 0.
        with self._rows(_NEWEST, min(limit, 2**63 - 2) + 1) as rows:
            for some in self._in_parts(rows):
                newest_first += some

        if len(newest_first) > limit:
            session.last = newest_first[0][:2]
            session.kept.is_whole = False
            newest_first.pop()

        return session, self._add(session, reversed(newest_first))

    def _rows(self, sql: str, number: int) -> closing[sqlite3.Cursor]:
        return closing(self.connection.execute(sql, (self.wanted.session_id, number)))

    def _in_parts(self, rows: Iterable[_Row]) -> Iterator[list[_Row]]:
        """Yield *rows* in lists, with pauses, while the caller waits."""
        return takewhile(lambda _: not self.wanted.caller.gone, in_parts(rows, self.pause))

    def _add(self, session: HotSession, rows: Iterable[_Row]) -> list[Any]:
        """Add *rows*, oldest first, to *session*, and return their items."""
        items: list[Any] = []
        for some in self._in_parts(rows):
            numbers, times, turn_ids, encoded = zip(*some, strict=True)
            starts = [
                TurnInfo(turn_text(turn_id), place)
                for place, turn_id in enumerate(turn_ids, len(session.kept.items))
                if turn_id is not None
            ]

            items += decode_all(self.wanted.codec, self.wanted.session_id, numbers, encoded)
            session.kept.add(encoded, starts)
            session.last = numbers[-1], times[-1]
        return items
