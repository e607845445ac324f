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
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, Generic, NamedTuple, TypeAlias, final

from tower_memory._codec import ItemCodec, split_array
from tower_memory._errors import CorruptSessionError, TurnMissing
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._metadata import decode_metadata
from tower_memory._stores.cached_session import (
    CachedSession,
    all_shareable,
    to_datetime,
    to_kept,
    turns_between,
)
from tower_memory._stores.clock import now
from tower_memory._stores.records import turn_key, turn_text
from tower_memory._stores.session_cache import Entry, LastTurn, SessionCache, Version
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
    "SELECT id, first, number, turn_id, created_at, CAST(metadata AS BLOB), CAST(items AS BLOB)"
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
    """The row of a turn, as it is stored."""

    id: int
    first: int
    number: int
    turn_id: bytes | str
    created_at: int
    metadata: str | None
    items: bytes

    def kept(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return the decoded *items* as the cache keeps them."""
        return items if all_shareable(items) else to_kept(items, split_array(self.items))

    def info(self) -> TurnInfo:
        """Return the turn as histories show it; its position counts from the session's start."""
        return TurnInfo(
            turn_text(self.turn_id),
            self.first,
            to_datetime(self.created_at),
            decode_metadata(self.metadata),
        )


@final
@dataclass(slots=True)
class _Rows:
    """Consecutive turns that were read, oldest first.

    Attributes:
        touches_cached: True if the cached turns follow directly.
        rows: The values of each `_Row`, as a plain tuple, which is faster.
        items: The decoded items of each.
    """

    touches_cached: bool
    rows: list[Any] = field(default_factory=list)
    items: list[list[Any]] = field(default_factory=list)

    @property
    def newest(self) -> LastTurn | None:
        """The newest turn; None without turns."""
        if not self.rows:
            return None
        row = _Row(*self.rows[-1])
        return LastTurn(row.first, row.number, row.created_at)

    def items_between(self, start: int, end: int) -> list[Any]:
        """Return the items from position *start* to *end* of the session."""
        if not self.rows:
            return []
        first = _Row(*self.rows[0]).first
        return [item for items in self.items for item in items][start - first : end - first]


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
        entry = cache.take(key, session_id)
        if entry is not None and _is_enough(connection, entry, wanted):
            history = yield from _from_cache(entry, wanted)
            cache.put(key, session_id, entry)
            return history

        reading = _Reading(connection, wanted, entry)
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


def _is_enough(connection: sqlite3.Connection, entry: Entry, wanted: Wanted[Item]) -> bool:
    """Return True if *entry* is up to date and has all *wanted* items."""
    if wanted.before is not None:
        return False
    session, limit = entry.session, wanted.limit
    if session.offset > 0 and (limit is None or session.end - limit < session.offset):
        return False
    found = connection.execute(_VERSION, (wanted.session_id,)).fetchone()
    return found is not None and found[1:] == entry.version


def _from_cache(entry: Entry, wanted: Wanted[Item]) -> Generator[None, None, History[Item]]:
    """Return the history of a session from the cache alone."""
    session, limit = entry.session, wanted.limit
    end = session.end
    start = 0 if limit is None else max(0, end - limit)
    items = yield from session.read(start, end, wanted.codec)
    return History(
        items,
        session_id=wanted.session_id,
        revision=entry.version.revision,
        offset=start,
        turns=() if limit == 0 else session.turns_between(start, end, None),
    )


@final
class _Reading(Generic[Item]):
    """The reading of one session's rows.

    *entry* is the session in the cache, perhaps outdated, or None.
    """

    def __init__(
        self, connection: sqlite3.Connection, wanted: Wanted[Item], entry: Entry | None
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._entry = entry

    def put_back(self, cache: SessionCache) -> None:
        """Put the session into the cache, if it exists and its end was read."""
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
        self._entry, session = entry, entry.session
        yield from self._refresh(entry, state)

        end, end_place = self._end(state)
        start = 0 if limit is None else max(0, end - limit)
        older = yield from self._older(state, session, start, end, end_place)
        turns = self._turns(state, session, older, start, end)

        # The items of a first load are not shared with the cache.
        items: Any = older.items_between(start, end)
        if not is_first:
            cached = yield from session.read(
                max(start, session.offset), max(end, session.offset), codec
            )
            items = cached.after(items)

        if older.touches_cached and limit != 0:
            _keep(session, older, max_bytes, only_end=is_first)
        elif is_first:
            self._entry = None

        return History(
            items,
            session_id=session_id,
            revision=state.version.revision,
            offset=start,
            turns=() if limit == 0 else turns,
        )

    def _state(self) -> _State | None:
        """Return the state of the session, or None; forget the cached session if it is outdated."""
        known = self._entry.last if self._entry else None
        position, number, created_at = known or (None, None, None)
        found = self._connection.execute(
            _STATE,
            {"session_id": self._wanted.session_id, "first": position, "number": number},
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
            newer = _Rows(touches_cached=True)
            yield from self._read(newer, state, _after(entry.last), _after(state.newest))
            for values, items in zip(newer.rows, newer.items, strict=True):
                row = _Row(*values)
                entry.session.add(row.info(), row.kept(items))
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

    def _older(
        self, state: _State, session: CachedSession, start: int, end: int, end_place: _Place
    ) -> Generator[None, None, _Rows]:
        """Read the turns between *start* and *end* that are not in the cached *session*."""
        cached_place = (session.offset, 0) if session.turns else _after(state.newest)
        upper = min(end_place, cached_place)
        rows = _Rows(touches_cached=upper == cached_place)
        if self._wanted.limit != 0 and (start < min(end, session.offset) or (start, 0) < upper):
            yield from self._read(rows, state, self._place_of_item(state, start), upper)
        return rows

    def _turns(
        self, state: _State, session: CachedSession, older: _Rows, start: int, end: int
    ) -> Callable[[], Sequence[TurnInfo]]:
        """Return a function that returns the turns of the history from *start* to *end*."""
        cached = tuple(session.turns) if older.touches_cached else ()
        last_end = state.end if cached else end
        before = self._wanted.before

        def turns() -> Sequence[TurnInfo]:
            infos = [*(_Row(*row).info() for row in older.rows), *cached]
            return turns_between(infos, start, end, last_end, before)

        return turns

    def _place_of_item(self, state: _State, position: int) -> _Place:
        """Return the place of the turn that holds the item at *position*."""
        if position == 0:
            return 0, 0
        place: _Place = self._connection.execute(
            _PLACE_OF_ITEM, {"session": state.head_id, "position": position}
        ).fetchone()
        return place

    def _read(self, rows: _Rows, state: _State, lower: _Place, upper: _Place) -> Generator[None]:
        """Add the turns from place *lower* to before *upper* to *rows*, in slices (rule 3).

        Raises:
            _Changed: The newest turn of *state* is gone, so the turns before it may have changed.
            CorruptSessionError: A turn cannot be decoded.
        """
        is_complete = False
        while not is_complete:
            if rows.rows:
                yield
                lower = _after(rows.newest)

            until = now() + _SLICE
            found = self._connection.execute(_ROWS, (state.head_id, *lower, *upper))
            with closing(found):
                is_complete = True
                for row in found:
                    rows.rows.append(row)
                    rows.items.append(self._decode(row))
                    if now() > until:
                        is_complete = False
                        break

            # The newest turn was there if it was read just now.
            was_read = rows.newest == state.newest
            if state.newest and not was_read and not self._is_there(state.head_id, state.newest):
                raise _Changed

    def _decode(self, row: Sequence[Any]) -> list[Item]:
        try:
            return self._wanted.codec.decode_array(row[-1])
        except ValueError as error:
            session_id = self._wanted.session_id
            raise CorruptSessionError(session_id, row=row[0], reason=str(error)) from error

    def _is_there(self, head_id: int, turn: LastTurn) -> bool:
        return self._connection.execute(_IS_THERE, (head_id, *turn)).fetchone() is not None


def _after(turn: LastTurn | None) -> _Place:
    """Return the first place after *turn*, or the first place of all if it is None."""
    return (0, 0) if turn is None else (turn.position, turn.number + 1)


def _keep(session: CachedSession, older: _Rows, max_bytes: int, *, only_end: bool) -> None:
    """Add *older* to the cached session; if *only_end*, only the turns without items at its end."""
    newest_first = zip(map(_Row._make, reversed(older.rows)), reversed(older.items), strict=True)
    turns: Iterable[tuple[TurnInfo, Sequence[Any]]] = (
        (row.info(), row.kept(items)) for row, items in newest_first
    )
    if only_end:
        turns = takewhile(lambda turn: not turn[1], turns)
    session.add_older(turns, max_bytes)
