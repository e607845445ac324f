"""The session cache: sessions in memory, by item type and session id.

1. The cache takes at most a given number of bytes. It evicts the least recently used session first.
2. One session takes at most three quarters of the cache; of a longer session, only the newest turns
   are kept. So no session evicts all others, and a longer session costs no more than the reading of
   its older turns.
3. One thread reads sessions through the cache: it takes a session out, works on it, and puts it
   back. Another thread commits turns and adds them to the sessions that are in the cache. So each
   method takes the lock, and a session that was taken out is changed by its reader only.
4. An entry knows the version of its session in the store. Its reader compares versions, so an entry
   that missed a change is only slower.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple, final

from tower_memory._history import TurnInfo
from tower_memory._stores.cached_session import CachedSession, size_of_value


class Version(NamedTuple):
    """What identifies one content of a session.

    Attributes:
        revision: The session's revision.
        updated_at: The time of its last change, in nanoseconds: it differs in a restored backup in
            which a revision has another content.
    """

    revision: int
    updated_at: int


class LastTurn(NamedTuple):
    """The newest turn of a session: while it is stored, all turns before it are unchanged.

    Attributes:
        position: Position of its first item.
        number: Its number.
        created_at: Its time, in nanoseconds.
    """

    position: int
    number: int
    created_at: int


@final
@dataclass(slots=True)
class Entry:
    """A session in the cache.

    Attributes:
        version: The version of the session in the store.
        last: The newest turn; None if the session has no turn.
        session: The kept turns.
    """

    version: Version
    last: LastTurn | None
    session: CachedSession


class Commit(NamedTuple):
    """A turn that was committed, for the cache.

    Attributes:
        session_id: The session.
        before: The version of the session before the commit; None if it was created.
        after: The version of the session after the commit.
        last: The new turn.
        turn: The new turn as histories show it.
        kept: Its items, as `to_kept` returns them.
    """

    session_id: str
    before: Version | None
    after: Version
    last: LastTurn
    turn: TurnInfo
    kept: Sequence[Any]


@final
@dataclass(slots=True)
class SessionCache:
    """The sessions of one open file.

    Attributes:
        max_bytes: The bytes that the cache may take.
        size: The bytes that it takes.
    """

    max_bytes: int
    size: int = 0
    _entries: OrderedDict[tuple[Hashable, str], Entry] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def max_session_bytes(self) -> int:
        """The bytes that one session is cut to if it takes more than its share (rule 2).

        It is less than the share, so a session that grows is not cut at each turn.
        """
        return self.max_bytes * 11 // 16

    def take(self, key: Hashable, session_id: str) -> Entry | None:
        """Remove and return the entry of a session with items of the type *key*; None on a miss."""
        with self._lock:
            return self._remove((key, session_id))

    def put(self, key: Hashable, session_id: str, entry: Entry) -> None:
        """Add *entry* as the most recently used, and evict others if necessary.

        If another load, or a commit, has added the session meanwhile, the larger entry stays.
        """
        place = (key, session_id)
        with self._lock:
            other = self._remove(place)
            if other is not None and other.session.size > entry.session.size:
                entry = other
            self._add(place, entry)

    def add(self, key: Hashable, commit: Commit) -> None:
        """Add a committed turn to its session, if the session is in the cache or was created."""
        place = (key, commit.session_id)
        with self._lock:
            entry = self._remove(place)
            if entry is None and commit.before is None:
                entry = Entry(commit.after, None, CachedSession())
            elif entry is None or entry.version != commit.before:
                return  # its next load reads the session anew

            entry.session.add(commit.turn, commit.kept)
            entry.version, entry.last = commit.after, commit.last
            self._add(place, entry)

    def _remove(self, place: tuple[Hashable, str]) -> Entry | None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.size -= _size(place, entry)
        return entry

    def _add(self, place: tuple[Hashable, str], entry: Entry) -> None:
        if _size(place, entry) > self.max_bytes * 3 // 4:
            entry.session.drop_oldest(self.max_session_bytes)
        if _size(place, entry) > self.max_bytes:
            return

        self._entries[place] = entry
        self.size += _size(place, entry)
        while self.size > self.max_bytes:
            evicted_place, evicted = self._entries.popitem(last=False)
            self.size -= _size(evicted_place, evicted)


def _size(place: tuple[Hashable, str], entry: Entry) -> int:
    return entry.session.size + size_of_value(place[1])
