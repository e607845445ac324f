"""The messages of inputs and outputs, and of streams of outputs.

1. A value stands for messages if it is a text, a message, a list of messages or a prompt value.
2. The chunks of a stream are added. If they cannot be added, such as the states of an agent, the
   last chunk counts.
3. LangGraph also streams pairs of a chunk and its metadata, or the updates that each node makes.
   Their messages follow those of the input. A node may first repeat the input in other words, and
   may change or remove messages by their ids. If it removes all messages, its own are the whole
   conversation, as in an output of the agent. A summary of older messages is not part of the turn.
4. In a stream of several modes, one mode counts, and only the chunks of the graph itself. A stream
   of messages with those of subgraphs is refused: LangGraph does not say which of these the graph
   keeps.
5. An interrupted reply is stored as its text. Its tool calls are left out, because LangChain reads
   the arguments of half a call as those of a whole one. A reply whose calls have results is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    HumanMessage,
    RemoveMessage,
)
from langchain_core.prompt_values import PromptValue

from tower_memory.dialects.toolkit import describe_shape, join_text, mark_interrupted
from tower_memory.integrations._langchain.messages import as_message, message_links

_MODES: Final = ("values", "updates", "messages")
"""The modes of LangGraph's streams that have messages; the first of them counts (rule 4)."""

_OTHER_MODES: Final = ("custom", "checkpoints", "tasks", "debug")
"""The other modes of LangGraph's streams."""

_ALL: Final = "__remove_all__"
"""The id that LangGraph gives to the `RemoveMessage` which removes all messages."""


def messages_of(value: Any, where: str) -> list[BaseMessage]:
    """Return the messages that *value* stands for (rule 1); *where* is ``"input"`` or ``"output"``.

    Raises:
        TypeError: *value* stands for no messages.
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


def add_chunks(chunks: Sequence[Any], given: Sequence[BaseMessage]) -> Any:
    """Return the output that the *chunks* of a stream make together (rules 2 to 4).

    Args:
        chunks: The chunks; at least one.
        given: The messages of the input.

    Raises:
        TypeError: No mode of the stream has the messages of the graph itself.
    """
    chunks = _of_one_mode(chunks)
    if not chunks:  # only subgraphs have streamed
        return given

    if all(isinstance(chunk, str) for chunk in chunks):
        return join_text(chunks)
    if all(isinstance(chunk, AIMessageChunk) for chunk in chunks):
        return _sum(chunks)
    if all(isinstance(chunk, BaseMessage) for chunk in chunks):
        return _conversation(given, _join_pieces(chunks))
    if all(_is_pair(chunk) for chunk in chunks):
        return _conversation(given, _join_pieces([chunk[0] for chunk in chunks]))
    if updates := _updates(chunks):
        return _conversation_after(given, updates)

    try:
        return reduce(add, chunks)
    except TypeError:
        return chunks[-1]


def _of_one_mode(chunks: Sequence[Any]) -> Sequence[Any]:
    """Return the graph's own chunks of one mode (rule 4); *chunks* if they have no modes.

    Raises:
        TypeError: No mode of the stream has the messages of the graph itself.
    """
    parts = [part for chunk in chunks if (part := _part_of(chunk)) is not None]
    if len(parts) < len(chunks):
        return chunks

    modes = {mode for _, mode, _ in parts}
    chosen = next((mode for mode in ("", *_MODES) if mode in modes), None)
    if chosen is None:
        msg = f"stream_mode must have one of {', '.join(_MODES)}, got {', '.join(sorted(modes))}"
        raise TypeError(msg)

    found = [(path, payload) for path, mode, payload in parts if mode == chosen]
    if any(path and _is_pair(payload) for path, payload in found):
        msg = "stream_mode must have 'values' or 'updates' with subgraphs=True, got 'messages'"
        raise TypeError(msg)
    return [payload for path, payload in found if not path]


def _part_of(chunk: Any) -> tuple[tuple[Any, ...], str, Any] | None:
    """Return the path of the subgraph, the mode and the payload of *chunk*; None if it has none.

    The mode is empty if the stream has a single mode.
    """
    match chunk:
        case {"type": str(mode), "ns": tuple(path), "data": payload}:
            pass
        case (tuple(path), str(mode), payload):
            pass
        case (tuple(path), payload):
            return path, "", payload
        case (str(mode), payload):
            path = ()
        case _:
            return None
    return (path, mode, payload) if mode in (*_MODES, *_OTHER_MODES) else None


def _is_pair(chunk: Any) -> bool:
    """Return True if *chunk* is a message and its metadata."""
    return isinstance(chunk, tuple) and bool(chunk) and isinstance(chunk[0], BaseMessage)


def _conversation(given: Sequence[BaseMessage], said: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the conversation of the messages *given* and the streamed messages *said* (rule 3)."""
    new = [message for message in said if not _is_change(message)]
    is_reply = [not message_links(message).starts_exchange for message in new]
    start = is_reply.index(True) if True in is_reply else len(new)
    return [*given, *new[start:]]


def _is_change(message: BaseMessage) -> bool:
    """Return True if *message* removes others, or sums up older ones."""
    source = message.additional_kwargs.get("lc_source")
    return isinstance(message, RemoveMessage) or source == "summarization"


def _conversation_after(
    given: Sequence[BaseMessage], updates: Sequence[BaseMessage]
) -> list[BaseMessage]:
    """Return the conversation after *updates* of the messages that follow *given* (rule 3)."""
    state: list[BaseMessage] = []
    is_whole = False
    for message in updates:
        same = [place for place, each in enumerate(state) if each.id == message.id is not None]

        if isinstance(message, RemoveMessage):
            is_whole |= message.id == _ALL
            state = [] if message.id == _ALL else [each for each in state if each.id != message.id]
        elif same:
            state[same[0]] = message
        else:
            state.append(message)

    return state if is_whole else _conversation(given, state)


def _join_pieces(pieces: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the messages that *pieces* make together; the chunks of one message have one id."""
    found: dict[object, list[BaseMessage]] = {}
    for place, piece in enumerate(pieces):
        key = piece.id if isinstance(piece, BaseMessageChunk) else place
        found.setdefault(key, []).append(piece)
    return [_sum(same) for same in found.values()]


def _sum(chunks: Sequence[Any]) -> Any:
    """Return the sum of the chunks of one message, in one step, which is much faster than many."""
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


def interrupted(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Return the *messages* of an interrupted stream as they are stored (rule 5)."""
    answered = {call for message in messages for call in message_links(message).results}
    found = [
        message if answered.intersection(message_links(message).calls) else _cut(message)
        for message in messages
    ]
    return [message for message in found if message is not None]


def _cut(message: BaseMessage) -> BaseMessage | None:
    """Return *message*, which may be incomplete, as its text; None if it has no text."""
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
