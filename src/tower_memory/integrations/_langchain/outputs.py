"""The messages of inputs and outputs, and of streams of outputs.

1. A value stands for messages if it is a text, a message, a list of messages or a prompt value.
2. The chunks of a stream are added. If they cannot be added, such as the states of an agent, the
   last chunk counts. LangGraph also streams pairs of a chunk and its metadata, or the updates that
   each node makes; the messages in these are the output.
3. An interrupted reply is stored as its text. Its tool calls are left out, because LangChain reads
   the arguments of half a call as those of a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
)
from langchain_core.prompt_values import PromptValue

from tower_memory.dialects.toolkit import describe_shape, join_text, mark_interrupted
from tower_memory.integrations._langchain.messages import as_message


def messages_of(value: Any, where: str) -> list[BaseMessage]:
    """Return the messages that *value* stands for (rule 1); *where* is ``"input"`` or ``"output"``.

    Raises:
        TypeError: *value* stands for none.
    """
    if isinstance(value, str):
        message: BaseMessage
        message = HumanMessage(value) if where == "input" else AIMessageChunk(content=value)
        return [message]
    if isinstance(value, BaseMessage):
        return [value]
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, (list, tuple)):
        return [as_message(each, f"{where}[{index}]") for index, each in enumerate(value)]
    msg = (
        f"{where} must be a text, a message, a list of messages or a mapping with one of these, "
        f"got {describe_shape(value)}"
    )
    raise TypeError(msg)


def add_chunks(chunks: Sequence[Any]) -> Any:
    """Return the output that the *chunks* of a stream make together (rule 2)."""
    if all(isinstance(chunk, str) for chunk in chunks):
        return join_text(chunks)
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return _sum(chunks)
    if all(isinstance(chunk, BaseMessage) for chunk in chunks):
        return _join_pieces(chunks)
    if all(isinstance(chunk, tuple) and isinstance(chunk[0], BaseMessage) for chunk in chunks):
        return _join_pieces([chunk[0] for chunk in chunks])
    if updates := _updates(chunks):
        return updates
    try:
        return reduce(add, chunks)
    except TypeError:
        return chunks[-1]


def _join_pieces(pieces: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages that *pieces* make together; the chunks of one message have one id."""
    found: dict[object, list[BaseMessage]] = {}
    for place, piece in enumerate(pieces):
        key = piece.id if isinstance(piece, BaseMessageChunk) else place
        found.setdefault(key, []).append(piece)
    return [_sum(same) for same in found.values()]


def _sum(chunks: Sequence[Any]) -> Any:
    """Return the sum of the chunks of one message, which is much faster than one by one."""
    first, *others = chunks
    return first + others if others else first


def _updates(chunks: Sequence[Any]) -> list[Any]:
    """Return the messages in *chunks* that map the names of nodes to updates of a state."""
    states = [chunk for chunk in chunks if isinstance(chunk, Mapping) and "messages" not in chunk]
    updates = [update for state in states for update in state.values()]
    found = [messages for each in updates if (messages := _messages_of(each)) is not None]
    return [message for each in found for message in messages_of(each, "output")]


def _messages_of(update: object) -> Any:
    """Return the messages in the *update* of a node, or None."""
    return update.get("messages") if isinstance(update, Mapping) else None


def interrupted(message: BaseMessage) -> BaseMessage | None:
    """Return the message of an interrupted stream (rule 3); None if it has no text."""
    if not isinstance(message, AIMessageChunk):
        return message  # it came as a whole
    text = str(message.text)
    if not text:
        return None
    return AIMessage(
        mark_interrupted(text),
        id=message.id,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
    )
