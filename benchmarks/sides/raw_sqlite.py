"""The baselines: plain sqlite3, as durable as tower-memory and with the same JSON.

They show the cost of the work itself. They use a write-ahead log and ``synchronous=FULL``. A
committed turn is on disk, and nothing else is promised: they do not handle cancellation,
overlapping turns, a turn that is saved twice, or other processes.
"""

from __future__ import annotations

import sqlite3
from asyncio import Future, get_running_loop
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeAlias, TypeVar

import msgspec

from benchmarks.sides.base import Side
from benchmarks.transcripts import ChatTurn, Message, items_of

T = TypeVar("T")

_Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]
"""A function, its arguments, and the future that gets its result."""


class RawSqlite(Side):
    """One table with an index; a turn is one SELECT and one transaction, in the calling thread."""

    name = "raw sqlite3"

    async def __aenter__(self) -> Self:
        await self._call(self._open)
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
        await self._call(self._connection.close)

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        await self._call(self._add, [(session_id, items_of(turns))])

    async def run_turn(self, session_id: str, prepared: list[Message]) -> None:
        """See `Side.run_turn`."""
        await self._call(self._read, session_id)
        await self._call(self._add, [(session_id, prepared)])

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len(await self._call(self._read, session_id))

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call *function* in the thread that owns the connection, and return its result."""
        return function(*arguments)

    def _read(self, session_id: str) -> list[Any]:
        decode = msgspec.json.decode

        if self.limit is None:
            rows = self._connection.execute(
                "SELECT item FROM item WHERE session = ? ORDER BY id", (session_id,)
            )
            return [decode(item) for (item,) in rows]

        rows = self._connection.execute(
            "SELECT item FROM item WHERE session = ? ORDER BY id DESC LIMIT ?",
            (session_id, self.limit),
        )
        return [decode(item) for (item,) in rows][::-1]

    def _add(self, turns: Iterable[tuple[str, Iterable[Message]]]) -> None:
        """Add the items of all *turns*, pairs of a session id and items, in one transaction."""
        encode = msgspec.json.encode
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO item (session, item) VALUES (?, ?)",
            ((session_id, encode(item).decode()) for session_id, items in turns for item in items),
        )
        self._connection.execute("COMMIT")


class RawSqliteFromAsyncio(RawSqlite):
    """The same on a thread of its own, called from an event loop.

    A turn switches to the thread twice: once for the load and once for the save.
    """

    name = "raw sqlite3, from asyncio"

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1)
        return await super().__aenter__()

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self._thread.shutdown()

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await get_running_loop().run_in_executor(self._thread, function, *arguments)


class RawSqliteBatching(RawSqlite):
    """The same with all turns known in advance: one commit for one turn of each session."""

    name = "raw sqlite3, batching"

    async def run_concurrently(self, turns: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Load all sessions, then commit one turn of each together, and repeat."""
        session_ids, turns_by_session = zip(*turns, strict=True)

        for one_turn_each in zip(*turns_by_session, strict=True):
            for session_id in session_ids:
                self._read(session_id)
            self._add(zip(session_ids, one_turn_each, strict=True))


class RawSqliteBatchingFromAsyncio(RawSqliteFromAsyncio):
    """The same with group commits, as a program would write them by hand.

    The calls that arrive while the thread works wait for its next visit. A visit commits all its
    turns together, and reports all its results together.
    """

    name = "raw sqlite3, batching from asyncio"

    async def __aenter__(self) -> Self:
        self._waiting: list[_Call] = []
        self._is_visiting = False
        return await super().__aenter__()

    async def _call(self, function: Callable[..., T], *arguments: Any) -> T:
        loop = get_running_loop()
        result: Future[T] = loop.create_future()
        self._waiting.append((function, arguments, result))
        if not self._is_visiting:
            self._is_visiting = True
            loop.call_soon(self._visit)
        return await result

    def _visit(self) -> None:
        """Let the thread make all waiting calls."""
        calls, self._waiting = self._waiting, []
        self._is_visiting = bool(calls)
        if calls:
            loop = get_running_loop()
            made = loop.run_in_executor(self._thread, self._make, [call[:2] for call in calls])
            made.add_done_callback(lambda _: self._report(calls, made.result()))

    def _make(self, calls: Iterable[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
        """Make the calls, and commit all added turns together; return the results."""
        added: list[tuple[str, Iterable[Message]]] = []
        results: list[Any] = []
        for function, arguments in calls:
            if function == self._add:
                added += arguments[0]
                results.append(None)
            else:
                results.append(function(*arguments))

        if added:
            self._add(added)
        return results

    def _report(self, calls: Iterable[_Call], results: Iterable[Any]) -> None:
        for (_, _, future), result in zip(calls, results, strict=True):
            future.set_result(result)
        self._visit()
