"""The baselines on Postgres: plain psycopg 3, with a table that has a row for each item.

They show the cost of the work itself: a turn is one SELECT of the newest items and one INSERT, both
with the JSON library that tower-memory has. A committed turn is on disk, and nothing else is
promised: they do not handle cancellation, overlapping turns, a turn that is saved twice, or a
connection that breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import msgspec
from psycopg import AsyncConnection, Connection, connect
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from benchmarks.sides.postgres import POOL_SIZE, RAW, RAW_POOL, PostgresSide
from benchmarks.transcripts import ChatTurn, Message, items_of

_CREATE = """
    CREATE TABLE IF NOT EXISTS item (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, session text, item json
    );
    CREATE INDEX IF NOT EXISTS item_session ON item (session, id);
"""
_READ = "SELECT item FROM item WHERE session = %s ORDER BY id DESC LIMIT %s"
_ADD = "INSERT INTO item (session, item) SELECT %s, unnest(%s::text[])::json"

_decode = msgspec.json.Decoder[Any]().decode


def _encode(items: Sequence[Message]) -> list[str]:
    return [msgspec.json.encode(item).decode() for item in items]


class RawPsycopg(PostgresSide):
    """One blocking connection, in the calling thread."""

    name = RAW

    async def __aenter__(self) -> Self:
        self._connection = connect(self.conninfo, autocommit=True)
        self._connection.execute(_CREATE)
        _decode_with_msgspec(self._connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        self._add(session_id, items_of(turns))

    async def run_turn(self, session_id: str, prepared: Sequence[Message]) -> None:
        """See `Side.run_turn`."""
        self._read(session_id)
        self._add(session_id, prepared)

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len(self._read(session_id))

    def _read(self, session_id: str) -> list[Any]:
        rows = self._connection.execute(_READ, (session_id, self.limit)).fetchall()
        return [item for (item,) in reversed(rows)]

    def _add(self, session_id: str, items: Sequence[Message]) -> None:
        self._connection.execute(_ADD, (session_id, _encode(items)))


class RawPsycopgPool(PostgresSide):
    """A pool of async connections; a turn has one of them for both statements."""

    name = RAW_POOL

    async def __aenter__(self) -> Self:
        self._pool = AsyncConnectionPool(
            self.conninfo,
            min_size=POOL_SIZE,
            max_size=POOL_SIZE,
            kwargs={"autocommit": True},
            configure=_configure,
            open=False,
        )
        await self._pool.open(wait=True)
        async with self._pool.connection() as connection:
            await connection.execute(_CREATE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        async with self._pool.connection() as connection:
            await connection.execute(_ADD, (session_id, _encode(items_of(turns))))

    async def run_turn(self, session_id: str, prepared: Sequence[Message]) -> None:
        """See `Side.run_turn`."""
        async with self._pool.connection() as connection:
            await self._read(connection, session_id)
            await connection.execute(_ADD, (session_id, _encode(prepared)))

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        async with self._pool.connection() as connection:
            return len(await self._read(connection, session_id))

    async def _read(self, connection: AsyncConnection[Any], session_id: str) -> list[Any]:
        cursor = await connection.execute(_READ, (session_id, self.limit))
        return [item for (item,) in reversed(await cursor.fetchall())]


async def _configure(connection: AsyncConnection[Any]) -> None:
    _decode_with_msgspec(connection)


def _decode_with_msgspec(connection: Connection[Any] | AsyncConnection[Any]) -> None:
    set_json_loads(_decode, connection)


SIDES = [RawPsycopg, RawPsycopgPool]
