"""LangGraph: a graph of messages with one node that answers, compiled with ``AsyncSqliteSaver``.

A turn is ``ainvoke``. It commits a checkpoint of the whole conversation several times a turn, as
shipped; the saver writes a write-ahead log, and leaves ``synchronous`` as SQLite has it, FULL.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, TypedDict

from langchain_core.messages import BaseMessage, convert_to_messages
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from benchmarks.sides import Side
from benchmarks.transcripts import ChatTurn


class _Reply(TypedDict):
    reply: list[BaseMessage]


async def _answer(state: MessagesState, runtime: Runtime[_Reply]) -> dict[str, Any]:  # noqa: ARG001 - the graph gives it by name
    return {"messages": runtime.context["reply"]}


class Graph(Side):
    """A checkpointed graph; a session is a thread of it."""

    name = "LangGraph AsyncSqliteSaver"
    largest = 1_000
    is_slow = True

    async def __aenter__(self) -> Self:
        self._opened = AsyncExitStack()
        saver = AsyncSqliteSaver.from_conn_string(str(self.path))
        self._saver = await self._opened.enter_async_context(saver)
        builder = StateGraph(MessagesState, context_schema=_Reply)
        builder.add_node("answer", _answer)
        builder.add_edge(START, "answer")
        builder.add_edge("answer", END)
        self._graph = builder.compile(checkpointer=self._saver)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    def prepared(self, turn: ChatTurn) -> tuple[list[BaseMessage], list[BaseMessage]]:
        """See `Side.prepared`."""
        return convert_to_messages([turn.said]), convert_to_messages(turn.answer)

    async def fill(self, session: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        said = convert_to_messages([item for turn in turns for item in turn.items])
        await self._graph.aupdate_state(_thread(session), {"messages": said}, as_node="answer")

    async def turn(self, session: str, new: tuple[list[BaseMessage], list[BaseMessage]]) -> None:
        """See `Side.turn`."""
        said, answer = new
        asked: Any = {"messages": said}
        await self._graph.ainvoke(asked, _thread(session), context={"reply": answer})

    async def load(self, session: str) -> int:
        """See `Side.load`."""
        state = await self._graph.aget_state(_thread(session))
        return len(state.values.get("messages", ()))


def _thread(session: str) -> Any:
    return {"configurable": {"thread_id": session}}


SIDES = [Graph]
