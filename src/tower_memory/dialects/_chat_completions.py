"""Chat messages: OpenAI's chat completions and everything that speaks like them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import msgspec

from tower_memory._conversations import after
from tower_memory._history import History
from tower_memory._items import as_chat
from tower_memory._shapes import MISSING, field, is_plain, parts_of
from tower_memory.dialects._carried import (
    OTHERS,
    carrying,
    chat_messages,
    is_instruction,
    messages_of,
    parted,
    shape_of,
    with_roles,
)
from tower_memory.dialects._chat_chunks import message_of
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._mending import INTERRUPTED, is_no_result, mended, nothing_left
from tower_memory.dialects._plain import like, plain
from tower_memory.dialects._text import text_of

_ADDED_AS_NULL: Final = (
    "annotations",
    "audio",
    "function_call",
    "provider_specific_fields",
    "tool_calls",
)
"""What client libraries say of each message, though nobody said it."""

_NO_RESULT: Final = {"content": INTERRUPTED}

_SPEAKERS: Final = ("user", "assistant")
_TEXT: Final = frozenset({"role", "content"})
_CALLING: Final = frozenset({"role", "content", "tool_calls"})
_RESULT: Final = frozenset({"role", "content", "tool_call_id", "name"})
"""What the commonest messages have."""

_INSTEAD: Final = ("tool_calls", "function_call", "refusal", "audio")
"""What an assistant's message may have in place of content."""


@final
@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The dialect of chat messages, and the default.

    A request is a list of messages, or a mapping or an object (dataclass, msgspec Struct,
    pydantic model) that has ``messages``. A message is a mapping or such an object, with a
    ``role``. A response is a chat completion (its first choice counts), a message or something
    that has one, a string, or has ``messages``: the reply's alone, or the whole conversation,
    whose new ones are taken. A stream is one of such completions' chunks, or of strings.

    1. System and developer messages are instructions: they stay at the front of the request, and
       are neither stored nor loaded.
    2. Every other message of the request is new. The history goes between the two.
    3. The history is mended where it was cut or broken off, so that the model gets a valid
       conversation: a tool's result without its call is left out, a call without its result is
       answered as interrupted. Calls that the request itself answers are left alone.
    4. Run items in the history are spelled as chat messages. Where all of a request's messages
       are objects of one class, the history is given to it as objects of that class.
    5. A reply's message is stored as the provider wants it back, unknown fields included.

    >>> chat = ChatCompletions()
    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    >>> chat.new_items(request)
    [{'role': 'user', 'content': 'Hi'}]
    >>> chat.reply_items(request, "Hello!")
    [{'role': 'assistant', 'content': 'Hello!'}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return list(_items(messages_of(request)))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        messages = messages_of(request)
        instructions, new = parted(messages, is_instruction)
        known = history.known(_are_in_order) if isinstance(history, History) else 0
        conversation = [*history, *new]
        if _are_in_order(conversation[known:]):
            return carrying(request, "messages", [*instructions, *conversation])
        spell: Callable[[Any], Any] = _as_it_is
        kinds = {type(message) for message in messages}
        if len(kinds) == 1 and not issubclass(kind := kinds.pop(), Mapping):
            spell = partial(like, kind=kind)

        def answered(run: list[Any], calls: list[str]) -> list[Any]:
            missing = ({"role": "tool", "tool_call_id": call, **_NO_RESULT} for call in calls)
            return [*run, *map(spell, missing)]

        conversation = mended(
            [spell(_sendable(message)) for message in with_roles(as_chat(history), "history")],
            new,
            breaks=is_no_result,
            answered=answered,
            without=nothing_left,
        )
        return carrying(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            text = text_of(response)
            if text is not None:
                return self.reply_items(request, text)
            message = message_of(response)
            return [] if message is None else _replies([message])
        if isinstance(response, str):
            return [{"role": "assistant", "content": str(response)}]
        if (choices := field(response, "choices")) is not MISSING:
            if isinstance(choices, (list, tuple)):
                choices = [field(choice, "message") for choice in choices[:1]]
            return _replies(chat_messages(choices, "response.choices"))
        if (messages := field(response, "messages")) is not MISSING:
            got = _replies(chat_messages(messages, "response.messages"))
            return list(after(_items(messages_of(request)), got))
        if (message := field(response, "message")) is not MISSING:
            return _replies(chat_messages([message], "response.message"))
        if field(response, "role") is not MISSING and field(response, "stop_reason") is MISSING:
            return _replies([response])
        msg = (
            "response must be a chat completion, a message, a string or have messages, or be an "
            f"async stream of chunks, got {shape_of(response)}; {OTHERS}"
        )
        raise TypeError(msg)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, said = parted(messages_of(request), is_instruction)
        return carrying(request, "messages", [*instructions, *said[-count:]])


def _are_in_order(messages: Sequence[Any]) -> bool:
    """Whether *messages* can be sent as they are: in text, each call with its result after it.

    False where that would take long to tell. Most conversations are in order, however long, and
    each request carries them, so the commonest messages are passed over first.
    """
    try:
        others = [
            place
            for place, message in enumerate(messages)
            if type(message) is not dict
            or len(message) != len(_TEXT)
            or message["role"] not in _SPEAKERS
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
            call = _answered_by(message)
            if call not in waiting:
                return False
            waiting.remove(call)
        elif waiting or (calls := _made_by(message)) is None:
            return False
        else:
            waiting = calls
    return not waiting


def _answered_by(message: dict[str, Any]) -> str:
    """The call that *message* answers with text and nothing else, or an empty one."""
    call = message.get("tool_call_id")
    is_text = type(message.get("content")) is str and message.keys() <= _RESULT
    return call if is_text and type(call) is str else ""


def _made_by(message: dict[str, Any]) -> set[str] | None:
    """The calls that *message* makes beside text and nothing else, or None where it is unlike."""
    if type(message.get("role")) is str and is_plain(message):
        return set()
    calls, content = message.get("tool_calls"), message.get("content")
    is_calling = message.keys() == _CALLING and message["role"] == "assistant"
    if not is_calling or type(calls) is not list or not (content is None or type(content) is str):
        return None
    ids = [call.get("id") if type(call) is dict else None for call in calls]
    made = {call for call in ids if type(call) is str and call}
    return made if len(made) == len(ids) > 0 else None


def _as_it_is(message: Any) -> Any:
    return message


def _sendable(message: Any) -> Any:
    """*message* as it is sent again: what a provider spoke by its id, and nothing as no text."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return message
    audio = message.get("audio")
    if isinstance(audio, dict) and "id" in audio:
        return {**message, "audio": {"id": audio["id"]}}
    if message.get("content", "") is None and not any(message.get(name) for name in _INSTEAD):
        return {**message, "content": ""}
    return message


def _items(messages: Iterable[Any]) -> Iterator[Any]:
    """*messages* as items to store: all but the instructions."""
    return (_item(message) for message in messages if not is_instruction(message))


def _replies(messages: Iterable[Any]) -> list[Any]:
    """*messages* of a response as items, without what a provider does not want back."""
    items = list(_items(messages))
    for item in items:
        for call in parts_of(item, "tool_calls"):
            if isinstance(call, dict):
                call.pop("index", None)  # of a copy, which plain() made
        for name in _ADDED_AS_NULL:
            if item.get(name, MISSING) is None:
                del item[name]
    return items


def _item(message: Any) -> Any:
    try:
        item = plain(message)
    except RecursionError:
        return message  # which the store refuses, and says where
    if isinstance(item, msgspec.Struct):
        return item  # likewise
    if not isinstance(item, dict):
        kind = type(message).__name__
        msg = f"a message must be a mapping, dataclass, Struct or pydantic model, got {kind}"
        raise TypeError(msg)
    return item if "role" in item else {"role": field(message, "role"), **item}  # a default
