"""The dialect of LangChain's runnables: their inputs and outputs, as items of a session.

1. An input is a text, a message, messages, a prompt value, or a mapping with one of these under a
   key. The inner runnable gets all messages as one list, in the same place. With a key for the
   history, it gets the history there, and the input stays as it is.
2. System messages of an input are instructions: they go in front and are not stored.
3. An output is a text, a message, messages, or a mapping with one of these under a key. Messages
   may be the whole conversation, as agents return it. The new ones follow the history and the
   input. If an agent has changed these, they follow the newest message of the input; if it has
   changed that, too, the last message of the user. Ids are not compared, because agents give ids to
   messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

from langchain_core.messages import (
    BaseMessage,
    ToolMessage,
)
from langchain_core.runnables import RunnableConfig

from tower_memory.dialects import ItemLinks, Streamed
from tower_memory.dialects.toolkit import (
    INTERRUPTED,
    Call,
    ProviderRules,
    describe_shape,
    partition,
    repair,
)
from tower_memory.integrations._langchain.messages import (
    message_links,
    to_item,
    to_message,
)
from tower_memory.integrations._langchain.outputs import add_chunks, interrupted, messages_of


@final
class Invocation(NamedTuple):
    """One call of a `RunnableWithMemory`: the request that the memory layer's functions get.

    >>> from tower_memory.integrations.langchain import Invocation
    >>> call = Invocation("Hi", {"configurable": {"session_id": "user_123", "turn_id": "t1"}})
    >>> call.values["turn_id"]
    't1'

    Attributes:
        input: The input of the call.
        config: The config of the call, with the values of its parents.
    """

    input: Any
    config: RunnableConfig

    @property
    def values(self) -> dict[str, Any]:
        """The values in ``config["configurable"]``, such as the session id."""
        return self.config.get("configurable", {})


class MessageKeys(NamedTuple):
    """The keys of the messages in an input and an output; None stands for the default.

    Attributes:
        input: Key of the new messages in the input.
        output: Key of the messages in the output.
        history: Key under which the inner runnable gets the history; None puts it in front of the
            new messages.
    """

    input: str | None
    output: str | None
    history: str | None


class _Rules(ProviderRules):
    """The rules for tool calls that all chat models share."""

    def links(self, item: Any, /) -> ItemLinks:
        return message_links(item)

    def add_results(self, run: list[Any], calls: Sequence[Call], /) -> list[Any]:
        results = (
            ToolMessage(INTERRUPTED, tool_call_id=call.id or "", status="error") for call in calls
        )
        return [*run, *results]


_RULES: Final = _Rules()


@final
class LangChainMessages:
    """The dialect of a `RunnableWithMemory`; its requests are `Invocation` objects."""

    def __init__(self, keys: MessageKeys) -> None:
        self._keys = keys

    def new_items(self, request: Invocation, /) -> list[Any]:
        """See `Dialect.new_items`."""
        _, new = partition(self._input_messages(request.input), _is_system)
        return [to_item(message) for message in new]

    def with_history(self, request: Invocation, history: Sequence[Any], /) -> Invocation:
        """See `Dialect.with_history`."""
        instructions, new = partition(self._input_messages(request.input), _is_system)
        past = [message for message in map(to_message, history) if not _is_empty(message)]
        conversation = repair(past, new, _RULES)

        key = self._keys.history
        if key is not None:
            sent = {id(message) for message in new}
            before = [message for message in conversation if id(message) not in sent]
            return request._replace(input={**request.input, key: before})

        messages = [*instructions, *conversation]
        if isinstance(request.input, Mapping):
            key = _key_of(request.input, self._keys.input, "input")
            return request._replace(input={**request.input, key: messages})
        return request._replace(input=messages)

    def reply_items(self, request: Invocation, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        given = request.input
        if isinstance(given, Mapping):
            given = given[_key_of(given, self._keys.input, "input")]
        _, given = partition(messages_of(given, "input"), _is_system)

        output, is_cut = response, False
        if isinstance(response, Streamed):
            if not response.chunks:
                return []
            output, is_cut = add_chunks(response.chunks, given), response.interrupted

        messages = self._output_messages(output)
        if is_cut:
            messages = interrupted(messages)
        _, said = partition(messages, _is_system)
        return [to_item(message) for message in _new_in(said, given)]

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        return message_links(item)

    def _input_messages(self, given: Any) -> list[BaseMessage]:
        """Return the new messages of an input.

        Raises:
            TypeError: There are none under the key, or there is no mapping for the history's key.
            ValueError: The key is missing or unclear, or the input has a history of its own.
        """
        key = self._keys.history
        if key is not None and not isinstance(given, Mapping):
            msg = (
                "input must be a mapping that can take the history under history_messages_key="
                f"{key!r}, got {describe_shape(given)}"
            )
            raise TypeError(msg)
        if key is not None and given.get(key):
            msg = f"input must not have a history under {key!r}, which the session fills; omit it"
            raise ValueError(msg)

        if isinstance(given, Mapping):
            given = given[_key_of(given, self._keys.input, "input")]
        messages = messages_of(given, "input")
        if not messages:
            msg = "input must have at least one message, got none"
            raise ValueError(msg)
        return messages

    def _output_messages(self, output: Any) -> list[BaseMessage]:
        """Return the messages of an output, which may be the whole conversation.

        Raises:
            TypeError: There are none under the key.
            ValueError: The key is missing or unclear.
        """
        if isinstance(output, Mapping):
            output = output[_key_of(output, self._keys.output, "output")]
        return messages_of(output, "output")


def _key_of(mapping: Mapping[str, Any], key: str | None, where: str) -> str:
    """Return the key of the messages in *mapping*, an input or an output.

    Raises:
        ValueError: *mapping* does not have *key*, or *key* is None and the key is not clear.
    """
    if key is not None:
        if key in mapping:
            return key
        msg = (
            f"{where} must have the key that you passed as {where}_messages_key={key!r}, got "
            f"{describe_shape(mapping)}"
        )
        raise ValueError(msg)

    usual = [name for name in ("messages", where) if name in mapping]
    if usual or len(mapping) == 1:
        return next(iter(usual or mapping))
    msg = f"pass {where}_messages_key=, because {where} is a {describe_shape(mapping)}"
    raise ValueError(msg)


def _is_system(message: BaseMessage) -> bool:
    return message.type in ("system", "SystemMessageChunk")


def _is_empty(message: BaseMessage) -> bool:
    """Return True for a reply without content and calls, which some providers refuse."""
    return message.type == "ai" and not message.content and not message_links(message).calls


def _new_in(said: list[BaseMessage], given: list[BaseMessage]) -> list[BaseMessage]:
    """Return the messages of the reply *said* that follow the messages *given* (rule 3)."""
    compared = [_compared(message) for message in said]
    sought = [_compared(message) for message in given]
    newest = sought[-1:]
    if newest and newest[0] in sought[:-1]:
        newest = []  # an older message that equals it could be found in its place

    for part in (sought, newest):
        for end in range(len(said), len(part) - 1, -1):
            if part and compared[end - len(part) : end] == part:
                return said[end:]
    return said[_last_user_end(said) :]


def _compared(message: BaseMessage) -> tuple[Any, ...]:
    """Return the parts of *message* that an agent does not change."""
    calls = getattr(message, "tool_calls", None)
    return message.type, message.content, calls, getattr(message, "tool_call_id", None)


def _last_user_end(said: Sequence[BaseMessage]) -> int:
    """Return the position after the last message of the user; 0 if there is none."""
    places = range(len(said), 0, -1)
    return next((end for end in places if message_links(said[end - 1]).starts_exchange), 0)
