"""``SQLiteSession`` of openai-agents over the stores of this library."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any, Final, cast, final

from agents import SessionSettings, TResponseInputItem

from tower_memory import SessionHandle, SessionStore
from tower_memory.integrations._openai_agents.shared_store import (
    IN_MEMORY,
    SharedStore,
    shared_store,
)

_SESSIONS_TABLE: Final = "agent_sessions"
_MESSAGES_TABLE: Final = "agent_messages"


class SQLiteSession(SessionHandle[TResponseInputItem]):
    """One session in an SQLite file, for openai-agents.

    It has the constructor and the methods of ``agents.SQLiteSession``, can be used from any thread
    and any event loop, and keeps the promises of `SessionStore`. The docstring of
    `tower_memory.integrations.openai_agents` has an example and the differences.

    >>> import asyncio
    >>> from tower_memory.integrations.openai_agents import SQLiteSession
    >>> session = SQLiteSession("user_123")  # in memory; or ("user_123", "chat.db")
    >>> asyncio.run(session.add_items([{"role": "user", "content": "Hi"}]))
    >>> asyncio.run(session.get_items())  # another event loop
    [{'role': 'user', 'content': 'Hi'}]
    >>> session.close()

    Args:
        session_id: Id of the session: any text but the empty one.
        db_path: Path of the file. The default is a private database in memory, which is lost when
            the session is closed.
        sessions_table: The default only.
        messages_table: The default only.
        session_settings: The framework's settings, as an object or a dictionary. Its ``limit`` is
            the default of `get_items`. None has no limit.

    Attributes:
        db_path: The path, as it was given.
        sessions_table: The default name.
        messages_table: The default name.
        session_settings: The settings, an object.

    Raises:
        TypeError: A parameter has the wrong type, or *session_settings* has an unknown key.
        ValueError: *session_id* or *db_path* is empty or not valid Unicode, or a table has another
            name.
        SessionError: An existing file cannot be read or taken over.
        RuntimeError: When called: the session is closed.
    """

    def __init__(
        self,
        session_id: str,
        db_path: str | os.PathLike[str] = IN_MEMORY,
        sessions_table: str = _SESSIONS_TABLE,
        messages_table: str = _MESSAGES_TABLE,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        _check_table("sessions_table", sessions_table, _SESSIONS_TABLE)
        _check_table("messages_table", messages_table, _MESSAGES_TABLE)
        settings = _settings(session_settings)

        shared = shared_store(db_path)
        super().__init__(shared.store_of_session(), session_id)
        self.session_settings: SessionSettings | None = settings
        self.db_path = db_path
        self.sessions_table = sessions_table
        self.messages_table = messages_table
        self._shared: SharedStore | None = shared
        shared.add(self)

    def close(self) -> None:
        """Close the session, and its file if no other open session uses it.

        The close of the file waits for the calls in progress on it. Closing twice does nothing. All
        other methods of a closed session raise `RuntimeError`.

        Raises:
            SessionError: The file could not be closed in order.
        """
        shared, self._shared = self._shared, None
        if shared is not None:
            self._store = cast("SessionStore[TResponseInputItem]", _Closed())
            shared.remove(self)

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[TResponseInputItem], bool] | None = None,
    ) -> _Snapshot | None:
        """Return the newest *limit* items, which the framework's compaction may then replace.

        Return None for a subclass, as the framework's class does, since a subclass may change items
        on their way. The framework looks for this method. Its encrypted sessions pass
        *prune_prefix*, a function that returns True for an expired item; the commit also removes
        the expired items in front of all others.
        """
        if type(self) is not SQLiteSession:
            return None
        history = await self._store.load(self.session_id, limit=limit)
        items = list(history)

        async def replace_suffix(start: int, output: list[TResponseInputItem]) -> bool:
            old = items[start:]
            if not old:
                return False
            if prune_prefix is not None:
                return await self._replace_and_prune(old, output, prune_prefix)
            return await self.replace_suffix(old, output)

        return _Snapshot(items, history.offset == 0, replace_suffix)

    async def _replace_and_prune(
        self,
        old: list[TResponseInputItem],
        new: list[TResponseInputItem],
        is_expired: Callable[[TResponseInputItem], bool],
    ) -> bool:
        """Replace *old* by *new*, and remove the oldest items that have expired, in one commit."""
        history = await self._store.load(self.session_id)
        older = history[: max(0, len(history) - len(old))]
        kept = tuple(dropwhile(is_expired, older))
        if kept == older:
            return await self.replace_suffix(old, new)
        return await self.replace_suffix((*older, *old), (*kept, *new))

    async def _atomic_replace_items(self, items: Sequence[TResponseInputItem]) -> bool:
        """Replace all items in one commit, and return True; a subclass returns False, as above.

        The framework looks for this method, and its manual compaction calls it.
        """
        if type(self) is not SQLiteSession:
            return False
        while not await self.replace_suffix(await self._store.load(self.session_id), items):
            pass
        return True


@final
@dataclass(frozen=True)
class _Snapshot:
    """The newest items of a session, as the framework's compaction expects them.

    Attributes:
        items: The items, oldest first.
        complete: True if the session has no older items.
        replace_suffix: Function that replaces the items from a position on, if they are still the
            newest, and returns True if it has.
    """

    items: list[TResponseInputItem]
    complete: bool
    replace_suffix: Callable[[int, list[TResponseInputItem]], Awaitable[bool]]


@final
class _Closed:
    """The store of a closed session."""

    def __getattr__(self, name: str) -> Any:
        msg = "SQLiteSession is closed: make another one"
        raise RuntimeError(msg)


def _settings(value: SessionSettings | dict[str, Any] | None) -> SessionSettings:
    """Return the settings as an object; the framework checks them."""
    return value if isinstance(value, SessionSettings) else SessionSettings().resolve(value)


def _check_table(parameter: str, name: object, default: str) -> None:
    """Refuse the name of a table that is not the default."""
    if name != default:
        msg = (
            f"{parameter} must be {default!r}, got {name!r}: the file has tables of this library; "
            "pass a db_path for each pair of tables, and rename existing tables to the default "
            "names before the file is taken over"
        )
        raise ValueError(msg)
