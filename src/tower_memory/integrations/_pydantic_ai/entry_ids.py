"""The ids of entries that know their conversation."""

from __future__ import annotations

from typing import final


@final
class EntryId(str):
    """The id of an entry, with the id of the conversation that holds the entry.

    pydantic-ai asks for a history by the id of its newest entry alone. With this id, the store
    reads one conversation and needs no index of entries. Apart from the attribute, the id is the
    same string: in comparisons, as a key and in JSON. The attribute survives `copy`, `pickle` and
    `dataclasses.replace`.

    Attributes:
        conversation_id: Id of the conversation.
    """

    __slots__ = ("conversation_id",)

    conversation_id: str

    def __new__(cls, value: str, conversation_id: str) -> EntryId:
        """Return the id *value* of an entry of the conversation *conversation_id*."""
        self = super().__new__(cls, value)
        self.conversation_id = conversation_id
        return self

    def __reduce__(self) -> tuple[type[EntryId], tuple[str, str]]:
        return type(self), (str(self), self.conversation_id)
