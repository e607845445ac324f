"""The sessions of a store in memory, and their numbers.

1. One counter numbers the changes of all sessions, so no number of a session is used again.
2. No function here awaits, so each change is whole or absent.
3. A session that was erased, or cleared before its first write, leaves a tombstone for one day.
4. A summary is bound to the last turn that it covers, and is removed with this turn. Turns are
   removed or changed at the end of a session only. So while this turn is as it was, all turns
   before it are, too.
5. Ids are kept sorted for prefixes, and the places of sessions in the order of their activity. So a
   page of any place costs little more in a store with many sessions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import time_ns
from typing import Any, NamedTuple, TypeVar

from tower_memory._capabilities.summaries import Summary
from tower_memory._history import TurnInfo
from tower_memory._stores.append_checks import SessionState, absent_session
from tower_memory._stores.cached_session import CachedSession
from tower_memory._stores.pending_turns import StoredPending
from tower_memory._stores.records import TOMBSTONE_LIFETIME
from tower_memory._turn import Turn

T = TypeVar("T")


def _new_content() -> CachedSession:
    return CachedSession(is_measured=False)


@dataclass(slots=True)
class StoredSession:
    """A session that exists. Numbers and states are those of `SessionState`.

    Attributes:
        session_id: The session's id.
        first_number: The number of the change that created the session.
        cleared: The number of the last clear, or of the tombstone at which it was created.
        revision: The number of the last change.
        active: The place of the session in the order of activity; a later one is higher.
        created_at: Time of its creation, in nanoseconds since 1970.
        updated_at: Time of the last change, in nanoseconds since 1970.
        replaced: The number of the last change that replaced turns.
        metadata: The JSON of its metadata; None for an empty mapping.
        origin: Id and first number of the session of which it is a fork, or None.
        content: The turns and items.
        held: The ids of the turns, each with the number of the change that wrote the turn.
        pending: The pending turns by id, the oldest first.
        summaries: The summaries by name; the turns that they cover are held.
    """

    session_id: str
    first_number: int
    cleared: int
    revision: int
    active: int
    created_at: int
    updated_at: int
    replaced: int = 0
    metadata: bytes | None = None
    origin: tuple[str, int] | None = None
    content: CachedSession = field(default_factory=_new_content)
    held: dict[str, int] = field(default_factory=dict[str, int])
    pending: dict[str, StoredPending] = field(default_factory=dict[str, StoredPending])
    summaries: dict[str, Summary] = field(default_factory=dict[str, Summary])

    def index_of(self, turn_id: str) -> int:
        """Return the index of a held turn in the session's turns."""
        turns = self.content.turns
        return next(n for n in range(len(turns) - 1, -1, -1) if turns[n].turn_id == turn_id)

    def end_of(self, index: int) -> int:
        """Return the position after the last item of the turn with an index."""
        following = self.content.turns[index + 1 : index + 2]
        return following[0].position if following else self.content.end

    def remove_held(self, turns: Iterable[TurnInfo]) -> None:
        """Remove the ids of removed or changed turns, and the summaries that cover these turns."""
        for turn in turns:
            del self.held[turn.turn_id]
        for name, summary in [*self.summaries.items()]:
            if summary.turn_id not in self.held:
                del self.summaries[name]

    def remove_content(self) -> None:
        """Remove all items, turns, pending turns and summaries."""
        self.content = _new_content()
        self.held.clear()
        self.pending.clear()
        self.summaries.clear()


class _Tombstone(NamedTuple):
    """The number and the time, in nanoseconds since 1970, at which a session was removed."""

    number: int
    time: int


class Sessions:
    """All sessions of one store."""

    def __init__(self) -> None:
        self._by_id: dict[str, StoredSession] = {}
        self._ids: list[str] = []  # sorted
        self._by_activity: dict[int, StoredSession] = {}  # by `active`
        self._activity: list[int] = []  # the keys of _by_activity, sorted
        self._tombstones: dict[str, _Tombstone] = {}  # the oldest first
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, session_id: str) -> StoredSession | None:
        """Return a session; None if it does not exist."""
        return self._by_id.get(session_id)

    def last_active_first(self, before: int | None) -> Iterator[StoredSession]:
        """Yield the sessions whose `active` is below *before*, the last active first; None: all."""
        end = len(self._activity) if before is None else bisect_left(self._activity, before)
        for index in range(end - 1, -1, -1):
            yield self._by_activity[self._activity[index]]

    def count_with(self, prefix: str) -> int:
        """Return the number of ids that start with *prefix*."""
        start, end = self._range_with(prefix)
        return end - start

    def ids_with(self, prefix: str) -> Sequence[str]:
        """Return the ids that start with *prefix*, sorted by code points."""
        start, end = self._range_with(prefix)
        return self._ids[start:end]

    def _range_with(self, prefix: str) -> tuple[int, int]:
        """Return the start and the end of the ids with *prefix* in `_ids`."""
        start = bisect_left(self._ids, prefix)
        return start, bisect_right(self._ids, prefix, start, key=lambda each: each[: len(prefix)])

    def state_before(self, turn: Turn[Any]) -> SessionState:
        """Return the state that decides whether *turn* may be appended."""
        session = self._by_id.get(turn.session_id)
        if session is None:
            return absent_session(self.tombstone_number(turn.session_id))

        return SessionState(
            revision=session.revision,
            first_number=session.first_number,
            cleared=session.cleared,
            replaced=session.replaced,
            holds_turn=turn.turn_id in session.held,
            holds_replaced=turn.replaces in session.held,
        )

    def create(self, session_id: str) -> StoredSession:
        """Add a session without content; its revision is the number of its tombstone, or 0."""
        number, now = next(self._numbers), time_ns()
        tombstone = self.tombstone_number(session_id)
        self._tombstones.pop(session_id, None)

        session = StoredSession(session_id, number, tombstone, tombstone, number, now, now)
        self._by_id[session_id] = session
        insort(self._ids, session_id)
        self._add_activity(session)
        return session

    def change(self, session_id: str) -> StoredSession:
        """Return a session with the number and the time of a new change; create it if needed."""
        session = self._by_id.get(session_id)
        if session is None:
            session = self.create(session_id)
            session.revision = session.first_number
            return session

        session.revision = next(self._numbers)
        session.updated_at = time_ns()
        self._remove_activity(session)
        session.active = session.revision
        self._add_activity(session)
        return session

    def end_pending(self, session_id: str, turn_id: str) -> None:
        """Remove a pending turn, if there is one."""
        session = self._by_id.get(session_id)
        if session is not None:
            session.pending.pop(turn_id, None)

    def erase(self, session_id: str) -> None:
        """Remove a session, if it exists, and leave a tombstone."""
        session = self._by_id.pop(session_id, None)
        if session is not None:
            self._remove_activity(session)
            del self._ids[bisect_left(self._ids, session_id)]
        self.add_tombstone(session_id)

    def tombstone_number(self, session_id: str) -> int:
        """Return the number of the session's tombstone; 0 if there is none."""
        tombstone = self._tombstones.get(session_id)
        if tombstone is None or tombstone.time < time_ns() - TOMBSTONE_LIFETIME:
            return 0
        return tombstone.number

    def add_tombstone(self, session_id: str) -> None:
        """Add a tombstone with a new number, and drop those that are too old."""
        now = time_ns()
        self._tombstones.pop(session_id, None)  # the new one goes to the end
        self._tombstones[session_id] = _Tombstone(next(self._numbers), now)

        while (oldest := next(iter(self._tombstones))) != session_id:
            if self._tombstones[oldest].time >= now - TOMBSTONE_LIFETIME:
                break
            del self._tombstones[oldest]

    def _add_activity(self, session: StoredSession) -> None:
        """Put a session at the end of the order of activity: its `active` is the newest number."""
        self._by_activity[session.active] = session
        self._activity.append(session.active)

    def _remove_activity(self, session: StoredSession) -> None:
        del self._by_activity[session.active]
        del self._activity[bisect_left(self._activity, session.active)]


def run_to_end(steps: Generator[None, None, T]) -> T:
    """Run a generator without pauses, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
