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
from typing import Any, NamedTuple, TypeAlias, final

from tower_memory._history import TurnInfo
from tower_memory._stores.cached_session import CachedSession, size_of_value

_Name: TypeAlias = tuple[Hashable, str]
"""The name of an entry: the key of the codec of its items, and the session id."""


class Version(NamedTuple):
    """The identity of one content of a session.

    Attributes:
        revision: The session's revision.
        updated_at: The time of its last change, in the unit of the store. After a restore, a
            revision may be given again, to another content; the time then differs.
    """

    revision: int
    updated_at: int


class LastTurn(NamedTuple):
    """The newest turn of a session: while it is stored, all turns before it are unchanged.

    Attributes:
        position: Position of its first item.
        number: Its number.
        created_at: Its time, in the unit of the store.
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


class CommittedTurn(NamedTuple):
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
        max_bytes: Number of bytes that the cache may take.
        size: Number of bytes that it takes.
    """

    max_bytes: int
    size: int = 0
    _entries: OrderedDict[_Name, Entry] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def max_session_bytes(self) -> int:
        """Number of bytes to which a session of more than three quarters of the cache is cut.

        It is less than three quarters, so that a session that grows is not cut at each turn.
        """
        return self.max_bytes * 11 // 16

    def has(self, key: Hashable, session_id: str) -> bool:
        """Return True if a session with items of the type *key* is in the cache."""
        return (key, session_id) in self._entries

    def take(self, key: Hashable, session_id: str) -> Entry | None:
        """Remove and return the entry of a session with items of the type *key*; None on a miss."""
        with self._lock:
            return self._remove((key, session_id))

    def put(self, key: Hashable, session_id: str, entry: Entry) -> None:
        """Add *entry* as the most recently used, and evict others if necessary.

        If another load, or a commit, has added the session meanwhile, the larger entry stays.
        """
        name = (key, session_id)
        with self._lock:
            other = self._remove(name)
            if other is not None and other.session.size > entry.session.size:
                entry = other
            self._add(name, entry)

    def add(self, key: Hashable, committed: CommittedTurn) -> None:
        """Add a committed turn to its session, if the session is in the cache or was created."""
        name = (key, committed.session_id)
        with self._lock:
            entry = self._remove(name)
            if entry is None and committed.before is None:
                entry = Entry(committed.after, None, CachedSession())
            elif entry is None or entry.version != committed.before:
                return  # its next load reads the session anew

            entry.session.add(committed.turn, committed.kept)
            entry.version, entry.last = committed.after, committed.last
            self._add(name, entry)

    def _remove(self, name: _Name) -> Entry | None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.size -= _size(name, entry)
        return entry

    def _add(self, name: _Name, entry: Entry) -> None:
        if _size(name, entry) > self.max_bytes * 3 // 4:
            entry.session.drop_oldest(self.max_session_bytes)
        if _size(name, entry) > self.max_bytes:
            return

        self._entries[name] = entry
        self.size += _size(name, entry)
        while self.size > self.max_bytes:
            evicted_name, evicted = self._entries.popitem(last=False)
            self.size -= _size(evicted_name, evicted)


def _size(name: _Name, entry: Entry) -> int:
    return entry.session.size + size_of_value(name[1])
