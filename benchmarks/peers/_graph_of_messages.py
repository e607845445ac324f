"""LangGraph: a graph of messages with one answering node, compiled with a checkpointer.

A turn is one ``ainvoke``. With the default settings each turn commits several checkpoints of the
whole conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypedDict

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from benchmarks.peers._langchain_messages import LangChainMessagesSide, PreparedTurn, messages_of
from benchmarks.transcripts import ChatTurn


class _Context(TypedDict):
    reply: list[BaseMessage]


async def _answer(state: MessagesState, runtime: Runtime[_Context]) -> dict[str, Any]:  # noqa: ARG001 - LangGraph passes it by name
    return {"messages": runtime.context["reply"]}


class GraphOfMessages(LangChainMessagesSide):
    """A graph with checkpoints; a session is a LangGraph thread."""

    max_items = 1_000
    is_slow = True

    def open_saver(self) -> AbstractAsyncContextManager[BaseCheckpointSaver[Any]]:
        """Open the checkpointer."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._opened = AsyncExitStack()
        self._saver = await self._opened.enter_async_context(self.open_saver())

        builder = StateGraph(MessagesState, context_schema=_Context)
        builder.add_node("answer", _answer)
        builder.add_edge(START, "answer")
        builder.add_edge("answer", END)
        self._graph = builder.compile(checkpointer=self._saver)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        update = {"messages": messages_of(turns)}
        await self._graph.aupdate_state(_thread(session_id), update, as_node="answer")

    async def run_turn(self, session_id: str, prepared: PreparedTurn) -> None:
        """See `Side.run_turn`."""
        new, answer = prepared
        state: Any = {"messages": new}
        await self._graph.ainvoke(state, _thread(session_id), context={"reply": answer})

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        state = await self._graph.aget_state(_thread(session_id))
        return len(state.values.get("messages", ()))


def _thread(session_id: str) -> Any:
    return {"configurable": {"thread_id": session_id}}
