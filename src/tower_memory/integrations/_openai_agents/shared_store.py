"""The stores behind ``SQLiteSession``, for every thread and event loop.

1. The open sessions on a file share one store and its threads.
2. Each session in memory has a private store. The open ones share one thread, so a program may have
   any number of them.
3. The last session that is closed ends the threads.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any, Final, final
from weakref import WeakSet, WeakValueDictionary

from anyio.lowlevel import checkpoint

from tower_memory import History, InMemorySessionStore, SessionStore, SqliteSessionStore, Turn
from tower_memory._stores.sqlite.whole_file import take_over
from tower_memory.bridges import ThreadedStore

IN_MEMORY: Final = ":memory:"
"""Path of a private database in memory."""


@final
class PrivateStore:
    """A store in memory for every thread and event loop; it uses the thread of *threaded*.

    A call is as short as a call of the store in memory, so it may block its caller.
    """

    def __init__(self, threaded: ThreadedStore[Any]) -> None:
        self._store: SessionStore[Any] = InMemorySessionStore()
        self._run = threaded.run

    async def load(
        self, session_id: str, *, limit: int | None = None, before: str | int | None = None
    ) -> History[Any]:
        """Return items of the session, oldest first (`SessionStore.load`)."""
        await checkpoint()
        return self._run(self._store.load, session_id, limit=limit, before=before)

    async def append(self, turn: Turn[Any]) -> int:
        """Save the turn whole or not at all; return the revision (`SessionStore.append`)."""
        await checkpoint()
        return self._run(self._store.append, turn)

    async def pop(self, session_id: str) -> Any:
        """Remove and return the newest item; None if there is none (`SessionStore.pop`)."""
        await checkpoint()
        return self._run(self._store.pop, session_id)

    async def clear(self, session_id: str) -> None:
        """Remove all items and turns of the session (`SessionStore.clear`)."""
        await checkpoint()
        self._run(self._store.clear, session_id)

    def __repr__(self) -> str:
        return repr(self._store)


@final
class SharedStore:
    """The store of a file, or the thread of the sessions in memory, with its open sessions.

    Attributes:
        was_checked: True if the file existed and needs no take-over any more.
    """

    def __init__(self, store: SessionStore[Any]) -> None:
        self.was_checked = False
        self._threaded: ThreadedStore[Any] = ThreadedStore(store)
        self._is_private = isinstance(store, InMemorySessionStore)
        self._sessions: WeakSet[object] = WeakSet()

    def store_of_session(self) -> SessionStore[Any]:
        """Return the store of a new session."""
        return PrivateStore(self._threaded) if self._is_private else self._threaded

    def add(self, session: object) -> None:
        """Note an open session."""
        with _lock:
            self._sessions.add(session)

    def remove(self, session: object) -> None:
        """Remove a closed session; end the threads if no session is left.

        If another session opens meanwhile, the threads start again.
        """
        with _lock:
            self._sessions.discard(session)
            is_last = not self._sessions

        if is_last:
            self._threaded.close()


_lock = Lock()
"""Guards the shared stores and their sessions; it is never held for long."""

_in_memory: Final = InMemorySessionStore[Any]()
"""The store whose thread the sessions in memory share; it stays empty."""

_shared_stores: WeakValueDictionary[SessionStore[Any], SharedStore] = WeakValueDictionary()
"""The shared stores in use; stores on one file are equal."""


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
        return _shared(_in_memory)

    shared = _shared(SqliteSessionStore(path))
    real = os.path.realpath(os.fspath(path))  # as the store, which ignores missing folders
    if not shared.was_checked and os.path.exists(real):  # noqa: PTH110 - any kind of path
        take_over(real)
        shared.was_checked = True
    return shared


def _shared(store: SessionStore[Any]) -> SharedStore:
    with _lock:
        shared = _shared_stores.get(store)
        if shared is None:
            shared = _shared_stores[store] = SharedStore(store)
        return shared
