"""LangGraph with ``AsyncSqliteSaver``: see `_graph_of_messages`.

The saver uses a write-ahead log and leaves ``synchronous`` at SQLite's default, FULL.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.peers._graph_of_messages import GraphOfMessages


class Graph(GraphOfMessages):
    """A graph with a file."""

    name = "LangGraph AsyncSqliteSaver"

    def open_saver(self) -> AbstractAsyncContextManager[AsyncSqliteSaver]:
        """See `GraphOfMessages.open_saver`."""
        return AsyncSqliteSaver.from_conn_string(str(self.path))


SIDES = [Graph]
