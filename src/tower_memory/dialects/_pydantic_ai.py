"""The dialect of pydantic-ai's model messages: requests and responses, made of parts.

Items are the JSON values that pydantic-ai's ``ModelMessagesTypeAdapter`` makes of messages. This is
its documented way of storing messages. The adapter is found in the module of the messages' classes,
so pydantic-ai is not imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from tower_memory._arguments import shown_name
from tower_memory._fields import field, list_field
from tower_memory._items import INTERRUPTED_REPLY
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import ItemLinks
from tower_memory.dialects._messages import check_list, messages_field, replace_messages
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._provider_rules import apply_rules, without_refused_exchanges
from tower_memory.dialects._pydantic_ai_rules import (
    RULES,
    PydanticAIRules,
    adapter_of,
    as_message,
    dump,
    is_cut_off,
    is_item,
    is_refused,
    with_missing_replies,
)
from tower_memory.dialects._repair import is_valid, repair


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
    2. The model gets the history as objects of pydantic-ai's message classes, with thinking and its
       signatures, and with binary content.
    3. A history that was cut or interrupted is repaired. A tool result without its tool call is
       left out. A call without its result gets a result that says that the call was interrupted. If
       a prompt of the user comes directly after such a result, a response that says that it is not
       complete is put between them.
    4. A response is stored as it was said. These parts are not sent: blank text, thinking at the
       end, a tool call with broken arguments that no result answers, and an exchange that ended
       with the finish_reason ``content_filter``. A response with nothing else is sent with the text
       ``(empty message)``.
    5. A stream that ended before its response was complete is refused with `ValueError`. An
       interrupted stream stores its text and its complete tool calls, and a text part that says
       that the response is not complete.

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
        new = _without_system_prompts(messages)
        stored = [as_message(item) for item in history]
        conversation = [*stored, *new]
        if not is_valid(conversation, _RULES):
            past = without_refused_exchanges(stored, new, self.links, is_refused)
            past = apply_rules(RULES, past, new, _RULES, now=0)
            conversation = with_missing_replies(repair(past, new, _RULES))

        adapter = adapter_of(messages[0])
        items = [item for item in conversation if is_item(item)]
        validated = iter(_validate(adapter, items))
        conversation = [next(validated) if is_item(item) else item for item in conversation]
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
        return _RULES.links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        messages = _messages(request)
        items = _without_system_prompts(messages)
        newest = items[len(items) - count :]
        return replace_messages(request, "messages", [*_system_prompts(messages), *newest])


_RULES: Final = PydanticAIRules()


def _validate(adapter: Any, items: list[Any]) -> list[Any]:
    """Return *items* as message objects.

    Raises:
        TypeError: An item is no message of pydantic-ai.
    """
    try:
        messages: list[Any] = adapter.validate_python(items)
    except ValueError as error:  # its text shows the item
        places = sorted({each["loc"][0] for each in getattr(error, "errors", list)()})
        msg = f"history must consist of pydantic-ai messages; others are at the places {places}"
        raise TypeError(msg) from None
    return messages


def _messages(request: Any) -> Sequence[Any]:
    return _check_messages(messages_field(request), "request.messages")


def _check_messages(messages: Any, where: str) -> Sequence[Any]:
    """Return *messages* if it is a list of at least one message of pydantic-ai."""
    checked = check_list(messages, where)
    for index, message in enumerate(checked):
        if field(message, "kind") not in ("request", "response") or adapter_of(message) is None:
            msg = f"{where}[{index}] must be a pydantic-ai message, got {type(message).__name__}"
            raise TypeError(msg)
    return checked


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


def _is_system(part: Any) -> bool:
    return bool(field(part, "part_kind") == "system-prompt")


def _items(messages: Sequence[Any]) -> list[Any]:
    """Return *messages* as JSON values, without instructions."""
    return [
        {**item, "instructions": None} if item.get("instructions") else item
        for item in dump(messages)
    ]


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
        state = shown_name(item["state"])
        msg = f"the stream ended before its response was complete (its state is {state})"
        raise ValueError(msg)

    parts = [part for part in item["parts"] if not is_cut_off(part)]
    mark = {"part_kind": "text", "content": INTERRUPTED_REPLY}
    return {**item, "state": "interrupted", "parts": [*parts, mark]}
