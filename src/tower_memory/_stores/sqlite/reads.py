"""Loads through the session cache.

1. A cached session is up to date if its version is the one in the file. Otherwise, if its last turn
   is still there, only its new turns are read (rule 3 of `tables`). Otherwise it is read anew.
2. A first load puts only the place of the session's end into the cache, and a later load adds the
   turns that it reads. So a session that is loaded once takes no memory.
3. A load is a generator. It reads in slices of about a millisecond, each with one statement, and
   pauses after each slice, so that the event loop and other loads go on. While a later turn is
   still there, all turns before it are as they were; so after each slice the load looks whether the
   newest turn of its beginning is still there, and begins anew if it is not.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import takewhile
from time import monotonic
from typing import Any, Final, Generic, NamedTuple, TypeAlias, final

from tower_memory._codec import ItemCodec, split_array
from tower_memory._errors import CorruptSessionError, TurnMissing
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._metadata import decode_metadata
from tower_memory._stores.cached_session import (
    CachedSession,
    SharedItems,
    all_shareable,
    to_datetime,
    to_kept,
    turns_between,
)
from tower_memory._stores.session_cache import Entry, LastTurn, SessionCache, Version
from tower_memory._stores.sqlite.records import turn_key, turn_text
from tower_memory._stores.sqlite.tombstones import tombstone_number

_VERSION = "SELECT id, revision, updated_at FROM memory_head WHERE session_id = ?"
_STATE = (
    "SELECT h.id, h.revision, h.updated_at, h.items, t.first, t.number, t.created_at,"
    " (SELECT created_at FROM memory_turn"
    " WHERE session = h.id AND first = :first AND number = :number)"
    " FROM memory_head AS h LEFT JOIN memory_turn AS t ON t.id = ("
    " SELECT id FROM memory_turn WHERE session = h.id ORDER BY first DESC, number DESC LIMIT 1)"
    " WHERE session_id = :session_id"
)
_TURN = "SELECT first, number FROM memory_turn WHERE session = ? AND turn_id = ?"
_TURN_AT = "SELECT number FROM memory_turn WHERE session = ? AND first = ? AND size > 0"
_PLACE_OF_ITEM = (
    "SELECT first, min(number) FROM memory_turn WHERE session = :session AND first = ("
    " SELECT max(first) FROM memory_turn WHERE session = :session AND first <= :position)"
)
_ROWS = (
    "SELECT id, first, number, turn_id, created_at, metadata, CAST(items AS BLOB)"
    " FROM memory_turn WHERE session = ? AND (first, number) >= (?, ?) AND (first, number) < (?, ?)"
    " ORDER BY first, number"
)
_IS_THERE = (
    "SELECT 1 FROM memory_turn WHERE session = ? AND first = ? AND number = ? AND created_at = ?"
)

_SLICE: Final = 0.001
"""Seconds that a load reads before it pauses."""

_Place: TypeAlias = tuple[int, int]
"""The position of a turn's first item, and the turn's number: the order of a session's turns."""


class Wanted(NamedTuple, Generic[Item]):
    """A request to load a session: the parameters of `SessionStore.load`, and the items' codec."""

    session_id: str
    limit: int | None
    before: str | int | None
    codec: ItemCodec[Item]


class _Changed(Exception):
    """Raised when turns that a load reads were changed meanwhile; the load begins anew."""


class _Row(NamedTuple):
    """A turn that was read.

    Attributes:
        turn: The turn; its position counts from the start of the session.
        items: Its decoded items.
        array: Its items as a JSON array.
        last: Its place and time.
    """

    turn: TurnInfo
    items: list[Any]
    array: bytes
    last: LastTurn

    def kept(self) -> list[Any]:
        """Return the items as the cache keeps them."""
        items = self.items
        return items if all_shareable(items) else to_kept(items, split_array(self.array))


class _State(NamedTuple):
    """The state of a session when its load begins.

    Attributes:
        head_id: Id of its head.
        version: Its version.
        end: Number of its items.
        newest: Its newest turn; None without turns.
    """

    head_id: int
    version: Version
    end: int
    newest: LastTurn | None


def load(
    connection: sqlite3.Connection, cache: SessionCache, wanted: Wanted[Item]
) -> Generator[None, None, History[Item]]:
    """Load the *wanted* items from the cache and from new rows, and update the cache.

    Raises:
        TurnMissing: The session does not hold the turn *before*.
        CorruptSessionError: A turn cannot be decoded.
    """
    key, session_id = wanted.codec.key, wanted.session_id
    while True:
        reading = _Reading(connection, wanted, cache.take(key, session_id))
        try:
            history = yield from reading.load(cache.max_session_bytes)
        except _Changed:
            yield
            continue
        except TurnMissing:
            reading.put_back(cache)
            raise

        reading.put_back(cache)
        return history


@final
class _Reading(Generic[Item]):
    """The reading of one session.

    *entry* is the session in the cache, or None.
    """

    def __init__(
        self, connection: sqlite3.Connection, wanted: Wanted[Item], entry: Entry | None
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._entry = entry

    def put_back(self, cache: SessionCache) -> None:
        """Put the session into the cache, if it exists."""
        if self._entry is not None:
            cache.put(self._wanted.codec.key, self._wanted.session_id, self._entry)

    def load(self, max_bytes: int) -> Generator[None, None, History[Item]]:
        """Load the wanted items; the cached session takes at most *max_bytes* afterwards."""
        session_id, limit, before, codec = self._wanted
        state = self._state()
        if state is None:
            self._entry = None
            if isinstance(before, str):
                raise TurnMissing(session_id, turn_id=before)
            number = tombstone_number(self._connection, session_id)
            return History(session_id=session_id, revision=number)

        is_first = self._entry is None
        entry = self._entry or Entry(state.version, state.newest, CachedSession(state.end))
        self._entry = entry
        yield from self._refresh(entry, state)

        session, cached_from = entry.session, entry.session.offset
        end, end_place = self._end(state)
        start = 0 if limit is None else max(0, end - limit)
        cached_place = (cached_from, 0) if session.turns else _after(state.newest)
        upper = min(end_place, cached_place)
        rows: list[_Row] = []
        if limit != 0 and (start < min(end, cached_from) or (start, 0) < upper):
            rows = yield from self._rows(state, self._place_of_item(state, start), upper)

        touches_cached = upper == cached_place
        turns = [row.turn for row in rows]
        if touches_cached:
            turns = [*turns, *session.turns] if rows else session.turns
        last_end = state.end if touches_cached and session.turns else end
        shown = turns_between(turns, start, end, last_end, before)

        front = [item for row in rows for item in row.items]
        first = rows[0].turn.position if rows else start
        front = front[start - first : end - first]
        content: Sequence[Item] | SharedItems = front
        if not is_first:
            rest = yield from session.read(max(start, cached_from), max(end, cached_from), codec)
            content = rest.after(front)

        if touches_cached and limit != 0:
            older = reversed(rows)
            if is_first:  # turns without items belong to the end (rule 2)
                older = takewhile(lambda row: not row.items, older)
            session.add_older(((row.turn, row.kept()) for row in older), max_bytes)
        elif is_first:
            self._entry = None

        return History(
            content,
            session_id=session_id,
            revision=state.version.revision,
            offset=start,
            turns=shown if limit != 0 else (),
        )

    def _state(self) -> _State | None:
        """Return the state of the session, or None; forget the cached session if it is outdated."""
        entry, session_id = self._entry, self._wanted.session_id
        if entry is not None:
            found = self._connection.execute(_VERSION, (session_id,)).fetchone()
            if found is None:
                return None
            if found[1:] == entry.version:
                return _State(found[0], entry.version, entry.session.end, entry.last)

        known = entry.last if entry else None
        position, number, created_at = known or (None, None, None)
        found = self._connection.execute(
            _STATE, {"session_id": session_id, "first": position, "number": number}
        ).fetchone()
        if found is None:
            return None

        head_id, revision, updated_at, end, *newest, known_at = found
        if known is not None and known_at != created_at:
            self._entry = None  # its last turn is gone
        return _State(
            head_id,
            Version(revision, updated_at),
            end,
            None if newest[0] is None else LastTurn(*newest),
        )

    def _refresh(self, entry: Entry, state: _State) -> Generator[None]:
        """Add the turns to the cached session that are newer than it (rule 1)."""
        if entry.last != state.newest and state.newest is not None:
            rows = yield from self._rows(state, _after(entry.last), _after(state.newest))
            for row in rows:
                entry.session.add(row.turn, row.kept())
        entry.version, entry.last = state.version, state.newest

    def _end(self, state: _State) -> tuple[int, _Place]:
        """Return the position after the last wanted item, and the place after the last turn.

        Raises:
            TurnMissing: The session does not hold the turn *before*.
        """
        before, newest = self._wanted.before, state.newest
        if isinstance(before, str):
            place: _Place | None = self._connection.execute(
                _TURN, (state.head_id, turn_key(before))
            ).fetchone()
            if place is None:
                raise TurnMissing(self._wanted.session_id, turn_id=before)
            if newest is None or place >= _after(newest):
                raise _Changed
            return place[0], place

        if before is None or before >= state.end:
            return state.end, _after(newest)
        found = self._connection.execute(_TURN_AT, (state.head_id, before)).fetchone()
        return before, (before, found[0] if found else 0)

    def _place_of_item(self, state: _State, position: int) -> _Place:
        """Return the place of the turn that holds the item at *position*."""
        if position == 0:
            return 0, 0
        place: _Place = self._connection.execute(
            _PLACE_OF_ITEM, {"session": state.head_id, "position": position}
        ).fetchone()
        return place

    def _rows(
        self, state: _State, lower: _Place, upper: _Place
    ) -> Generator[None, None, list[_Row]]:
        """Read the turns from place *lower* to before *upper*, in slices (rule 3).

        Raises:
            _Changed: The newest turn of *state* is gone, so the turns before it may have changed.
            CorruptSessionError: A turn cannot be decoded.
        """
        rows: list[_Row] = []
        is_complete = False
        while not is_complete:
            if rows:
                yield
                lower = _after(rows[-1].last)

            until = monotonic() + _SLICE
            with closing(
                self._connection.execute(_ROWS, (state.head_id, *lower, *upper))
            ) as cursor:
                is_complete = True
                for found in cursor:
                    rows.append(self._row(found))
                    if monotonic() > until:
                        is_complete = False
                        break

            # The newest turn was there if it was read just now.
            was_read = bool(rows) and rows[-1].last == state.newest
            if state.newest and not was_read and not self._is_there(state.head_id, state.newest):
                raise _Changed
        return rows

    def _row(self, found: Any) -> _Row:
        row_id, first, number, turn_id, created_at, metadata, array = found
        try:
            items = self._wanted.codec.decode_array(array)
        except ValueError as error:
            session_id = self._wanted.session_id
            raise CorruptSessionError(session_id, row=row_id, reason=str(error)) from error

        turn = TurnInfo(
            turn_text(turn_id), first, to_datetime(created_at), decode_metadata(metadata)
        )
        return _Row(turn, items, array, LastTurn(first, number, created_at))

    def _is_there(self, head_id: int, turn: LastTurn) -> bool:
        return self._connection.execute(_IS_THERE, (head_id, *turn)).fetchone() is not None


def _after(turn: LastTurn | None) -> _Place:
    """Return the first place after *turn*, or the first place of all if it is None."""
    return (0, 0) if turn is None else (turn.position, turn.number + 1)
