"""The dialect of chat messages: OpenAI's chat completions, and all clients that copy them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import msgspec

from tower_memory._fields import MISSING, field, list_field
from tower_memory._history import History
from tower_memory._items import as_chat
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import (
    NO_LINKS,
    ItemLinks,
    is_plain,
    item_links,
    plain_links,
    run_item_links,
)
from tower_memory.dialects._builtins import to_builtins, to_class
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
from tower_memory.dialects._repair import INTERRUPTED, holds_no_result, nothing_left, repair
from tower_memory.dialects._text import streamed_text

_DROPPED_IF_NULL: Final = (
    "annotations",
    "audio",
    "function_call",
    "provider_specific_fields",
    "tool_calls",
)
"""Fields that client libraries set to None in a reply if the provider did not send them."""

_INTERRUPTED_FIELDS: Final = {"content": INTERRUPTED}
"""Fields of the result of an interrupted call, except its role and the call's id."""

# The roles and fields of the most frequent messages, for `_are_in_order`.
_TEXT_ROLES: Final = ("user", "assistant")
_TEXT_FIELDS: Final = frozenset({"role", "content"})
_CALL_FIELDS: Final = frozenset({"role", "content", "tool_calls"})
_RESULT_FIELDS: Final = frozenset({"role", "content", "tool_call_id", "name"})

_CONTENT_SUBSTITUTES: Final = ("tool_calls", "function_call", "refusal", "audio")
"""Fields that a message of the assistant may have instead of content."""


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
       tool result without its tool call is left out, and a call without its result gets a result
       that says that the call was interrupted. Calls that the request itself answers stay as they
       are.
    4. Run items in the history become chat messages. If all messages of a request are objects of
       one class, the history is converted to this class.
    5. The message of a reply is stored in the form that the provider accepts in a later request,
       with all unknown fields.
    6. A stream that ends inside a tool call is refused with `ValueError`. Of an interrupted stream,
       the text and the complete tool calls are stored, marked as interrupted.

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

        # The store's cache remembers for how many items this check holds already.
        known = history.known(_are_in_order) if isinstance(history, History) else 0
        conversation = [*history, *new]
        if _are_in_order(conversation[known:]):
            return replace_messages(request, "messages", [*instructions, *conversation])

        convert = _converter(messages)

        def add_results(run: list[Any], calls: list[str]) -> list[Any]:
            results = (
                {"role": "tool", "tool_call_id": call, **_INTERRUPTED_FIELDS} for call in calls
            )
            return [*run, *map(convert, results)]

        conversation = repair(
            [convert(_sendable(message)) for message in check_roles(as_chat(history), "history")],
            new,
            links=self.links,
            separates=holds_no_result,
            add_results=add_results,
            drop_results=nothing_left,
        )
        return replace_messages(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            text = streamed_text(response)
            if text is not None:
                return self.reply_items(request, text)
            message = assemble_message(response)
            return [] if message is None else _replies([message])

        if isinstance(response, str):
            return [{"role": "assistant", "content": str(response)}]

        # A response with several of these fields is read by the first of them.
        if (choices := field(response, "choices")) is not MISSING:
            if isinstance(choices, (list, tuple)):
                choices = [field(choice, "message") for choice in choices[:1]]
            return _replies(check_chat_messages(choices, "response.choices"))

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
        if is_plain(item):
            return plain_links(item)
        if (links := run_item_links(item)) is not NO_LINKS:
            return links

        role = field(item, "role")
        return item_links(
            [field(call, "id") for call in list_field(item, "tool_calls")],
            [field(item, "tool_call_id")] if role == "tool" else (),
            starts_exchange=role == "user",
        )

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, conversation = partition(request_messages(request), is_instruction)
        return replace_messages(request, "messages", [*instructions, *conversation[-count:]])


def _are_in_order(messages: Sequence[Any]) -> bool:
    """Return True if *messages* are texts, and tool calls directly followed by their results.

    They can then be sent unchanged. False only means that they need a closer look. This is a
    `Check`: if it holds for two consecutive lists, it holds for both together.

    Each request carries a whole conversation, which may be long and is nearly always in order.
    Therefore the first pass skips plain texts, and the second pass reads only the other messages.
    """
    try:
        others = [
            place
            for place, message in enumerate(messages)
            if type(message) is not dict
            or len(message) != len(_TEXT_FIELDS)
            or message["role"] not in _TEXT_ROLES
            or type(message["content"]) is not str
        ]
    except KeyError:
        return False

    waiting: set[str] = set()
    last = -1
    for place in others:
        message = messages[place]
        if type(message) is not dict or (waiting and place != last + 1):
            return False
        last = place

        if message.get("role") == "tool":
            call = _answered_call(message)
            if call is None or call not in waiting:
                return False
            waiting.remove(call)
        elif waiting or (calls := _made_calls(message)) is None:
            return False
        else:
            waiting = calls

    return not waiting


def _answered_call(message: dict[str, Any]) -> str | None:
    """Return the id of the call that *message* answers with text only; None if there is none."""
    call = message.get("tool_call_id")
    is_text = type(message.get("content")) is str and message.keys() <= _RESULT_FIELDS
    return call if is_text and type(call) is str else None


def _made_calls(message: dict[str, Any]) -> set[str] | None:
    """Return the ids of the calls of *message*, or None if the message needs a closer look."""
    if type(message.get("role")) is str and is_plain(message):
        return set()

    calls, content = message.get("tool_calls"), message.get("content")
    is_calling = message.keys() == _CALL_FIELDS and message["role"] == "assistant"
    if not is_calling or type(calls) is not list or not (content is None or type(content) is str):
        return None

    ids = [call.get("id") if type(call) is dict else None for call in calls]
    made = {call for call in ids if type(call) is str and call}
    are_distinct_ids = len(made) == len(ids)
    return made if made and are_distinct_ids else None


def _converter(messages: Sequence[Any]) -> Callable[[Any], Any]:
    """Return the function that converts a message of the history to the class of *messages*.

    It converts nothing if *messages* are mappings or objects of several classes.
    """
    kinds = {type(message) for message in messages}
    if len(kinds) == 1 and not issubclass(kind := kinds.pop(), Mapping):
        return partial(to_class, kind=kind)
    return _unchanged


def _unchanged(message: Any) -> Any:
    return message


def _sendable(message: Any) -> Any:
    """Return *message* as a provider accepts it in a later request.

    Of the assistant's audio, only the id is kept. If a message of the assistant has no content at
    all, its content becomes an empty string.
    """
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message

    audio = message.get("audio")
    if isinstance(audio, dict) and "id" in audio:
        return {**message, "audio": {"id": audio["id"]}}
    if message.get("content", "") is None and not any(map(message.get, _CONTENT_SUBSTITUTES)):
        return {**message, "content": ""}
    return message


def _items(messages: Iterable[Any]) -> Iterator[Any]:
    """Yield *messages* as items, without instructions."""
    return (_item(message) for message in messages if not is_instruction(message))


def _replies(messages: Iterable[Any]) -> list[Any]:
    """Return the *messages* of a response as items, without fields that a provider refuses."""
    items = list(_items(messages))
    for item in items:
        for call in list_field(item, "tool_calls"):
            if isinstance(call, dict):
                call.pop("index", None)  # changes only the copy that to_builtins() made
        for name in _DROPPED_IF_NULL:
            if item.get(name, MISSING) is None:
                del item[name]
    return items


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
