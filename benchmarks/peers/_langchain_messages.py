"""The conversion to LangChain's message classes, which LangGraph uses as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from langchain_core.messages import BaseMessage, convert_to_messages

from benchmarks.sides import Side
from benchmarks.transcripts import ChatTurn, items_of

PreparedTurn: TypeAlias = tuple[list[BaseMessage], list[BaseMessage]]
"""The user's message, and the messages of the answer."""


class LangChainMessagesSide(Side):
    """A side that takes LangChain's message classes."""

    def prepare(self, turn: ChatTurn) -> PreparedTurn:
        """See `Side.prepare`."""
        return convert_to_messages([turn.user_message]), convert_to_messages(turn.answer)


def messages_of(turns: Iterable[ChatTurn]) -> list[BaseMessage]:
    """Return the messages of all *turns*, in order."""
    return convert_to_messages(items_of(turns))
