"""A session as one of LangChain's histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage

from tower_memory._arguments import check_text
from tower_memory._store import SessionStore, check_store
from tower_memory._turn import Turn
from tower_memory.integrations._langchain.blocking import threaded_store
from tower_memory.integrations._langchain.messages import to_item, to_message


@final
class SessionMessageHistory(BaseChatMessageHistory):
    """One session of a store as LangChain's `BaseChatMessageHistory`.

    The async methods work on asyncio and on trio, with any store. The others need a
    `tower_memory.bridges.ThreadedStore`; they block the thread.

    LangChain has deprecated the base class, and warns if the base class itself is constructed. It
    does not warn for this class, and neither do we: a program that constructs it has a reason, such
    as a library that takes this interface. For a new program, use `RunnableWithMemory`.

    >>> from tower_memory import InMemorySessionStore
    >>> from tower_memory.bridges import ThreadedStore
    >>> from tower_memory.integrations.langchain import SessionMessageHistory
    >>> store = ThreadedStore(InMemorySessionStore())
    >>> history = SessionMessageHistory(store, "user_123")
    >>> history.add_user_message("I like teal.")
    >>> [(message.type, message.content) for message in history.messages]
    [('human', 'I like teal.')]
    >>> store.close()

    Args:
        store: The store with the session.
        session_id: The session; a non-empty string of valid Unicode.

    Raises:
        TypeError: *store* is no store, or *session_id* is no string. When called: a method that
            blocks needs a `ThreadedStore`; or a message is of a class that cannot be stored.
        ValueError: *session_id* is not accepted.
        SessionError: When called: as `SessionStore` raises it.
    """

    def __init__(self, store: SessionStore[Any], session_id: str) -> None:
        check_store(store)
        check_text("session_id", session_id)
        self.store = store
        self.session_id = session_id

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """All messages of the session, oldest first; each access loads them."""
        store = threaded_store(self.store, "messages", "aget_messages()")
        return [to_message(item) for item in store.run(self.store.load, self.session_id)]

    async def aget_messages(self) -> list[BaseMessage]:
        """Return all messages of the session, oldest first."""
        return [to_message(item) for item in await self.store.load(self.session_id)]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Save *messages* as one turn, all or none. Without messages, nothing changes."""
        store = threaded_store(self.store, "add_messages", "aadd_messages(...)")
        if turn := self._turn(messages):
            store.run(self.store.append, turn)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Save *messages* as one turn, all or none. Without messages, nothing changes."""
        if turn := self._turn(messages):
            await self.store.append(turn)

    def clear(self) -> None:
        """Remove all messages of the session."""
        threaded_store(self.store, "clear", "aclear()").run(self.store.clear, self.session_id)

    async def aclear(self) -> None:
        """Remove all messages of the session."""
        await self.store.clear(self.session_id)

    def _turn(self, messages: Sequence[BaseMessage]) -> Turn[Any] | None:
        items = [to_item(message) for message in messages]
        return Turn(self.session_id, items) if items else None

    def __repr__(self) -> str:
        return f"SessionMessageHistory({self.store!r}, {self.session_id!r})"
