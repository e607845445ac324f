"""tower-memory's store on Postgres: `load` and `append`, without a memory layer around them."""

from __future__ import annotations

from asyncio import wrap_future
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Self, TypeVar

import anyio
from anyio.from_thread import start_blocking_portal

from benchmarks.sides.postgres import ON_ASYNCIO, ON_TRIO, WITH_SEARCH, PostgresSide
from benchmarks.transcripts import ChatTurn
from tower_memory import Turn
from tower_memory.postgres import PostgresSessionStore

T = TypeVar("T")

_SIMULTANEOUS_APPENDS = 500


class PostgresStore(PostgresSide):
    """A `PostgresSessionStore` on asyncio, with its default settings."""

    name = ON_ASYNCIO
    search_index: ClassVar[bool] = False

    async def __aenter__(self) -> Self:
        self.store = PostgresSessionStore[Any](self.conninfo, search_index=self.search_index)
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.aclose()

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """Append each turn; several turns are appended concurrently, so that they share commits."""
        for first in range(0, len(turns), _SIMULTANEOUS_APPENDS):
            async with anyio.create_task_group() as tasks:
                for turn in turns[first : first + _SIMULTANEOUS_APPENDS]:
                    tasks.start_soon(self.store.append, Turn(session_id, turn.items))

    async def run_turn(self, session_id: str, prepared: Sequence[Any]) -> None:
        """See `Side.run_turn`."""
        await self.store.load(session_id, limit=self.limit)
        await self.store.append(Turn(session_id, prepared))

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len([*await self.store.load(session_id, limit=self.limit)])


class PostgresStoreWithSearch(PostgresStore):
    """The same with an index of the words of the items."""

    name = WITH_SEARCH
    search_index = True


class PostgresStoreOnTrio(PostgresSide):
    """The same on trio, whose loop runs in a thread of its own and works on request only."""

    name = ON_TRIO

    async def __aenter__(self) -> Self:
        self._loop = ExitStack()
        self._portal = self._loop.enter_context(start_blocking_portal("trio"))
        self._side = PostgresStore(self.conninfo, limit=self.limit)
        await self._on_trio(self._side.__aenter__)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._on_trio(self._side.__aexit__)
        self._loop.close()

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        await self._on_trio(self._side.fill, session_id, turns)

    async def run_concurrently(self, turns: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run all turns in trio's loop; see `Side.run_concurrently`."""
        await self._on_trio(self._side.run_concurrently, turns)

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return await self._on_trio(self._side.load, session_id)

    async def _on_trio(self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Run a method of the side in trio's loop, while the loop of the other sides waits."""
        return await wrap_future(self._portal.start_task_soon(call, *arguments))


SIDES = [PostgresStore, PostgresStoreOnTrio, PostgresStoreWithSearch]
