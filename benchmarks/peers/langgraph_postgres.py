"""LangGraph with ``AsyncPostgresSaver``: see `_graph_of_messages`.

The saver has one connection and a lock around it; therefore a pool of connections gains nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from benchmarks.peers._graph_of_messages import GraphOfMessages
from benchmarks.sides.postgres import PostgresSide


class PostgresGraph(GraphOfMessages, PostgresSide):
    """A graph with a database."""

    name = "LangGraph AsyncPostgresSaver"

    @asynccontextmanager
    async def open_saver(self) -> AsyncGenerator[AsyncPostgresSaver]:
        """See `GraphOfMessages.open_saver`."""
        async with AsyncPostgresSaver.from_conn_string(self.conninfo) as saver:
            await saver.setup()
            yield saver


SIDES = [PostgresGraph]
