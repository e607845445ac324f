"""A store that another program changes at the worst moment."""

from __future__ import annotations

from tower_memory.store_toolkit import StoreWrapper


class Meanwhile(StoreWrapper):
    """A store to which another program writes before each of the first turns that are appended.

    Args:
        store: The store.
        changes: Async functions, one for each turn.
    """

    def __init__(self, store, *changes):
        super().__init__(store)
        self.changes = list(changes)

    async def load(self, session_id, *, limit=None, before=None):
        return await self.store.load(session_id, limit=limit, before=before)

    async def append(self, turn):
        if self.changes:
            await self.changes.pop(0)()
        return await self.store.append(turn)

    async def pop(self, session_id):
        return await self.store.pop(session_id)

    async def clear(self, session_id):
        await self.store.clear(session_id)
