"""Loads: a session is read once, and from then on only what is new of it.

1. Rows are only added, taken off the end, or cleared, and ids are never used again (`schema`). So,
   while the last row that was read is still there, all before it are as they were.
2. What was read through a connection is kept with it, and gone with it: the next connection may
   be to another file.
3. What is kept takes at most so many bytes; what was not used for longest goes first.
4. Reading for a caller who is gone stops. A long load now and then lets the event loop run, which
   else has to wait for Python's switch interval.
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
from tower_memory._history import History, TurnStart
from tower_memory._items import Item
from tower_memory._stores.kept import KeptSession, in_parts
from tower_memory._stores.operations import Caller, decode_all, turn_text

_Row: TypeAlias = tuple[int, int, bytes | str | None, bytes]
"""An item's row: its id, when it was written, the turn that it is the first of, and its JSON."""

_ROWS = (
    "SELECT id, created_at, turn_id, CAST(item AS BLOB) FROM memory_item"
    " WHERE session = (SELECT id FROM memory_session WHERE session_id = ?)"
)
_FROM = f"{_ROWS} AND id >= ? ORDER BY id"
_NEWEST = f"{_ROWS} ORDER BY id DESC LIMIT ?"

_WITHOUT_PAUSE: Final = 0.001
"""Seconds that a load goes on before it lets the event loop run."""

_PAUSE: Final = 1e-6
"""Seconds; systems make some fifty times as long of it, so that another thread can wake up."""

_OF_A_CHARACTER: Final = 4
"""Bytes that a character of a session's id takes, at most."""


@final
@dataclass(slots=True)
class HotSession:
    """What was read of a session, and its last row: its id, and when it was written."""

    kept: KeptSession = field(default_factory=KeptSession)
    last: tuple[int, int] = (0, 0)

    def covers(self, limit: int | None) -> bool:
        """Whether the newest *limit* items are among these."""
        return self.kept.is_whole or (limit is not None and limit <= len(self.kept.items))


@final
class HotSessions:
    """What is kept of the sessions that were read through one connection.

    Attributes:
        size: Bytes that it takes, at most.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[tuple[Any, str], HotSession] = OrderedDict()
        self.size = 0

    def take(self, session_id: str, codec: ItemCodec[Any]) -> HotSession | None:
        """What is kept of the session with items of *codec*'s type; it is no longer kept then."""
        session = self._sessions.pop((codec.key, session_id), None)
        if session is not None:
            self.size -= _size(session_id, session)
        return session

    def put(self, session_id: str, codec: ItemCodec[Any], session: HotSession, most: int) -> None:
        """Keep *session*, and of those that were kept before what *most* bytes leave room for."""
        self._sessions[codec.key, session_id] = session
        self.size += _size(session_id, session)
        while self.size > most:
            (_, coldest_id), coldest = self._sessions.popitem(last=False)
            self.size -= _size(coldest_id, coldest)


def _size(session_id: str, session: HotSession) -> int:
    return session.kept.size + _OF_A_CHARACTER * len(session_id)


class Load(NamedTuple, Generic[Item]):
    """What to load, and for whom: a session's newest *limit* items, decoded by *codec*.

    Attributes:
        most: Bytes of sessions to keep at most, once it is done.
    """

    session_id: str
    limit: int | None
    codec: ItemCodec[Item]
    caller: Caller
    most: int


def load(connection: sqlite3.Connection, hot: HotSessions, wanted: Load[Item]) -> History[Item]:
    """Load what is *wanted*, from what is hot and what is new."""
    session_id, limit, codec = wanted.session_id, wanted.limit, wanted.codec
    reading = _Reading(connection, wanted)
    session = hot.take(session_id, codec)
    if session is not None and session.covers(limit) and reading.goes_on(session):
        history = session.kept.history(session.last[0], limit, codec, reading.pause)
    else:
        session, items = reading.all() if limit is None else reading.newest(limit)
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
    """Reads rows. What is left open keeps later reads from seeing what is new."""

    connection: sqlite3.Connection
    wanted: Load[Any]
    pauses_at: float = field(default_factory=lambda: monotonic() + _WITHOUT_PAUSE)

    def pause(self) -> None:
        """Let the event loop run, if it could not for a while."""
        if monotonic() >= self.pauses_at:
            sleep(_PAUSE)
            self.pauses_at = monotonic() + _WITHOUT_PAUSE

    def goes_on(self, session: HotSession) -> bool:
        """Read what is new of *session*, if what is known of it is still there."""
        with self._rows(_FROM, session.last[0]) as rows:
            known = rows.fetchone()
            if known is None or known[:2] != session.last:
                return False
            self._add(session, rows)
            return True

    def all(self) -> tuple[HotSession, list[Any]]:
        """Read the whole session; and its items."""
        session = HotSession()
        with self._rows(_FROM, 0) as rows:
            return session, self._add(session, rows)

    def newest(self, limit: int) -> tuple[HotSession, list[Any]]:
        """Read the newest *limit* items; and these."""
        session = HotSession()
        newest_first: list[_Row] = []
        # One row more than asked for tells whether there are any, and what the revision is where
        # none are.
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
        """*rows*, so many at once, as long as somebody waits for them."""
        return takewhile(lambda _: not self.wanted.caller.gone, in_parts(rows, self.pause))

    def _add(self, session: HotSession, rows: Iterable[_Row]) -> list[Any]:
        """Add *rows*, oldest first, to what was read; the items in them."""
        items: list[Any] = []
        for some in self._in_parts(rows):
            numbers, times, turn_ids, encoded = zip(*some, strict=True)
            starts = [
                TurnStart(place, turn_text(turn_id))
                for place, turn_id in enumerate(turn_ids, len(session.kept.items))
                if turn_id is not None
            ]
            items += decode_all(self.wanted.codec, self.wanted.session_id, numbers, encoded)
            session.kept.add(encoded, starts)
            session.last = numbers[-1], times[-1]
        return items
