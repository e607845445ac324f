"""Chat messages: OpenAI's chat completions and everything that speaks like them."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import msgspec

from tower_memory._items import as_chat
from tower_memory._shapes import MISSING, field
from tower_memory.dialects._mending import INTERRUPTED, mended
from tower_memory.dialects._plain import like, plain, replaced

INSTRUCTIONS: Final = frozenset({"system", "developer"})


@final
@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """The dialect of chat messages, and the default.

    A request is a list of messages, or a mapping or an object (dataclass, msgspec Struct,
    pydantic model) that has ``messages``. A message is a mapping or such an object, with a
    ``role``. A response is a chat completion (its first choice counts), a message, a string, or
    has ``messages``: the reply's alone, or the whole conversation, whose new ones are taken.

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
        return _conversation(_messages(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        messages = _messages(request)
        instructions = [message for message in messages if _role(message) in INSTRUCTIONS]
        new = [message for message in messages if _role(message) not in INSTRUCTIONS]
        past = as_chat(history)
        spell: Callable[[Any], Any] = _as_it_is
        kinds = {type(message) for message in messages}
        if len(kinds) == 1 and not issubclass(kind := kinds.pop(), Mapping):
            spell = partial(like, kind=kind)

        def interrupted(calls: list[str]) -> list[Any]:
            results = ({"role": "tool", "tool_call_id": call} for call in calls)
            return [spell({**result, "content": INTERRUPTED}) for result in results]

        conversation = mended(
            list(map(spell, past)), new, interrupted=interrupted, without=_nothing_left
        )
        hydrated = [*instructions, *conversation]
        return hydrated if messages is request else replaced(request, "messages", hydrated)

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, str):
            return [{"role": "assistant", "content": str(response)}]
        if (choices := field(response, "choices")) is not MISSING:
            if isinstance(choices, (list, tuple)):
                choices = [field(choice, "message") for choice in choices[:1]]
            return _conversation(_with_roles(choices, "response.choices"))
        if (messages := field(response, "messages")) is not MISSING:
            got = _conversation(_with_roles(messages, "response.messages"))
            return _after(self.new_items(request), got)
        if field(response, "role") is not MISSING:
            return _conversation([response])
        msg = (
            "response must be a chat completion, a message, a string or have messages, "
            f"got {type(response).__name__}; write a dialect for it"
        )
        raise TypeError(msg)


def _messages(request: Any) -> Sequence[Any]:
    messages = request if isinstance(request, (list, tuple)) else field(request, "messages")
    if messages is MISSING:
        msg = f"request must be a list of messages or have messages, got {type(request).__name__}"
        raise TypeError(msg)
    return _with_roles(messages, "request.messages")


def _with_roles(messages: Any, where: str) -> Sequence[Any]:
    """*messages*, if they are a list of at least one message."""
    if not isinstance(messages, (list, tuple)):
        msg = f"{where} must be a list of messages, got {reprlib.repr(messages)}"
        raise TypeError(msg)
    if not messages:
        msg = f"{where} must have at least one message, got none"
        raise ValueError(msg)
    for index, message in enumerate(messages):
        if not isinstance(_role(message), str):
            msg = f"{where}[{index}] must be a message with a role, got {reprlib.repr(message)}"
            raise TypeError(msg)
    return messages


def _as_it_is(message: Any) -> Any:
    return message


def _nothing_left(_message: Any, _calls: set[str]) -> None:
    """A message that holds a result holds nothing else."""


def _role(message: Any) -> Any:
    return field(message, "role")


def _conversation(messages: Iterable[Any]) -> list[Any]:
    """*messages* as items to store: all but the instructions."""
    return [_item(message) for message in messages if _role(message) not in INSTRUCTIONS]


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
    return item if "role" in item else {"role": _role(message), **item}  # a default left out


def _after(new: list[Any], conversation: list[Any]) -> list[Any]:
    """What *conversation* has after the request's own *new* items; all of it, if it lacks them."""
    for start in range(len(conversation) - len(new), -1, -1) if new else ():
        if all(map(_says, conversation[start:], new)):
            return conversation[start + len(new) :]
    return conversation


def _says(message: Any, item: Any) -> bool:
    """Whether *message* is *item*, perhaps with something added, such as an id."""
    return bool({**message, **item} == message)
