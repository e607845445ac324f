"""tower-memory: a `MemoryLayer` over a `SqliteSessionStore`."""

from __future__ import annotations

from typing import Any

from benchmarks.comparison.probe import Message, Model, Probe
from benchmarks.comparison.running import main
from tower_memory import MemoryLayer, SqliteSessionStore


class TowerMemory(Probe):
    """A `MemoryLayer` with its defaults; the key of a request is its turn id."""

    name = "tower-memory"
    distributions = ("tower-memory", "anyio", "aiosqlite", "msgspec")
    setup = "`MemoryLayer` over `SqliteSessionStore`"
    stores = "sqlite"

    async def open(self) -> None:
        """See `Probe.open`."""
        self._store: SqliteSessionStore[Any] = SqliteSessionStore(self.path)

    async def close(self) -> None:
        """See `Probe.close`."""
        await self._store.aclose()

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""

        async def ask(messages: list[dict[str, str]]) -> str:
            return await model([message["content"] for message in messages])

        memory = MemoryLayer.over(
            self._store, session_id=session_id, turn_id=None if key is None else (lambda _: key)
        )
        reply: str = await memory(ask)([{"role": "user", "content": text}])
        return reply

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        history = await self._store.load(session_id)
        return [(item["role"], item["content"]) for item in history]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`."""
        await self._store.erase(session_id=session_id)
        await self._store.scrub()

    def damage(self, session_id: str) -> None:
        """See `Probe.damage`."""
        self.halve(
            "memory_turn",
            "items",
            "SELECT t.rowid FROM memory_turn t JOIN memory_head h ON t.session = h.id"  # noqa: S608
            f" WHERE h.session_id = '{session_id}' ORDER BY number LIMIT 1 OFFSET 1",
        )


if __name__ == "__main__":
    main(TowerMemory)
