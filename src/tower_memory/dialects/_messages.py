"""The messages of a request: the request is a list of messages, or has a field for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import msgspec

from tower_memory._arguments import is_short_name
from tower_memory._fields import MISSING, field


def messages_field(request: Any, name: str = "messages") -> Any:
    """Return *request* if it is a list or a tuple, otherwise its field *name*, unchecked.

    Raises:
        TypeError: *request* is no list and has no field *name*.
    """
    messages = request if isinstance(request, (list, tuple)) else field(request, name)
    if messages is MISSING:
        msg = f"request must be a list of messages or have {name}, got {describe_shape(request)}"
        raise TypeError(msg)
    return messages


def request_messages(request: Any, name: str = "messages") -> Sequence[Any]:
    """Return the messages of *request*: the list itself, or its field *name*.

    >>> from tower_memory.dialects.toolkit import request_messages
    >>> request_messages({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    [{'role': 'user', 'content': 'Hi'}]

    Raises:
        TypeError: *request* has no list of messages, or a message has no role.
        ValueError: The list is empty.
    """
    return check_chat_messages(messages_field(request, name), f"request.{name}")


def check_chat_messages(messages: Any, where: str) -> Sequence[Any]:
    """Return *messages* if it is a list of at least one message, each with a role.

    Args:
        messages: The value to check.
        where: Place of *messages*, for the error message, such as ``"response.messages"``.

    Raises:
        TypeError: *messages* is no list, or a message has no role.
        ValueError: *messages* is empty.
    """
    return check_roles(check_list(messages, where), where)


def describe_shape(value: Any) -> str:
    """Return the type of *value* and the keys of a mapping, without values, for an error message.

    The result has only keys that are short identifiers, because another key may be content.

    >>> from tower_memory.dialects.toolkit import describe_shape
    >>> describe_shape({"id": 1, "text": "Hi"})
    'dict with id, text'
    """
    kind = type(value).__name__
    keys = filter(is_short_name, value) if isinstance(value, Mapping) else ()
    return f"{kind} with {names}" if (names := ", ".join(keys)) else kind


OTHER_DIALECTS: Final = (
    "write a dialect for it, or pass that of its client, such as AnthropicMessages()"
)
"""Remedy in the error message for a request or a response of another dialect."""


def check_list(messages: Any, where: str, least: int = 1) -> Sequence[Any]:
    """Return *messages* if it is a list or a tuple with at least *least* elements.

    Args:
        messages: The value to check.
        where: Place of *messages*, for the error message, such as ``"response.messages"``.
        least: Smallest number of elements that is accepted; 0 or 1.

    Raises:
        TypeError: *messages* is neither a list nor a tuple.
        ValueError: *messages* has fewer than *least* elements.
    """
    if not isinstance(messages, (list, tuple)):
        msg = f"{where} must be a list of messages, got {describe_shape(messages)}"
        raise TypeError(msg)
    if len(messages) < least:
        msg = f"{where} must have at least one message, got none"
        raise ValueError(msg)
    return messages


def check_roles(messages: Sequence[Any], where: str) -> Sequence[Any]:
    """Return *messages* if each is a mapping or an object with a role that is a string.

    Args:
        messages: The messages to check; they may be none.
        where: Place of *messages*, for the error message, such as ``"history"``.

    Raises:
        TypeError: A message has no role. The error message names its index.
    """
    # Most messages are dicts with a role, so this quick pass leaves few to check one by one.
    others = [
        index
        for index, message in enumerate(messages)
        if type(message) is not dict or type(message.get("role")) is not str
    ]
    for index in others:
        message = messages[index]
        if not isinstance(field(message, "role"), str):
            got = describe_shape(message)
            msg = f"{where}[{index}] must be a message with a role, got {got}"
            raise TypeError(msg)
    return messages


def replace_messages(request: Any, name: str, messages: list[Any]) -> Any:
    """Return a copy of *request* with *messages*; all its other fields stay as they are.

    Args:
        request: A list of messages, or a mapping or an object with the field *name*: a
            dataclass, a Struct, a pydantic model or any object that can be copied.
        name: Name of the field for the messages. It is not used if *request* is a list.
        messages: The messages of the copy.

    >>> from tower_memory.dialects.toolkit import replace_messages
    >>> replace_messages({"model": "m", "messages": []}, "messages", [{"role": "user"}])
    {'model': 'm', 'messages': [{'role': 'user'}]}
    """
    if isinstance(request, (list, tuple)):
        return messages
    if type(request) is dict or isinstance(request, Mapping):  # a dict is recognised faster
        return {**request, name: messages}

    if isinstance(request, msgspec.Struct):
        return msgspec.structs.replace(request, **{name: messages})
    if hasattr(request, "model_copy"):
        return request.model_copy(update={name: messages})

    other = copy(request)
    object.__setattr__(other, name, messages)  # also sets a field of a frozen dataclass
    return other


def is_instruction(message: Any) -> bool:
    """Return True if the role of *message* is ``"system"`` or ``"developer"``."""
    return field(message, "role") in ("system", "developer")


def partition(
    messages: Iterable[Any], select: Callable[[Any], bool]
) -> tuple[list[Any], list[Any]]:
    """Return two lists: the messages for which *select* returns True, and all others, in order.

    >>> from tower_memory.dialects.toolkit import partition
    >>> partition([1, 2, 3, 4], lambda number: number % 2 == 0)
    ([2, 4], [1, 3])
    """
    selected: list[Any] = []
    others: list[Any] = []
    for message in messages:
        (selected if select(message) else others).append(message)
    return selected, others


def partition_results(
    parts: Iterable[Any], is_result: Callable[[Any], bool], numbers: Collection[int]
) -> tuple[list[Any], list[Any]]:
    """Return two lists: the tool results at the indexes *numbers*, and all other parts, in order.

    The indexes count the tool results among *parts*, for which *is_result* returns True.

    >>> from tower_memory.dialects.toolkit import partition_results
    >>> partition_results(["text", "result 0", "result 1"], lambda part: part[0] == "r", [1])
    (['result 1'], ['text', 'result 0'])
    """
    count = itertools.count()
    return partition(parts, lambda part: is_result(part) and next(count) in numbers)
