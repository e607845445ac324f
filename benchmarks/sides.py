"""What is compared: the floor, the floor that batches, and tower-memory as it is shipped.

The floor is raw sqlite3 in one thread, without async, as durable (a write-ahead log,
``synchronous=FULL``), with the same JSON: what the work itself costs. It promises nothing but to be
on disk: it knows of no cancellation, overlap, turn saved twice or other process.
"""

from __future__ import annotations

import sqlite3
from asyncio import get_running_loop
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import anyio
import msgspec

from benchmarks.transcripts import ChatTurn, Message
from tower_memory import LoadSession, MemoryLayer, SaveSession, SqliteSessionStore, Turn

T = TypeVar("T")

_FILLED_AT_ONCE = 500


class Side:
    """One way to keep sessions in the file at a path, open while it is entered.

    What of a turn is not the side's work, such as making the messages that its library takes, is
    done in `prepared`, outside the clock.

    Attributes:
        name: As it is shown.
        has_limit: Whether it can load the newest items only.
        is_slow: Whether it is left out where there is little time.
        largest: Items above which it is left out: one turn takes more than 0.3 seconds there.
        limit: How many of the newest items a turn loads, or None for all.
    """

    name: ClassVar[str]
    has_limit: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False
    largest: ClassVar[int] = 10_000

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def prepared(self, turn: ChatTurn) -> Any:
        """*turn* as `turn` takes it."""
        return turn.items

    async def fill(self, session: str, turns: Sequence[ChatTurn]) -> None:
        """Add *turns* without a load, as fast as may be."""
        raise NotImplementedError

    async def turn(self, session: str, new: Any) -> None:
        """Load the session, and add *new* to it."""
        raise NotImplementedError

    async def load(self, session: str) -> int:
        """Load the session, and look at each of its items; how many it has."""
        raise NotImplementedError

    async def at_once(self, turns: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Take the turns of many sessions, each in a task that takes its own one by one."""

        async def take(session: str, several: Sequence[Any]) -> None:
            for new in several:
                await self.turn(session, new)

        async with anyio.create_task_group() as tasks:
            for session, several in turns:
                tasks.start_soon(take, session, several)


class Floor(Side):
    """One table with an index, one SELECT, one transaction."""

    name = "raw sqlite3"

    async def __aenter__(self) -> Self:
        await self._there(self._open)
        return self

    def _open(self) -> None:
        self._connection = sqlite3.connect(self.path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY, session TEXT, item TEXT)"
        )
        self._connection.execute("CREATE INDEX IF NOT EXISTS item_session ON item (session)")

    async def __aexit__(self, *_: object) -> None:
        await self._there(self._connection.close)

    async def fill(self, session: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        await self._there(self._add, [(session, [item for turn in turns for item in turn.items])])

    async def turn(self, session: str, new: list[Message]) -> None:
        """See `Side.turn`."""
        await self._there(self._read, session)
        await self._there(self._add, [(session, new)])

    async def load(self, session: str) -> int:
        """See `Side.load`."""
        return len(await self._there(self._read, session))

    async def _there(self, function: Callable[..., T], *arguments: object) -> T:
        """What *function* returns, called where the connection is."""
        return function(*arguments)

    def _read(self, session: str) -> list[Any]:
        decode = msgspec.json.decode
        if self.limit is None:
            rows = self._connection.execute(
                "SELECT item FROM item WHERE session = ? ORDER BY id", (session,)
            )
            return [decode(item) for (item,) in rows]
        rows = self._connection.execute(
            "SELECT item FROM item WHERE session = ? ORDER BY id DESC LIMIT ?",
            (session, self.limit),
        )
        return [decode(item) for (item,) in rows][::-1]

    def _add(self, turns: Iterable[tuple[str, Iterable[Message]]]) -> None:
        """Add the items of all *turns* in one transaction."""
        encode = msgspec.json.encode
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO item (session, item) VALUES (?, ?)",
            ((session, encode(item).decode()) for session, new in turns for item in new),
        )
        self._connection.execute("COMMIT")


class AsyncFloor(Floor):
    """The floor asked from an event loop: on a thread of its own, one way for all of a load, and
    one for all of a save. It still promises nothing.
    """

    name = "raw sqlite3, from asyncio"

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1)
        return await super().__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self._thread.shutdown()

    async def _there(self, function: Callable[..., T], *arguments: object) -> T:
        return await get_running_loop().run_in_executor(self._thread, function, *arguments)


class BatchingFloor(Floor):
    """The floor that knows of all turns beforehand: it loads all sessions, and commits once."""

    name = "raw sqlite3, batching"

    async def at_once(self, turns: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """See `Side.at_once`."""
        sessions, several = zip(*turns, strict=True)
        for new in zip(*several, strict=True):
            for session in sessions:
                self._read(session)
            self._add(zip(sessions, new, strict=True))


FLOORS = (Floor.name, AsyncFloor.name, BatchingFloor.name)


class TowerMemory(Side):
    """A `MemoryLayer` over an `SqliteSessionStore`, with their defaults.

    Inside is a service that has its reply at once: it comes with the request.
    """

    name = "tower-memory"

    def __init__(
        self,
        path: Path,
        *,
        limit: int | None = None,
        overlap: Literal["serialize", "append"] = "serialize",
    ) -> None:
        super().__init__(path, limit=limit)
        self.store: SqliteSessionStore[Any] = SqliteSessionStore(path)
        memory = MemoryLayer(
            LoadSession(self.store, limit=limit),
            SaveSession(self.store),
            session_id=lambda request: request["session"],
            overlap=overlap,
        )
        self._service = memory(reply)

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.aclose()

    def prepared(self, turn: ChatTurn) -> dict[str, Any]:
        """See `Side.prepared`."""
        return request(turn)

    async def fill(self, session: str, turns: Sequence[ChatTurn]) -> None:
        """One turn as who saves it does; several at once, as they share a commit then."""
        if len(turns) == 1:
            await self.store.append(Turn(session, turns[0].items))
            return
        for first in range(0, len(turns), _FILLED_AT_ONCE):
            async with anyio.create_task_group() as tasks:
                for turn in turns[first : first + _FILLED_AT_ONCE]:
                    tasks.start_soon(self.store.append, Turn(session, turn.items))

    async def turn(self, session: str, new: dict[str, Any]) -> None:
        """See `Side.turn`."""
        await self._service({**new, "session": session})

    async def load(self, session: str) -> int:
        """See `Side.load`."""
        return len([*await self.store.load(session, limit=self.limit)])


class Appending(TowerMemory):
    """With turns of one session side by side."""

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        super().__init__(path, limit=limit, overlap="append")


def request(turn: ChatTurn) -> dict[str, Any]:
    """What a service with memory is asked: what is new, and beside it what `reply` will say."""
    *before, answer = turn.answer
    return {"messages": [turn.said], "reply": {"messages": turn.answer} if before else answer}


async def reply(asked: dict[str, Any]) -> dict[str, Any]:
    """A service that says what the request has it say: one message, or several with calls."""
    said: dict[str, Any] = asked["reply"]
    return said
