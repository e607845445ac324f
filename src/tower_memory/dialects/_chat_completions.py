"""The dialect of chat messages: OpenAI's chat completions, and all clients that copy them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Any, Final, final

import msgspec

from tower_memory._fields import MISSING, field
from tower_memory._history import History, checked_length
from tower_memory._items import as_chat
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import (
    NO_LINKS,
    GetLinks,
    ItemLinks,
    answered_positions,
    run_item_links,
)
from tower_memory.dialects._builtins import to_builtins, to_class
from tower_memory.dialects._chat_rules import (
    RULES,
    ChatRules,
    is_refused,
    with_missing_replies,
    with_noted_reason,
)
from tower_memory.dialects._chat_stream import assemble_message
from tower_memory.dialects._messages import (
    OTHER_DIALECTS,
    check_chat_messages,
    check_roles,
    describe_shape,
    is_instruction,
    partition,
    replace_messages,
    request_messages,
)
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._provider_rules import (
    EMPTY_MESSAGE,
    apply_rules,
    without_refused_exchanges,
)
from tower_memory.dialects._repair import is_valid, repair
from tower_memory.dialects._text import streamed_text

_DROPPED_IF_NULL: Final = (
    "annotations",
    "audio",
    "function_call",
    "provider_specific_fields",
    "tool_calls",
)
"""Fields that client libraries set to None in a reply if the provider did not send them."""


@final
@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The dialect of chat messages: OpenAI's chat completions. It is the default.

    Use it for any client or server with the same messages, such as vLLM, Ollama and litellm, and
    for any function from messages to text.

    - **Request**: a list of messages, or a mapping or an object with ``messages``. A message is a
      mapping or an object with a ``role``. An object is a dataclass, a msgspec Struct or a pydantic
      model.
    - **Response**: a chat completion, of which the first choice counts; a message; a mapping or an
      object with a field ``message``; a string; or a mapping or an object with ``messages``, which
      are those of the reply alone or of the whole conversation. Only new messages are stored.
    - **Stream**: the chunks of a chat completion or of Ollama's own API, or strings.

    1. Messages of the roles system and developer are instructions. They go to the front of
       the request and are not stored.
    2. All other messages of the request are new, unless the layer has ``whole_requests=True``. The
       history goes between the instructions and the new messages.
    3. A history that was cut or interrupted is repaired, so the model gets a valid conversation. A
       tool result without its tool call is left out. A call without its result gets a result that
       says that the call was interrupted. If a message of the user comes directly after such a
       result, a reply that says that it is not complete is put between them. Calls that the request
       itself answers stay as they are.
    4. Run items in the history become chat messages. If all messages of a request are objects of
       one class, the history is converted to this class.
    5. The message of a reply is stored as it was said, with all unknown fields. It is sent as
       providers accept it: a message without content gets the text ``(empty message)``, a blank
       part and a zero value such as ``audio: {"id": ""}`` are left out, and expired audio becomes
       its transcript. A tool call with broken arguments or without a name is left out. If a result
       answers the call, the call gets a name, and its broken arguments are quoted as
       ``{"INVALID_JSON": ...}``.
    6. A reply with the finish_reason ``content_filter`` is stored with this reason. Its exchange is
       not sent again: litellm reports Anthropic's refusals with this reason, and Anthropic would go
       on refusing.
    7. A stream is refused with `ValueError` if it reports an error, or ends inside a tool call
       without a finish_reason. Any other stream that ends regularly counts as whole, also without a
       finish_reason. An interrupted stream stores its text and its complete tool calls, marked as
       interrupted.

    >>> from tower_memory.dialects import ChatCompletions
    >>> chat = ChatCompletions()
    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    >>> chat.new_items(request)
    [{'role': 'user', 'content': 'Hi'}]
    >>> chat.reply_items(request, "Hello!")
    [{'role': 'assistant', 'content': 'Hello!'}]
    >>> chat.with_history(request, [{"role": "user", "content": "Before"}])["messages"]
    [{'role': 'user', 'content': 'Before'}, {'role': 'user', 'content': 'Hi'}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return list(_items(request_messages(request)))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        messages = request_messages(request)
        instructions, new = partition(messages, is_instruction)

        # The session cache knows the length of the prefix that is already checked.
        known = checked_length(history, _is_valid) if isinstance(history, History) else 0
        past = _from_user(history, new, self.links)
        conversation = [*past, *new]
        if past is history and _is_valid(conversation[known:]):
            return replace_messages(request, "messages", [*instructions, *conversation])

        convert = _converter(messages)
        stored = check_roles(as_chat(past), "history")
        past = without_refused_exchanges(stored, new, self.links, is_refused)
        sendable = apply_rules(RULES, past, new, _RULES, time())
        conversation = repair(list(map(convert, sendable)), new, ChatRules(convert))
        conversation = with_missing_replies(conversation, convert)
        return replace_messages(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            text = streamed_text(response)
            if text is not None:
                return self.reply_items(request, text)
            message, reason = assemble_message(response)
            return [] if message is None else with_noted_reason(_replies([message]), reason)

        if isinstance(response, str):
            return [{"role": "assistant", "content": str(response)}]

        # If a response has several of these fields, the first of them counts.
        if (choices := field(response, "choices")) is not MISSING:
            if not isinstance(choices, (list, tuple)):
                return _replies(check_chat_messages(choices, "response.choices"))
            messages = [field(choice, "message") for choice in choices[:1]]
            items = _replies(check_chat_messages(messages, "response.choices"))
            return with_noted_reason(items, field(choices[0], "finish_reason"))

        if (messages := field(response, "messages")) is not MISSING:
            items = _replies(check_chat_messages(messages, "response.messages"))
            received = _items(request_messages(request))
            return list(new_in_response(received, items, self.links))

        if (message := field(response, "message")) is not MISSING:
            return _replies(check_chat_messages([message], "response.message"))

        # Only a message of Anthropic has a stop_reason; its blocks are of another dialect.
        if field(response, "role") is not MISSING and field(response, "stop_reason") is MISSING:
            return _replies([response])

        msg = (
            "response must be a chat completion, a message, a string or have messages, or be an "
            f"async stream of chunks, got {describe_shape(response)}; {OTHER_DIALECTS}"
        )
        raise TypeError(msg)

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        if (links := run_item_links(item)) is not NO_LINKS:
            return links
        return _RULES.links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, conversation = partition(request_messages(request), is_instruction)
        newest = conversation[len(conversation) - count :]
        return replace_messages(request, "messages", [*instructions, *newest])


def _unchanged(message: Any) -> Any:
    return message


_RULES: Final = ChatRules(_unchanged)


def _is_valid(messages: Sequence[Any]) -> bool:
    """Return True if *messages* can be sent as they are."""
    return is_valid(messages, _RULES)


def _from_user(history: Sequence[Any], new: Sequence[Any], links: GetLinks) -> Sequence[Any]:
    """Return *history*, with an empty message in place of the user's that a limit has cut off.

    Mistral refuses a conversation that begins with the assistant, if *new* goes on with its call.
    """
    is_cut = isinstance(history, History) and history.is_cut
    if not is_cut or not history or links(history[0]).starts_exchange:
        return history
    if not answered_positions(history, new, links):
        return history
    return [{"role": "user", "content": EMPTY_MESSAGE}, *history]


def _converter(messages: Sequence[Any]) -> Callable[[Any], Any]:
    """Return the function that converts a message of the history to the class of *messages*.

    It converts nothing if *messages* are mappings or objects of several classes.
    """
    kinds = {type(message) for message in messages}
    if len(kinds) == 1 and not issubclass(kind := kinds.pop(), Mapping):
        return partial(to_class, kind=kind)
    return _unchanged


def _items(messages: Iterable[Any]) -> Iterator[Any]:
    """Yield *messages* as items, without instructions."""
    return (_item(message) for message in messages if not is_instruction(message))


def _replies(messages: Iterable[Any]) -> list[Any]:
    """Return the *messages* of a response as items, without fields that clients and servers add."""
    return [_without_client_fields(item) for item in _items(messages)]


def _without_client_fields(item: Any) -> Any:
    """Return *item* without empty fields of a client, and without the indexes of its calls."""
    if not isinstance(item, dict):
        return item

    rest = {
        key: value
        for key, value in item.items()
        if value is not None or key not in _DROPPED_IF_NULL
    }
    if isinstance(calls := rest.get("tool_calls"), list):
        rest["tool_calls"] = [
            {key: call[key] for key in call if key != "index"} if isinstance(call, dict) else call
            for call in calls
        ]
    return rest


def _item(message: Any) -> Any:
    try:
        item = to_builtins(message)
    except RecursionError:
        return message  # the store refuses the message, and its error names the place
    if isinstance(item, msgspec.Struct):
        return item

    if not isinstance(item, dict):
        kind = type(message).__name__
        msg = f"a message must be a mapping, dataclass, Struct or pydantic model, got {kind}"
        raise TypeError(msg)

    # The converted message lacks a role that is only the default of its class.
    return item if "role" in item else {"role": field(message, "role"), **item}
