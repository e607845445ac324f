"""The stores behind ``SQLiteSession``: one for each file, for every thread and event loop."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any, Final, final
from weakref import WeakSet, WeakValueDictionary

from tower_memory import InMemorySessionStore, SessionStore, SqliteSessionStore
from tower_memory._stores.sqlite.whole_file import take_over
from tower_memory.bridges import ThreadedStore

IN_MEMORY: Final = ":memory:"
"""Path of a private database in memory."""


@final
class SharedStore:
    """The store of a file, with its open sessions. A session in memory has one of its own."""

    def __init__(self, store: SessionStore[Any]) -> None:
        self.threaded: ThreadedStore[Any] = ThreadedStore(store)
        self._sessions: WeakSet[object] = WeakSet()

    def add(self, session: object) -> None:
        """Note an open session."""
        with _lock:
            self._sessions.add(session)

    def remove(self, session: object) -> None:
        """Remove a closed session; close the store if no session is left.

        If another session opens meanwhile, the store opens again.
        """
        with _lock:
            self._sessions.discard(session)
            is_last = not self._sessions

        if is_last:
            self.threaded.close()


_lock = Lock()
"""Guards the shared stores and their sessions; it is never held for long."""

_shared_stores: WeakValueDictionary[SqliteSessionStore[Any], SharedStore] = WeakValueDictionary()
"""The shared store of each file in use; stores on one file are equal."""


def _renew_lock() -> None:
    """Replace the lock, which another thread may have held when this process was forked."""
    global _lock  # noqa: PLW0603
    _lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)


def shared_store(path: str | os.PathLike[str]) -> SharedStore:
    """Return the store of a file, which is taken over first if the framework's class wrote it.

    Raises:
        SessionError: An existing file cannot be read or taken over.
    """
    if str(path) == IN_MEMORY:
        return SharedStore(InMemorySessionStore())
    store = SqliteSessionStore(path)
    if store not in _shared_stores and os.path.exists(path):  # noqa: PTH110 - any kind of path
        take_over(os.fspath(path))

    with _lock:
        shared = _shared_stores.get(store)
        if shared is None:
            shared = _shared_stores[store] = SharedStore(store)
        return shared
