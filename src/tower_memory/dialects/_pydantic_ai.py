"""The dialect of pydantic-ai's model messages: requests and responses, made of parts.

Items are the JSON values that pydantic-ai's ``ModelMessagesTypeAdapter`` makes of messages. This is
its documented way of storing messages. The adapter is found in the module of the messages' classes,
so pydantic-ai is not imported here.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

from tower_memory._fields import field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import ItemLinks, is_plain, item_links, plain_links
from tower_memory.dialects._messages import check_list, messages_field, partition, replace_messages
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._repair import INTERRUPTED, holds_no_result, repair
from tower_memory.dialects._text import is_json


@final
@dataclass(frozen=True, slots=True)
class PydanticAI:
    """The dialect of pydantic-ai's ``direct.model_request`` and ``model_request_stream``.

    - **Request**: a list of model messages, or a mapping or an object with ``messages``.
    - **Response**: a ``ModelResponse``, or a list of messages, which are those of the reply alone
      or of the whole conversation. Only new messages are stored.
    - **Stream**: a ``StreamedResponse``.

    1. Instructions are not stored: ``instructions`` stay on the request's message, and system
       prompts go to the front of the request.
    2. The history is given as messages of the same classes that it was made of, with thinking and
       its signatures, and with binary content.
    3. A history that was cut or interrupted is repaired. A tool result without its tool call is
       left out, and a call without its result gets a result that says it was interrupted.
    4. A stream that ended before its response was complete is refused with `ValueError`. Of an
       interrupted stream, the text and the complete tool calls are stored, and a text part that
       says it was interrupted.

    >>> from tower_memory.dialects import PydanticAI
    >>> from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart
    >>> dialect = PydanticAI()
    >>> request = [ModelRequest.user_text_prompt("Hi", instructions="Be brief.")]
    >>> reply = ModelResponse([TextPart("Hello!")])
    >>> items = dialect.new_items(request) + dialect.reply_items(request, reply)
    >>> [(item["kind"], item["parts"][0]["content"]) for item in items]
    [('request', 'Hi'), ('response', 'Hello!')]
    >>> [type(message).__name__ for message in dialect.with_history(request, items)]
    ['ModelRequest', 'ModelResponse', 'ModelRequest']
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(_without_system_prompts(_messages(request)))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        messages = _messages(request)
        conversation = repair(
            history,
            _without_system_prompts(messages),
            links=self.links,
            separates=holds_no_result,
            add_results=_add_results,
            drop_results=_drop_results,
            results_together=True,
        )

        adapter = _adapter(messages[0])
        items = [item for item in conversation if _is_item(item)]
        validated = iter(adapter.validate_python(items))
        conversation = [next(validated) if _is_item(item) else item for item in conversation]
        return replace_messages(request, "messages", [*_system_prompts(messages), *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            return [_streamed_response(response)]
        if isinstance(response, (list, tuple)):
            items = _items(_without_system_prompts(_check_messages(response, "response")))
            return list(new_in_response(self.new_items(request), items, self.links))
        return _items(_check_messages([response], "response"))

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        if is_plain(item):  # a message that a window added
            return plain_links(item)

        parts = list_field(item, "parts")
        return item_links(
            [field(part, "tool_call_id") for part in parts if _is_call(part)],
            [field(part, "tool_call_id") for part in parts if _is_result(part)],
            starts_exchange=any(field(part, "part_kind") == "user-prompt" for part in parts),
        )

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        messages = _messages(request)
        new = _without_system_prompts(messages)[-count:]
        return replace_messages(request, "messages", [*_system_prompts(messages), *new])


def _messages(request: Any) -> Sequence[Any]:
    return _check_messages(messages_field(request), "request.messages")


def _check_messages(messages: Any, where: str) -> Sequence[Any]:
    """Return *messages* if it is a list of at least one message of pydantic-ai."""
    checked = check_list(messages, where)
    for index, message in enumerate(checked):
        if field(message, "kind") not in ("request", "response") or _adapter(message) is None:
            msg = f"{where}[{index}] must be a pydantic-ai message, got {type(message).__name__}"
            raise TypeError(msg)
    return checked


def _adapter(message: Any) -> Any:
    """Return pydantic-ai's type adapter for lists of messages, or None for other objects."""
    module = sys.modules.get(type(message).__module__)
    return getattr(module, "ModelMessagesTypeAdapter", None)


def _system_prompts(messages: Iterable[Any]) -> list[Any]:
    """Return the system prompts among *messages*, as messages of their own."""
    return [
        dataclasses.replace(message, parts=prompts, instructions=None)
        for message in messages
        if (prompts := [part for part in list_field(message, "parts") if _is_system(part)])
    ]


def _without_system_prompts(messages: Iterable[Any]) -> list[Any]:
    """Return *messages* without system prompts, and without messages that hold nothing else."""
    others: list[Any] = []
    for message in messages:
        parts = list_field(message, "parts")
        rest = [part for part in parts if not _is_system(part)]
        if len(rest) == len(parts):
            others.append(message)
        elif rest:
            others.append(dataclasses.replace(message, parts=rest))
    return others


def _is_call(part: Any) -> bool:
    return bool(field(part, "part_kind") == "tool-call")


def _is_result(part: Any) -> bool:
    kind = field(part, "part_kind")
    if kind == "retry-prompt":  # answers a call if it names a tool, otherwise the model's text
        return isinstance(field(part, "tool_name"), str)
    return bool(kind == "tool-return")


def _is_system(part: Any) -> bool:
    return bool(field(part, "part_kind") == "system-prompt")


def _items(messages: Sequence[Any]) -> list[Any]:
    """Return *messages* as JSON values, without instructions."""
    return [
        {**item, "instructions": None} if item.get("instructions") else item
        for item in _dump(messages)
    ]


def _dump(messages: Sequence[Any]) -> list[Any]:
    return _adapter(messages[0]).dump_python(list(messages), mode="json") if messages else []


def _streamed_response(streamed: Streamed) -> Any:
    """Return the response that *streamed* carried, as an item."""
    get = getattr(streamed.stream, "get", None)
    if get is None:
        msg = (
            f"a stream must be pydantic-ai's StreamedResponse, got {type(streamed.stream).__name__}"
        )
        raise TypeError(msg)

    (item,) = _items(_check_messages([get()], "response"))
    if item["state"] in ("complete", "suspended"):
        return item
    if not streamed.interrupted:
        msg = f"the stream ended before its response was complete (its state is {item['state']!r})"
        raise ValueError(msg)

    parts = [part for part in item["parts"] if _is_complete(part)]
    mark = {"part_kind": "text", "content": INTERRUPTED_REPLY}
    return {**item, "state": "interrupted", "parts": [*parts, mark]}


def _is_complete(part: Any) -> bool:
    """Return True unless *part* is a tool call whose arguments were cut off."""
    arguments = part.get("args")
    return not isinstance(arguments, str) or is_json(arguments)


def _is_item(item: Any) -> bool:
    """Return True if *item* is an item of the history, not a message object of the request."""
    return isinstance(item, dict)


def _add_results(run: list[Any], calls: list[str]) -> list[Any]:
    """Return *run* with all results in one message after the calls, before its other parts.

    Each call of *calls* gets a result that says it was interrupted.
    """
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
            # A repaired message must be the same in each request, so it takes the call's time.
            "timestamp": field(calling, "timestamp"),
        }
        for part in list_field(calling, "parts")
        if field(part, "tool_call_id") in calls
    ]

    items = [answer if _is_item(answer) else _dump([answer])[0] for answer in answers]
    parts = (part for item in items for part in list_field(item, "parts"))
    results, others = partition(parts, _is_result)
    merged = {
        **{key: value for item in items for key, value in item.items()},
        "kind": "request",
        "parts": [*missing, *results, *others],
    }
    return [calling, merged]


def _drop_results(message: Any, calls: set[str]) -> Any | None:
    parts = [
        part for part in list_field(message, "parts") if field(part, "tool_call_id") not in calls
    ]
    return {**message, "parts": parts} if parts else None
