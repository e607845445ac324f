"""Build the memory layer that most tests use."""

from __future__ import annotations

from tower_memory import LoadSession, MemoryLayer, SaveSession


def memory_over(store, session_id="s", **parameters):
    """Return a memory layer that loads from *store* and saves to it."""
    return MemoryLayer(LoadSession(store), SaveSession(store), session_id=session_id, **parameters)


class TwoSessions:
    """Memory layers for two sessions, 1 and 2, of the same store."""

    def __init__(self, store):
        self.one, self.two = (memory_over(store, session_id) for session_id in "12")
