"""The stored form of pydantic-ai's conversations: entries and records as items of a session.

1. An entry is the JSON of its message, as pydantic-ai's own adapter writes it, with the key
   ``conversation_entry`` for the rest of the entry. So search, the command and the dialect
   `tower_memory.dialects.PydanticAI` read the message.
2. A record is the JSON of its fields, with the key ``type``. It does not hold its conversation id,
   which is the session id. So a session that was copied to another id is a conversation of its own.
3. Each turn has new entries, or none, and then the record. So the newest item of a session is the
   record of its conversation.
4. An entry is stored after the entry that it points at.
5. An item that is neither is refused, and never skipped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, final

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter

from tower_memory._errors import SessionError, UnencodableItemError
from tower_memory._history import History
from tower_memory.integrations._pydantic_ai.entry_ids import EntryId

_LINK: Final = "conversation_entry"
_RECORD: Final = "conversation_record"

_record_adapter: Final = TypeAdapter(ConversationRecord)


# Entries and records to items


def to_items(
    entries: Sequence[ConversationEntry], record: ConversationRecord
) -> list[dict[str, Any]]:
    """Return *entries* and their *record* as items, in this order (rule 3).

    Raises:
        UnencodableItemError: JSON cannot hold a message or the record.
    """
    session_id = record.conversation_id
    items = [_entry_item(entry, index, session_id) for index, entry in enumerate(entries)]
    return [*items, _record_item(record)]


def _entry_item(entry: ConversationEntry, index: int, session_id: str) -> dict[str, Any]:
    try:
        (message,) = ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")
    except ValueError as error:
        raise _unencodable(session_id, f"new_entries[{index}].message", entry.message) from error

    parent_id = None if entry.parent_id is None else str(entry.parent_id)
    return {**message, _LINK: {"kind": entry.kind, "id": str(entry.id), "parent_id": parent_id}}


def _record_item(record: ConversationRecord) -> dict[str, Any]:
    try:
        fields = _record_adapter.dump_python(record, mode="json", exclude={"conversation_id"})
    except ValueError as error:
        raise _unencodable(record.conversation_id, "record", record) from error
    return {"type": _RECORD, **fields}


def _unencodable(session_id: str, where: str, value: object) -> UnencodableItemError:
    reason = "pydantic-ai cannot write one of its values as JSON"
    return UnencodableItemError(session_id, where=where, value=value, reason=reason)


# Items to entries and records


def to_record(history: History[Any]) -> ConversationRecord | None:
    """Return the record of a conversation, which is the newest item of *history*.

    Return None for a session without items, which holds no conversation.

    Raises:
        SessionError: The newest item is no record, or cannot be read.
    """
    if not history:
        return None
    session_id, item = history.session_id, history[-1]
    if not _is_record(item):
        raise _foreign(history, len(history) - 1)
    try:
        record = _record_adapter.validate_python({**item, "conversation_id": session_id})
    except ValidationError:  # its text shows values of the record
        raise _unreadable(session_id, "the record") from None

    return dataclasses.replace(
        record,
        head_id=_entry_id(record.head_id, session_id),
        forked_at=_entry_id(record.forked_at, session_id),
        branches=[EntryId(tip, session_id) for tip in record.branches],
    )


def to_entries(items: Sequence[dict[str, Any]], session_id: str) -> list[ConversationEntry]:
    """Return the *items* of entries as entries.

    Raises:
        SessionError: A message cannot be read.
    """
    try:
        messages = ModelMessagesTypeAdapter.validate_python(items)
    except ValidationError as error:  # its text shows messages
        item = items[int(error.errors(include_input=False)[0]["loc"][0])]
        raise _unreadable(session_id, f"the message of entry {item[_LINK]['id']!r}") from None

    return [
        with_conversation(_entry(item[_LINK], message), session_id)
        for item, message in zip(items, messages, strict=True)
    ]


def _entry(link: dict[str, Any], message: ModelMessage) -> ConversationEntry:
    return ConversationEntry(id=link["id"], parent_id=link["parent_id"], message=message)


def with_conversation(entry: ConversationEntry, conversation_id: str) -> ConversationEntry:
    """Return *entry* with ids that know the conversation *conversation_id*."""
    return dataclasses.replace(
        entry,
        id=EntryId(entry.id, conversation_id),
        parent_id=_entry_id(entry.parent_id, conversation_id),
    )


def _entry_id(value: str | None, conversation_id: str) -> EntryId | None:
    return None if value is None else EntryId(value, conversation_id)


def _is_record(item: Any) -> bool:
    return isinstance(item, dict) and item.get("type") == _RECORD


def _is_entry(item: Any) -> bool:
    match item:
        case {"conversation_entry": {"kind": "message", "id": str(), "parent_id": str() | None}}:
            return True
        case _:
            return False


def _foreign(page: History[Any], index: int) -> SessionError:
    place = page.offset + index
    return SessionError(
        f"item {place} is no part of a pydantic-ai conversation; give the conversations a"
        " ScopedStore of their own, so that they do not share their sessions with other programs",
        session_id=page.session_id,
    )


def _unreadable(session_id: str, part: str) -> SessionError:
    reason = (
        f"{part} cannot be read by this version of pydantic-ai, and stays stored; use the version "
        "that wrote it, or a newer one"
    )
    return SessionError(reason, session_id=session_id)


# The order of entries


def stored_parent(
    record: ConversationRecord, new_entries: Sequence[ConversationEntry]
) -> str | None:
    """Return the id of the newest entry of the record's history that is not among *new_entries*.

    Return None if all entries of the history are new.
    """
    parents = {entry.id: entry.parent_id for entry in new_entries}
    entry_id = record.head_id
    while entry_id in parents:
        entry_id = parents.pop(entry_id)
    return entry_id


@final
class HistoryReader:
    """Finds the entries of one history, from its newest entry to its oldest.

    The entries of other branches, and records, lie between them.

    Args:
        head_id: Id of the newest entry.
        limit: Maximum number of entries; None for all.
    """

    def __init__(self, head_id: str, limit: int | None) -> None:
        self._next_id: str | None = head_id
        self._limit = limit
        self._newest_first: list[dict[str, Any]] = []

    @property
    def is_complete(self) -> bool:
        """True if the history needs no older entry."""
        return self._next_id is None or len(self._newest_first) == self._limit

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items of the entries that were found, oldest first."""
        return self._newest_first[::-1]

    def read(self, page: History[Any]) -> None:
        """Find entries in *page*, whose items come directly before those of the last page (rule 4).

        Raises:
            SessionError: An item is no entry and no record.
        """
        for index in reversed(range(len(page))):
            if self.is_complete:
                return
            item = page[index]
            if _is_record(item):
                continue
            if not _is_entry(item):
                raise _foreign(page, index)

            if item[_LINK]["id"] == self._next_id:
                self._newest_first.append(item)
                self._next_id = item[_LINK]["parent_id"]
