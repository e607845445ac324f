"""For testing stores and layers: the contract of every store, and services that follow a script."""

from __future__ import annotations

from tower_memory.testing._check import StoreBroken, StoreReport, check_session_store
from tower_memory.testing._scripted import ScriptedService

__all__ = ["ScriptedService", "StoreBroken", "StoreReport", "check_session_store"]
