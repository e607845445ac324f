"""LangChain: ``RunnableWithMessageHistory`` over ``SQLChatMessageHistory``.

A turn is ``ainvoke``. The histories share one async engine on aiosqlite, and are made once for each
session, as is faster. As shipped SQLite keeps a rollback journal, with FULL; the second side has a
write-ahead log instead, so that all are durable in the same way.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.sides import Side
from benchmarks.transcripts import ChatTurn


async def _answer(_: list[BaseMessage], config: RunnableConfig) -> list[BaseMessage]:
    answer: list[BaseMessage] = config["configurable"]["reply"]
    return answer


def _never(_: object) -> Any:
    raise NotImplementedError  # nothing here is not async


class History(Side):
    """A runnable with history, as shipped."""

    name = "LangChain SQLChatMessageHistory"
    largest = 1_000
    is_slow = True
    pragmas: ClassVar[tuple[str, ...]] = ()

    async def __aenter__(self) -> Self:
        self._engine = create_async_engine(f"sqlite+aiosqlite:///{self.path}")

        @event.listens_for(self._engine.sync_engine, "connect")
        def _(connection: Any, _: object) -> None:
            for pragma in self.pragmas:
                connection.execute(pragma)

        self._histories: dict[str, SQLChatMessageHistory] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated in favour of LangGraph
            self._runnable = RunnableWithMessageHistory(
                RunnableLambda(_never, _answer), self._history
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    def _history(self, session_id: str) -> SQLChatMessageHistory:
        if session_id not in self._histories:
            self._histories[session_id] = SQLChatMessageHistory(session_id, connection=self._engine)
        return self._histories[session_id]

    def prepared(self, turn: ChatTurn) -> tuple[list[BaseMessage], list[BaseMessage]]:
        """See `Side.prepared`."""
        return convert_to_messages([turn.said]), convert_to_messages(turn.answer)

    async def fill(self, session: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        said = convert_to_messages([item for turn in turns for item in turn.items])
        await self._history(session).aadd_messages(said)

    async def turn(self, session: str, new: tuple[list[BaseMessage], list[BaseMessage]]) -> None:
        """See `Side.turn`."""
        said, answer = new
        await self._runnable.ainvoke(
            said, {"configurable": {"session_id": session, "reply": answer}}
        )

    async def load(self, session: str) -> int:
        """See `Side.load`."""
        return len(await self._history(session).aget_messages())


class HistoryInLog(History):
    """With a write-ahead log, as the others have."""

    name = "LangChain SQLChatMessageHistory, WAL"
    pragmas = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")


SIDES = [History, HistoryInLog]
