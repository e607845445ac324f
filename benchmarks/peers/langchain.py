"""LangChain: ``RunnableWithMessageHistory`` over ``SQLChatMessageHistory``.

A turn is one ``ainvoke``. The histories share one async engine on aiosqlite, and each session's
history is created once, because that is faster. By default SQLite keeps a rollback journal here,
with ``synchronous=FULL``. The second side uses a write-ahead log, as all other sides do.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.peers._langchain_messages import LangChainMessagesSide, PreparedTurn, messages_of
from benchmarks.transcripts import ChatTurn


async def _answer(_: list[BaseMessage], config: RunnableConfig) -> list[BaseMessage]:
    answer: list[BaseMessage] = config["configurable"]["reply"]
    return answer


def _answer_without_async(_: object) -> Any:
    raise NotImplementedError  # RunnableLambda requires it; only ainvoke is called


class History(LangChainMessagesSide):
    """A runnable with history, with the default settings of SQLite and LangChain."""

    name = "LangChain SQLChatMessageHistory"
    max_items = 1_000
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
                RunnableLambda(_answer_without_async, _answer), self._history
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()

    def _history(self, session_id: str) -> SQLChatMessageHistory:
        if session_id not in self._histories:
            self._histories[session_id] = SQLChatMessageHistory(session_id, connection=self._engine)
        return self._histories[session_id]

    async def fill(self, session_id: str, turns: Sequence[ChatTurn]) -> None:
        """See `Side.fill`."""
        await self._history(session_id).aadd_messages(messages_of(turns))

    async def run_turn(self, session_id: str, prepared: PreparedTurn) -> None:
        """See `Side.run_turn`."""
        new, answer = prepared
        await self._runnable.ainvoke(
            new, {"configurable": {"session_id": session_id, "reply": answer}}
        )

    async def load(self, session_id: str) -> int:
        """See `Side.load`."""
        return len(await self._history(session_id).aget_messages())


class HistoryWithWriteAheadLog(History):
    """The same with a write-ahead log, as all other sides have it."""

    name = "LangChain SQLChatMessageHistory, WAL"
    pragmas = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")


SIDES = [History, HistoryWithWriteAheadLog]
