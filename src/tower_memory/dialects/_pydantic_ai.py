"""pydantic-ai's model messages: requests and responses, each of parts.

Items are what its ``ModelMessagesTypeAdapter`` makes of them, which is its documented way of
keeping messages; the adapter is found beside the messages' own classes.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from tower_memory._conversations import after
from tower_memory._shapes import INTERRUPTED_REPLY, field, is_result, parts_of
from tower_memory.dialects._carried import carried, carrying, listed, parted
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._mending import INTERRUPTED, is_no_result, mended
from tower_memory.dialects._text import is_json


@final
@dataclass(frozen=True, slots=True)
class PydanticAI:
    """The dialect of pydantic-ai's ``direct.model_request`` and ``model_request_stream``.

    A request is a list of model messages, or a mapping or an object that has ``messages``. A
    response is a ``ModelResponse``, or a list of messages: those of the reply alone, or the whole
    conversation, whose new ones are taken. A stream is a ``StreamedResponse``.

    1. Instructions and system prompts are not stored: ``instructions`` stay on the request's
       message, system prompts go to the front.
    2. The history is given as the same kinds of messages that it was made of, thinking with its
       signatures and binary content included.
    3. The history is mended where it was cut or broken off: a result without its call is left
       out, a call without its result is answered as interrupted.
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(_said(_messages(request)))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        messages = _messages(request)
        adapter = _adapter(messages[0])
        conversation = mended(
            history,
            _said(messages),
            breaks=is_no_result,
            answered=_answered,
            without=_without,
            at_once=True,
        )
        made = iter(adapter.validate_python([item for item in conversation if _is_json(item)]))
        spelled = [next(made) if _is_json(item) else item for item in conversation]
        return carrying(request, "messages", [*_instructions(messages), *spelled])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            return [_response_of(response)]
        if isinstance(response, (list, tuple)):
            got = _items(_said(_checked(response, "response")))
            return list(after(self.new_items(request), got))
        return _items(_checked([response], "response"))

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        messages = _messages(request)
        new = _said(messages)[-count:]
        return carrying(request, "messages", [*_instructions(messages), *new])


def _messages(request: Any) -> Sequence[Any]:
    return _checked(carried(request), "request.messages")


def _checked(messages: Any, where: str) -> Sequence[Any]:
    """*messages*, if they are pydantic-ai's."""
    found = listed(messages, where)
    for index, message in enumerate(found):
        if field(message, "kind") not in ("request", "response") or _adapter(message) is None:
            msg = f"{where}[{index}] must be a pydantic-ai message, got {type(message).__name__}"
            raise TypeError(msg)
    return found


def _adapter(message: Any) -> Any:
    module = sys.modules.get(type(message).__module__)
    return getattr(module, "ModelMessagesTypeAdapter", None)


def _instructions(messages: Iterable[Any]) -> list[Any]:
    """The system prompts among *messages*, as messages of their own."""
    return [
        dataclasses.replace(message, parts=prompts, instructions=None)
        for message in messages
        if (prompts := [part for part in parts_of(message, "parts") if _is_system(part)])
    ]


def _said(messages: Iterable[Any]) -> list[Any]:
    """*messages* without their system prompts, and without those that are nothing else."""
    said: list[Any] = []
    for message in messages:
        parts = parts_of(message, "parts")
        kept = [part for part in parts if not _is_system(part)]
        if len(kept) == len(parts):
            said.append(message)
        elif kept:
            said.append(dataclasses.replace(message, parts=kept))
    return said


def _is_system(part: Any) -> bool:
    return bool(field(part, "part_kind") == "system-prompt")


def _items(messages: Sequence[Any]) -> list[Any]:
    """*messages* as JSON values, without instructions."""
    return [
        {**item, "instructions": None} if item.get("instructions") else item
        for item in _dumped(messages)
    ]


def _dumped(messages: Sequence[Any]) -> list[Any]:
    return _adapter(messages[0]).dump_python(list(messages), mode="json") if messages else []


def _response_of(streamed: Streamed) -> Any:
    """The response that *streamed* was."""
    get = getattr(streamed.stream, "get", None)
    if get is None:
        msg = (
            f"a stream must be pydantic-ai's StreamedResponse, got {type(streamed.stream).__name__}"
        )
        raise TypeError(msg)
    (item,) = _items(_checked([get()], "response"))
    if item["state"] in ("complete", "suspended"):
        return item
    if not streamed.interrupted:
        msg = f"the stream ended before its response was complete (its state is {item['state']!r})"
        raise ValueError(msg)
    parts = [part for part in item["parts"] if _is_complete(part)]
    text = {"part_kind": "text", "content": INTERRUPTED_REPLY}
    return {**item, "state": "interrupted", "parts": [*parts, text]}


def _is_complete(part: Any) -> bool:
    """Whether *part* is no call of a tool whose arguments were cut off."""
    arguments = part.get("args")
    return not isinstance(arguments, str) or is_json(arguments)


def _is_json(item: Any) -> bool:
    """Whether *item* is of the history, not of the request."""
    return isinstance(item, dict)


def _answered(run: list[Any], calls: list[str]) -> list[Any]:
    """All results follow the calls in one message, before whatever else is said."""
    calling, *answers = run
    if len(answers) <= 1 and not calls:
        return run
    missing = [
        {
            "part_kind": "tool-return",
            "tool_name": field(part, "tool_name"),
            "tool_call_id": field(part, "tool_call_id"),
            "content": INTERRUPTED,
            "outcome": "interrupted",
            "timestamp": field(calling, "timestamp"),  # the same each time
        }
        for part in parts_of(calling, "parts")
        if field(part, "tool_call_id") in calls
    ]
    spelled = [answer if _is_json(answer) else _dumped([answer])[0] for answer in answers]
    parts = (part for answer in spelled for part in parts_of(answer, "parts"))
    results, said = parted(parts, is_result)
    merged = {
        **{key: value for answer in spelled for key, value in answer.items()},
        "kind": "request",
        "parts": [*missing, *results, *said],
    }
    return [calling, merged]


def _without(message: Any, calls: set[str]) -> Any | None:
    parts = [
        part for part in parts_of(message, "parts") if field(part, "tool_call_id") not in calls
    ]
    return {**message, "parts": parts} if parts else None
