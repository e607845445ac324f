"""Snapshots of agent-framework's sessions in a store.

1. A snapshot is the only item of a session. Each `set` replaces its turn, if the session is still
   at the revision that was read; otherwise `set` reads again. So a session never has two snapshots.
2. The snapshots are in a scope of their own, so a snapshot and a history may have the same id.
3. The base class is experimental. The framework warns once for each process when a subclass is
   made, which is when this module is imported. Here, the constructor warns instead, because it
   shows the line of the program that chose this class.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final, final

from agent_framework import AgentSession
from agent_framework import SessionStore as FrameworkStore

from tower_memory._arguments import shown
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._errors import SessionConflict, SessionError
from tower_memory._history import History
from tower_memory._store import SessionStore, check_store
from tower_memory._stores.scoped import ScopedStore
from tower_memory._turn import Turn

_SCOPE: Final = "agent-framework-snapshots"

with warnings.catch_warnings():  # rule 3
    warnings.filterwarnings("ignore", r"\[SESSION_STORE\]", FutureWarning)

    class _ExperimentalStore(FrameworkStore):
        """The framework's class, without its warning about subclasses."""


@final
class SnapshotStore(_ExperimentalStore):
    """A session store of agent-framework whose snapshots are in a store.

    A snapshot has the ids and the state of an `AgentSession`, but not the messages that a
    `SessionHistoryProvider` keeps. `set` replaces the snapshot in one commit, and the last
    writer wins, in any number of processes. The snapshots are in the scope
    ``"agent-framework-snapshots"`` of *store*.

    The state must be data that JSON can hold, or types that are registered with
    ``agent_framework.register_state_type``. A tuple comes back as a list.

    Args:
        store: The store of the snapshots, which must be able to erase sessions (`SessionErasure`).

    Raises:
        TypeError: *store* is no store, or cannot erase sessions.

    Warns:
        FutureWarning: The framework's base class is experimental. The text begins with
            ``[SESSION_STORE]``, like the framework's own warning.
    """

    def __init__(self, store: SessionStore[Any]) -> None:
        check_store(store)
        if not isinstance(store, SessionErasure):
            msg = (
                "store must be able to erase sessions, as SqliteSessionStore can, got "
                f"{shown(store)}"
            )
            raise TypeError(msg)

        warnings.warn(
            "[SESSION_STORE] SnapshotStore extends agent_framework.SessionStore, which is "
            "experimental and may change in any version of agent-framework",
            FutureWarning,
            stacklevel=2,
        )

        super().__init__()
        self.store = store
        self._snapshots = ScopedStore[Any](store, _SCOPE)

    async def get(self, session_id: str) -> AgentSession | None:
        """Return the session of the stored snapshot, or None if there is no snapshot.

        Raises:
            ValueError: *session_id* is empty or no string, or the state has a registered type
                that cannot be restored.
            SessionError: The store cannot be read, or the stored item is no snapshot.
        """
        FrameworkStore.validate_session_id(session_id)
        history = await self._snapshots.load(session_id)
        return None if not history else _session(session_id, history)

    async def set(self, session_id: str, session: AgentSession) -> None:
        """Store a snapshot of *session*, in place of the snapshot that is there.

        Raises:
            TypeError: *session* is no `AgentSession` or is of a subclass, whose attributes
                would be lost.
            ValueError: *session_id* is empty or no string.
            UnencodableItemError: JSON cannot hold the state.
            SessionError: The store cannot be read or written.
        """
        FrameworkStore.validate_session_id(session_id)
        snapshot = _snapshot(session)

        while True:
            history = await self._snapshots.load(session_id)
            turn = Turn(
                session_id,
                [snapshot],
                expected_revision=history.revision,
                replaces=history.turns[0].turn_id if history.turns else None,
            )
            try:
                await self._snapshots.append(turn)
            except SessionConflict:
                continue  # another writer was faster
            return

    async def delete(self, session_id: str) -> None:
        """Erase the snapshot; do nothing if there is none.

        Raises:
            ValueError: *session_id* is empty or no string.
            SessionError: The store cannot be written.
        """
        FrameworkStore.validate_session_id(session_id)
        await self._snapshots.erase(session_id=session_id)


def _snapshot(session: AgentSession) -> dict[str, Any]:
    """Return *session* as the framework's JSON mapping of it."""
    if type(session) is not AgentSession:
        msg = (
            "session must be an AgentSession, and of no subclass, got "
            f"{type(session).__name__}; keep your own values in session.state"
        )
        raise TypeError(msg)

    snapshot = session.to_dict()
    service_session_id = snapshot["service_session_id"]
    if isinstance(service_session_id, Mapping):
        snapshot["service_session_id"] = dict(service_session_id)
    return snapshot


def _session(session_id: str, history: History[Any]) -> AgentSession:
    """Return the session of a stored snapshot."""
    snapshot = history[-1]
    if not isinstance(snapshot, dict) or snapshot.get("type") != "session":
        msg = f"it has an item that is no snapshot; leave the scope {_SCOPE!r} to SnapshotStore"
        raise SessionError(msg, session_id=session_id)
    return AgentSession.from_dict(snapshot)
