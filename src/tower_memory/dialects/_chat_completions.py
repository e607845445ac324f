"""Chat messages: OpenAI's chat completions and everything that speaks like them."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any, Final, final

import msgspec

from tower_memory._items import as_chat
from tower_memory.dialects._plain import MISSING, field, like, plain, replaced

INSTRUCTIONS: Final = frozenset({"system", "developer"})
INTERRUPTED: Final = "(interrupted: this call has no result)"


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
        hydrated = [*instructions, *_mended(list(map(spell, past)), new, spell)]
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


def _mended(history: Sequence[Any], new: Sequence[Any], spell: Callable[[Any], Any]) -> list[Any]:
    """The history and the new messages as they can follow each other (rule 3)."""
    spoken: list[_Spoken] = []
    for number, message in enumerate([*history, *new]):
        old = number < len(history)
        if (call := _answered(message)) is None:
            spoken.append(_Spoken(message, _calls(message), old))
        elif (caller := _caller(spoken, call)) is not None:
            caller.unanswered.remove(call)
            caller.results.append(message)
        elif not old:
            msg = (
                f"request.messages has a result of the tool call {call!r}, for which no call in "
                "the loaded history waits; load more of it, or send the call along"
            )
            raise ValueError(msg)
    return [message for each in spoken for message in each.messages(spell)]


@dataclass(slots=True)
class _Spoken:
    """A message that is no tool's result, the calls it makes, and their results."""

    message: Any
    unanswered: list[str]
    old: bool
    results: list[Any] = dataclass_field(default_factory=list[Any])

    def messages(self, spell: Callable[[Any], Any]) -> list[Any]:
        """Itself and a result of each of its calls, made up where an old one has none."""
        interrupted = [
            spell({"role": "tool", "tool_call_id": call, "content": INTERRUPTED})
            for call in self.unanswered
            if self.old
        ]
        return [self.message, *self.results, *interrupted]


def _caller(spoken: list[_Spoken], call: str) -> _Spoken | None:
    """The last to make *call*, if it is unanswered."""
    return next((each for each in reversed(spoken) if call in each.unanswered), None)


def _answered(message: Any) -> str | None:
    """The call that *message* is a result of, or None; a result that does not say is no result."""
    call = field(message, "tool_call_id") if _role(message) == "tool" else None
    return call if isinstance(call, str) else None


def _calls(message: Any) -> list[str]:
    """The ids of the calls that *message* makes. Some servers give none, so nothing can refer."""
    calls = field(message, "tool_calls")
    if not isinstance(calls, (list, tuple)):
        return []
    return [call_id for call in calls if isinstance(call_id := field(call, "id"), str)]
