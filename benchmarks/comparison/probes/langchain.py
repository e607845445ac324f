"""LangChain: `RunnableWithMessageHistory` over `SQLChatMessageHistory`."""

from __future__ import annotations

import warnings
from typing import Any

from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.comparison.probe import Message, Model, Probe
from benchmarks.comparison.running import main

warnings.simplefilter("ignore")  # the class is deprecated in favour of LangGraph


def _without_async(_: object) -> Any:
    raise NotImplementedError  # RunnableLambda requires it; only ainvoke is called


class LangChain(Probe):
    """`ainvoke`, with one async engine for all histories. It has no keys of requests."""

    name = "LangChain"
    distributions = ("langchain-core", "langchain-community", "SQLAlchemy")
    setup = "`RunnableWithMessageHistory` over `SQLChatMessageHistory` (async)"
    stores = "sqlite"

    async def open(self) -> None:
        """See `Probe.open`."""
        self._engine = create_async_engine(f"sqlite+aiosqlite:///{self.path}")
        self._histories: dict[str, SQLChatMessageHistory] = {}

    async def close(self) -> None:
        """See `Probe.close`."""
        await self._engine.dispose()

    def _history(self, session_id: str) -> SQLChatMessageHistory:
        if session_id not in self._histories:
            self._histories[session_id] = SQLChatMessageHistory(session_id, connection=self._engine)
        return self._histories[session_id]

    async def turn(self, session_id: str, text: str, model: Model, key: str | None = None) -> str:
        """See `Probe.turn`."""

        async def answer(messages: list[BaseMessage]) -> AIMessage:
            return AIMessage(await model([str(message.content) for message in messages]))

        runnable = RunnableWithMessageHistory(RunnableLambda(_without_async, answer), self._history)
        result = await runnable.ainvoke(
            [HumanMessage(text, id=key)], {"configurable": {"session_id": session_id}}
        )
        return str(result.content)

    async def stored(self, session_id: str) -> list[Message]:
        """See `Probe.stored`."""
        roles = {"human": "user", "ai": "assistant"}
        messages = await self._history(session_id).aget_messages()
        return [(roles[message.type], str(message.content)) for message in messages]

    async def erase(self, session_id: str) -> None:
        """See `Probe.erase`."""
        await self._history(session_id).aclear()

    def damage(self, session_id: str) -> None:
        """See `Probe.damage`."""
        self.halve(
            "message_store",
            "message",
            f"SELECT rowid FROM message_store WHERE session_id = '{session_id}'"  # noqa: S608
            " ORDER BY id LIMIT 1 OFFSET 2",
        )


if __name__ == "__main__":
    main(LangChain)
