"""Layers with a journal, the pending turns of a store, and calls that are finalized."""

from __future__ import annotations

from helpers.layers import memory_over


def journalled(store, **options):
    """Return a memory layer with a journal, whose turn id is t."""
    return memory_over(store, **{"journal": True, "turn_id": lambda request: "t", **options})


async def states(store, session_id="s"):
    """Return the ids and states of the pending turns of a session."""
    return [(each.turn_id, each.state) for each in await store.pending(session_id)]


class Never:
    """An awaitable that yields itself, and never ends."""

    def __await__(self):
        yield self


class UntilNever:
    """Runs a coroutine until it awaits `Never`."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        value = None
        while not isinstance(yielded := self.coroutine.send(value), Never):
            value = yield yielded
