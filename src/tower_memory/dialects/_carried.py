"""The messages that a request carries: it is a list of them, or has one."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final

import msgspec

from tower_memory._shapes import MISSING, field


def carried(request: Any) -> Any:
    """What *request* has for messages: itself, if it is a list of them, or its ``messages``."""
    messages = request if isinstance(request, (list, tuple)) else field(request, "messages")
    if messages is MISSING:
        msg = f"request must be a list of messages or have messages, got {shape_of(request)}"
        raise TypeError(msg)
    return messages


def messages_of(request: Any) -> Sequence[Any]:
    """The chat messages of *request*."""
    return chat_messages(carried(request), "request.messages")


def chat_messages(messages: Any, where: str) -> Sequence[Any]:
    """*messages*, if they are a list of at least one, each with a role."""
    return with_roles(listed(messages, where), where)


def shape_of(value: Any) -> str:
    """What *value* is, for an error: its type, and what a mapping has."""
    kind = type(value).__name__
    return f"{kind} with {', '.join(map(str, value))}" if isinstance(value, Mapping) else kind


OTHERS: Final = "write a dialect for it, or pass that of its client, such as AnthropicMessages()"
"""The way out for who uses a dialect for what does not speak it."""


def listed(messages: Any, where: str) -> Sequence[Any]:
    """*messages*, if they are a list of at least one."""
    if not isinstance(messages, (list, tuple)):
        msg = f"{where} must be a list of messages, got {reprlib.repr(messages)}"
        raise TypeError(msg)
    if not messages:
        msg = f"{where} must have at least one message, got none"
        raise ValueError(msg)
    return messages


def with_roles(messages: Sequence[Any], where: str) -> Sequence[Any]:
    """*messages*, if each has a role."""
    others = [  # few, where the messages are many
        index
        for index, message in enumerate(messages)
        if type(message) is not dict or type(message.get("role")) is not str
    ]
    for index in others:
        message = messages[index]
        if not isinstance(field(message, "role"), str):
            msg = f"{where}[{index}] must be a message with a role, got {reprlib.repr(message)}"
            raise TypeError(msg)
    return messages


def carrying(request: Any, name: str, messages: list[Any]) -> Any:
    """A copy of *request* that carries other *messages*, and differs in nothing else."""
    if isinstance(request, (list, tuple)):
        return messages
    if type(request) is dict or isinstance(request, Mapping):  # the first is asked faster
        return {**request, name: messages}
    if isinstance(request, msgspec.Struct):
        return msgspec.structs.replace(request, **{name: messages})
    if hasattr(request, "model_copy"):
        return request.model_copy(update={name: messages})
    other = copy(request)
    object.__setattr__(other, name, messages)  # dataclasses may be frozen
    return other


def is_instruction(message: Any) -> bool:
    """Whether *message* tells the model how to behave."""
    return field(message, "role") in ("system", "developer")


def parted(messages: Iterable[Any], apart: Callable[[Any], bool]) -> tuple[list[Any], list[Any]]:
    """Those of *messages* that are set *apart*, as instructions are, and the conversation."""
    instructions: list[Any] = []
    said: list[Any] = []
    for message in messages:
        (instructions if apart(message) else said).append(message)
    return instructions, said
