"""Loads through the session cache.

1. A cached session is up to date if its version is the one in the store. Otherwise, if its last
   turn is still there, only its new turns are read (rule 2 of `rows`). Otherwise it is read anew.
2. A first load puts only the place of the session's end into the cache, and a later load adds the
   turns that it reads. So a session that is loaded once takes no memory.
3. A load is a generator, which pauses while it reads (see `rows`), so that the event loop and other
   loads go on. If the turns that it reads were changed meanwhile, it begins anew. If it then finds
   the same state again, nothing was changed: rows are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import takewhile
from typing import Any, Generic, NamedTuple, final

from tower_memory._codec import ItemCodec
from tower_memory._errors import SessionError, TurnMissing
from tower_memory._history import History, TurnInfo
from tower_memory._items import Item
from tower_memory._stores.cached_session import CachedSession, turns_between
from tower_memory._stores.session_cache import Entry, SessionCache
from tower_memory._stores.sql.rows import (
    Changed,
    Place,
    Row,
    Rows,
    SessionReader,
    SessionRows,
    State,
    after,
)


class Wanted(NamedTuple, Generic[Item]):
    """A request to load a session: the parameters of `SessionStore.load`, and the items' codec."""

    session_id: str
    limit: int | None
    before: str | int | None
    codec: ItemCodec[Item]


def load(
    stored: SessionRows, cache: SessionCache, wanted: Wanted[Item]
) -> Generator[None, None, History[Item]]:
    """Load the *wanted* items from the cache and from new rows, and update the cache.

    *stored* reads the rows of the session.

    Raises:
        TurnMissing: The session does not hold the turn *before*.
        CorruptSessionError: A turn cannot be decoded.
        SessionError: Rows of turns are missing, though no other program changes the session.
    """
    key, session_id = wanted.codec.key, wanted.session_id
    previous: State | None = None
    while True:
        entry = cache.take(key, session_id)
        if entry is not None and _is_enough(stored, entry, wanted):
            history = yield from _from_cache(entry, wanted)
            cache.put(key, session_id, entry)
            return history

        reading = _Reading(stored, wanted, entry)
        try:
            history = yield from reading.load(cache.max_session_bytes)
        except Changed as error:
            if reading.state == previous:
                msg = "turns are missing: the head of the session counts more than there are"
                raise SessionError(msg, session_id=session_id) from error
            previous = reading.state
            yield
            continue
        except TurnMissing:
            reading.put_back(cache)
            raise
        reading.put_back(cache)
        return history


def _is_enough(stored: SessionRows, entry: Entry, wanted: Wanted[Item]) -> bool:
    """Return True if *entry* is up to date and has all *wanted* items."""
    if wanted.before is not None:
        return False
    session, limit = entry.session, wanted.limit
    if session.offset > 0 and (limit is None or session.end - limit < session.offset):
        return False
    return stored.version() == entry.version


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
    """A load that reads rows of a session.

    Args:
        stored: The rows of the session.
        wanted: The request.
        entry: The session in the cache, perhaps outdated, or None.

    Attributes:
        state: The state of the session when the load began; None before that.
    """

    def __init__(self, stored: SessionRows, wanted: Wanted[Item], entry: Entry | None) -> None:
        self._stored = stored
        self._wanted = wanted
        self.state: State | None = None
        self._entry = entry
        self._reader = SessionReader(stored, wanted.session_id, wanted.codec)

    def put_back(self, cache: SessionCache) -> None:
        """Put the session into the cache, if it exists and its end was read."""
        if self._entry is not None:
            cache.put(self._wanted.codec.key, self._wanted.session_id, self._entry)

    def load(self, max_bytes: int) -> Generator[None, None, History[Item]]:
        """Load the wanted items; the cached session takes at most *max_bytes* afterwards."""
        session_id, limit, before, codec = self._wanted
        state = self._stored.state(self._entry.last if self._entry else None)
        if state is None:  # the session does not exist
            self._entry = None
            if isinstance(before, str):
                raise TurnMissing(session_id, turn_id=before)
            return History(session_id=session_id, revision=self._stored.tombstone_number())

        self.state = state._replace(has_known=True)  # what the reader knew does not matter
        if not state.has_known:
            self._entry = None
        is_first = self._entry is None
        entry = self._entry or Entry(state.version, state.newest, CachedSession(state.end))
        session = entry.session
        yield from self._refresh(entry, state)

        end, end_place = self._end(state)
        self._entry = entry  # not before: without the turns at its end, it must not be put back
        start = 0 if limit is None else max(0, end - limit)
        older = yield from self._older(state, session, start, end, end_place)
        turns = self._turns(state, session, older, start, end)

        # The items of a first load are not shared with the cache.
        items: Any = older.items_between(start, end)
        if not is_first:
            items = yield from session.read(
                max(start, session.offset), max(end, session.offset), codec, items
            )
            if older.rows:  # the first copies of items take longest
                yield from items.copy_now()

        if older.touches_cached and limit != 0:
            yield from _cache_older(session, older, max_bytes, only_end=is_first)
        elif is_first:
            self._entry = None

        return History(
            items,
            session_id=session_id,
            revision=state.version.revision,
            offset=start,
            turns=() if limit == 0 else turns,
        )

    def _refresh(self, entry: Entry, state: State) -> Generator[None]:
        """Add the turns to the cached session that are newer than it (rule 1)."""
        if entry.last != state.newest and state.newest is not None:
            newer = Rows(self._stored.info, touches_cached=True)
            yield from self._reader.read(newer, state, after(entry.last), after(state.newest))
            for turn, kept in reversed([*newer.turns()]):
                entry.session.add(turn, kept)
        entry.version, entry.last = state.version, state.newest

    def _end(self, state: State) -> tuple[int, Place]:
        """Return the position after the last wanted item, and the place after the last turn.

        Raises:
            TurnMissing: The session does not hold the turn *before*.
        """
        before, newest = self._wanted.before, state.newest
        if isinstance(before, str):
            place = self._stored.place_of_turn(state, before)
            if place is None:
                raise TurnMissing(self._wanted.session_id, turn_id=before)
            if newest is None or place >= after(newest):
                raise Changed
            return place[0], place

        if before is None or before >= state.end:
            return state.end, after(newest)
        return before, self._stored.place_before(state, before)

    def _older(
        self, state: State, session: CachedSession, start: int, end: int, end_place: Place
    ) -> Generator[None, None, Rows]:
        """Read the turns between *start* and *end* that are not in the cached *session*."""
        cached_place = (session.offset, 0) if session.turns else after(state.newest)
        upper = min(end_place, cached_place)
        rows = Rows(self._stored.info, touches_cached=upper == cached_place)
        if self._wanted.limit != 0 and (start < min(end, session.offset) or (start, 0) < upper):
            lower = self._stored.place_of_item(state, start) if start else (0, 0)
            yield from self._reader.read(rows, state, lower, upper)
        return rows

    def _turns(
        self, state: State, session: CachedSession, older: Rows, start: int, end: int
    ) -> Callable[[], Sequence[TurnInfo]]:
        """Return a function that returns the turns of the history from *start* to *end*."""
        cached = tuple(session.turns) if older.touches_cached else ()
        last_end = state.end if cached else end
        before = self._wanted.before
        info, rows = older.info, older.rows  # the function does not refer to the items

        def turns() -> Sequence[TurnInfo]:
            infos = [*(info(Row(*row)) for row in rows), *cached]
            return turns_between(infos, start, end, last_end, before)

        return turns


def _cache_older(
    session: CachedSession, older: Rows, max_bytes: int, *, only_end: bool
) -> Generator[None]:
    """Add *older* to the cached session; if *only_end*, only the turns without items at its end."""
    turns: Iterable[tuple[TurnInfo, Sequence[Any]]] = older.turns()
    if only_end:
        turns = takewhile(lambda turn: not turn[1], turns)
    yield from session.add_older(turns, max_bytes)
