"""pydantic-ai's conversation store over a store of sessions.

1. One conversation is one session, and the conversation id is the session id.
2. A write is one turn, appended only if the session is still at the revision at which its record
   was read. So a conflict leaves nothing behind, and no write is lost.
3. A session has all entries of its conversation. A fork copies those that it keeps from its
   source, in its first turn.
4. The ids in records and entries know their conversation (`EntryId`), so reading a history reads
   one session.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from itertools import takewhile
from typing import Any, cast, final

from pydantic_ai.agent import AgentRunResult
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from tower_memory._arguments import shown
from tower_memory._capabilities.catalog import SessionCatalog, SessionInfo
from tower_memory._capabilities.erasure import SessionErasure
from tower_memory._capabilities.pages import Page
from tower_memory._errors import SessionConflict
from tower_memory._store import SessionStore, check_store
from tower_memory._store_wrapper import FullStore
from tower_memory._turn import Turn
from tower_memory.integrations._pydantic_ai.entry_ids import EntryId
from tower_memory.integrations._pydantic_ai.items import (
    HistoryReader,
    stored_parent,
    to_entries,
    to_items,
    to_record,
    with_conversation,
)

_CAPABILITIES = (SessionCatalog, SessionErasure)


@final
class SessionConversationStore(ConversationStore):
    """pydantic-ai's ``ConversationStore`` over a store of this library.

    The docstring of `tower_memory.integrations.pydantic_ai` is the guide, with examples and the
    differences to ``InMemoryConversationStore``.

    Args:
        store: The store, which must be able to list and erase sessions. All its sessions must be
            conversations of pydantic-ai: wrap a store that has others in a `ScopedStore`. The
            caller opens and closes it.

    Attributes:
        store: The store, such as for a search.

    Raises:
        TypeError: *store* is no store, or cannot list or erase sessions.
        ConversationConflict: When called: see ``ConversationStore``.
        UnencodableItemError: When called: JSON cannot hold a message or a record.
        SessionError: When called: the store cannot be read or written, or a session is no
            conversation of pydantic-ai.
    """

    store: FullStore[Any]

    def __init__(self, store: SessionStore[Any]) -> None:
        check_store(store)
        missing = [each.__name__ for each in _CAPABILITIES if not isinstance(store, each)]
        if missing:
            msg = (
                f"store must have the methods of {' and '.join(missing)}, as SqliteSessionStore "
                f"has, got {shown(store)}"
            )
            raise TypeError(msg)
        self.store = cast("FullStore[Any]", store)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.store!r})"

    async def save(
        self, conversation: Conversation | AgentRunResult[Any], *, scope: str | None = None
    ) -> list[ConversationEntry]:
        """Save the new messages of a conversation, and return their entries."""
        if isinstance(conversation, AgentRunResult):
            session_id = conversation.conversation.conversation_id
        else:
            session_id = conversation.conversation_id
        entries = await super().save(conversation, scope=scope)
        return [with_conversation(entry, session_id) for entry in entries]

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation; None if the store does not have the conversation."""
        return to_record(await self.store.load(conversation_id, limit=1))

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records of the last active conversations, the last updated first.

        *scope* selects the records of one scope; None selects all. *limit* is their maximum number;
        None returns all.
        """
        records: list[ConversationRecord] = []
        if limit == 0:
            return records

        async with aclosing(self._session_ids()) as session_ids:
            async for session_id in session_ids:
                record = await self.read_record(session_id)
                if record is not None and scope in (None, record.scope):
                    records.append(record)
                    if len(records) == limit:
                        break

        return sorted(records, key=lambda record: record.updated_at, reverse=True)

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Save a record and its new entries in one turn, if the stored record is the expected one.

        The first record of a fork names its source in ``forked_from``: the entries that the fork
        keeps are copied from there in the same turn.
        """
        session_id = record.conversation_id
        newest = await self.store.load(session_id, limit=1)
        stored = to_record(newest)
        if (None if stored is None else stored.revision) != expected_revision:
            raise ConversationConflict(session_id)

        copied = await self._copied(record, stored, new_entries)
        items = [*copied, *to_items(new_entries, record)]
        try:
            await self.store.append(Turn(session_id, items, expected_revision=newest.revision))
        except SessionConflict as error:
            raise ConversationConflict(session_id) from error

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Erase a conversation with all its entries, if its record is the expected one.

        A fork keeps its copies. `SessionErasure.scrub` removes the last bytes.
        """
        newest = await self.store.load(conversation_id, limit=1)
        stored = to_record(newest)
        if stored is None or stored.revision != expected_revision:
            raise ConversationConflict(conversation_id)

        try:
            erased = await self.store.erase(
                session_id=conversation_id, expected_revision=newest.revision
            )
        except SessionConflict as error:
            raise ConversationConflict(conversation_id) from error
        if not erased.sessions:  # another caller erased it meanwhile
            raise ConversationConflict(conversation_id)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return the entry with this id; see `read_history`.

        Raises:
            LookupError: The store does not have the entry.
        """
        (entry,) = await self.read_history(entry_id, limit=1)
        return entry

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """Return the entries up to *head_id*, oldest first, or the last *limit* of them.

        An id that this store returned is read from its conversation. A plain string with the same
        value is searched in all conversations, the last active first.

        Raises:
            LookupError: The conversation, or the store, does not have the entry.
        """
        if head_id is None or (limit is not None and limit <= 0):
            return []

        async with aclosing(self._conversations_with(head_id)) as session_ids:
            async for session_id in session_ids:
                items = await self._find(session_id, head_id, limit)
                if items is not None:
                    return to_entries(items, session_id)

        msg = f"no conversation has the entry {head_id!r}"
        raise LookupError(msg)

    async def _copied(
        self,
        record: ConversationRecord,
        stored: ConversationRecord | None,
        new_entries: Sequence[ConversationEntry],
    ) -> list[dict[str, Any]]:
        """Return the items that a fork copies from its source; none for a stored conversation.

        Raises:
            ConversationConflict: The history of *record* begins with an entry that is not stored.
        """
        parent_id = stored_parent(record, new_entries)
        if parent_id is None or (stored is not None and parent_id == stored.head_id):
            return []

        is_new = stored is None
        source = record.forked_from if is_new else record.conversation_id
        items = await self._find(source, parent_id, None if is_new else 1) if source else None
        if items is None:
            raise ConversationConflict(record.conversation_id)
        return items if is_new else []

    async def _find(
        self, session_id: str, head_id: str, limit: int | None
    ) -> list[dict[str, Any]] | None:
        """Return the items of the entries up to *head_id*, or None if the session lacks one."""
        reader = HistoryReader(head_id, limit)
        before: int | None = None
        # The newest items of a linear conversation: each turn has an entry or more, and a record.
        size = None if limit is None else 2 * limit + 1

        while not reader.is_complete and before != 0:
            page = await self.store.load(session_id, limit=size, before=before)
            reader.read(page)
            before = page.offset
            size = size and 2 * size  # other branches lie between

        return reader.items if reader.is_complete else None

    async def _conversations_with(self, entry_id: str) -> AsyncGenerator[str, None]:
        """Yield the ids of the conversations that may have an entry."""
        if isinstance(entry_id, EntryId):
            yield entry_id.conversation_id
            return
        async with aclosing(self._session_ids()) as session_ids:
            async for session_id in session_ids:
                yield session_id

    async def _session_ids(self) -> AsyncGenerator[str, None]:
        """Yield the ids of all sessions, the last active first, each once.

        A session that is saved during a walk moves to the front, which the walk may have passed.
        So further walks follow, each up to the first session that is unchanged: all sessions behind
        it were seen before. A walk that ends on its first page has missed none.
        """
        seen: dict[str, int] = {}
        pages = 0
        while pages != 1:
            pages = 0
            async with aclosing(self._pages()) as walk:
                async for page in walk:
                    pages += 1
                    changed = _changed(page, seen)
                    new = [info.session_id for info in changed if info.session_id not in seen]
                    seen.update((info.session_id, info.revision) for info in changed)
                    for session_id in new:
                        yield session_id

                    if len(changed) < len(page):
                        break

    async def _pages(self) -> AsyncGenerator[Page[SessionInfo], None]:
        """Yield the pages of all sessions, the last active first."""
        after: str | None = None
        is_last = False
        while not is_last:
            page = await self.store.sessions(after=after)
            yield page
            after = page.next
            is_last = after is None


def _changed(page: Page[SessionInfo], seen: Mapping[str, int]) -> list[SessionInfo]:
    """Return the sessions of *page* before the first one that has the revision in *seen*."""
    return list(takewhile(lambda info: seen.get(info.session_id) != info.revision, page))
