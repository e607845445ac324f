"""LangGraph: a graph of messages with one node, compiled with an `AsyncSqliteSaver`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime

from benchmarks.comparison.probe import Message, Model, Probe
from benchmarks.comparison.running import main


class _Context(TypedDict):
    model: Model


async def _answer(state: MessagesState, runtime: Runtime[_Context]) -> dict[str, Any]:
    texts = [str(message.content) for message in state["messages"]]
    return {"messages": [AIMessage(await runtime.context["model"](texts))]}


def _thread(session_id: str) -> Any:
    return {"configurable": {"thread_id": session_id}}


class LangGraph(Probe):
    """`ainvoke` with the default durability. The key of a request is the id of its message."""

    name = "LangGraph"
    distributions = ("langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint")
    setup = "`StateGraph(MessagesState)` with `AsyncSqliteSaver`"
    stores = "sqlite"

    async def open(self) -> None:
        """See `Probe.open`."""
        self._opened = AsyncExitStack()
        saver = AsyncSqliteSaver.from_conn_string(str(self.path))
        self._saver = await self._opened.enter_async_context(saver)

        builder = StateGraph(MessagesState, context_schema=_Context)
        builder.add_node("answer", _answer)
        builder.add_edge(START, "answer")
        builder.add_edge("answer", END)
        self._graph = builder.compile(checkpointer=self._saver)

    async def close(self) -> None:
        """See `Probe.close`."""
        await self._opened.aclose()

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""
        state: Any = {"messages": [HumanMessage(text, id=key)]}
        result = await self._graph.ainvoke(state, _thread(session_id), context={"model": model})
        return str(result["messages"][-1].content)

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        state = await self._graph.aget_state(_thread(session_id))
        roles = {"human": "user", "ai": "assistant"}
        return [
            (roles[message.type], str(message.content))
            for message in state.values.get("messages", ())
        ]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`."""
        await self._saver.adelete_thread(session_id)

    def damage(self, session_id: str) -> None:
        """See `Probe.damage`: the newest checkpoint, which holds the whole conversation."""
        self.halve(
            "checkpoints",
            "checkpoint",
            f"SELECT rowid FROM checkpoints WHERE thread_id = '{session_id}'"  # noqa: S608
            " ORDER BY checkpoint_id DESC LIMIT 1",
        )


if __name__ == "__main__":
    main(LangGraph)
