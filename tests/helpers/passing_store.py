"""Stores that pass every call on to another store, so that a test changes single methods."""

from __future__ import annotations

from helpers.recording_store import PROTOCOL_METHODS
from tower_memory.store_toolkit import StoreWrapper


def _passed_on(name):
    async def call(self, *args, **kwargs):
        return await getattr(self.store, name)(*args, **kwargs)

    return call


PassingStore = type(
    "PassingStore",
    (StoreWrapper,),
    {name: _passed_on(name) for names in PROTOCOL_METHODS.values() for name in names},
)
"""A store that passes every call on."""


class Meanwhile(PassingStore):
    """A store to which another program writes before each of the first appends and erasures.

    Args:
        store: The store.
        changes: Async functions, one for each append or erasure.
    """

    def __init__(self, store, *changes):
        super().__init__(store)
        self.changes = list(changes)

    async def append(self, turn):
        await self._change()
        return await super().append(turn)

    async def erase(self, **arguments):
        await self._change()
        return await super().erase(**arguments)

    async def _change(self):
        if self.changes:
            await self.changes.pop(0)()
