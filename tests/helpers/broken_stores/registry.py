"""The broken stores, each with the one rule that it breaks."""

from __future__ import annotations

from tower_memory import History

BROKEN = {}


def breaks(rule):
    """Register a store as one that breaks *rule* only."""

    def note(store):
        BROKEN[store] = rule
        return store

    return note


def changed(history, items=None, **fields):
    """Return *history* with other items or attributes."""
    names = ("session_id", "revision", "offset", "turns", "is_cut")
    kept = {name: getattr(history, name) for name in names}
    return History(history if items is None else items, **{**kept, **fields})
