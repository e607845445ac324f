"""The dialect of OpenAI's responses: the request and the response are lists of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

from tower_memory._fields import MISSING, field
from tower_memory._history import History
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import ItemLinks
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import (
    OTHER_DIALECTS,
    describe_shape,
    is_instruction,
    partition,
    replace_messages,
)
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._provider_rules import apply_rules
from tower_memory.dialects._repair import is_valid, repair
from tower_memory.dialects._responses_rules import (
    RULES,
    ResponsesRules,
    has_refused_reasoning,
    without_refused_items,
)
from tower_memory.dialects._responses_stream import assemble_output, check_status
from tower_memory.dialects._text import streamed_text


@final
@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The dialect of OpenAI's ``responses.create``, and of agents that take and return its items.

    - **Request**: a mapping or an object with ``input`` (a string or a list of items), or a list of
      items. All other fields, such as ``instructions``, stay as they are.
    - **Response**: a mapping or an object with ``output``, an item, a string, or a list of items,
      which are those of the reply alone or of the whole conversation. Only new items are stored.
    - **Stream**: the events of a response, or strings.

    1. Items are stored as they came and sent back as they are, with ``encrypted_content``, ids and
       items of unknown types; rules 4 and 5 name the exceptions. An input that is a string is a
       message of the user.
    2. If the request has ``previous_response_id`` or ``conversation``, the server has the history.
       The request then stays as it is, and its new items and the reply are stored all the same.
    3. Items of the roles system and developer go in front of the history and are not stored.
    4. A history that was cut or interrupted is repaired. It starts where an exchange starts. A tool
       result without its tool call is left out. A call without its result gets a result that says
       that the call was interrupted, or is left out if its result cannot be text. A call with
       ``async`` stays as it is, because its result may still come. These items are left out, too:
       reasoning without an item that followed from it, messages without text, calls that the server
       has run itself and reported without a result, and an incomplete call that no result answers.
    5. Reasoning without ``encrypted_content`` is only a reference to the server's copy, which the
       server deletes after 30 days. Such reasoning is sent only in the last exchange, in which the
       model needs it. It is not sent if the request has ``store=False``; set this field in the
       request that the memory layer gets. If reasoning is left out, the items that followed from it
       are sent without their ids.
    6. A response that failed, was cancelled or has not ended is refused with `ValueError`, and so
       is a stream that ended before its response was complete. An interrupted stream stores its
       complete items, and a message with the rest of the text, marked as interrupted.

    >>> from tower_memory.dialects import OpenAIResponses
    >>> responses = OpenAIResponses()
    >>> request = {"model": "m", "input": "Hi"}
    >>> responses.new_items(request)
    [{'role': 'user', 'content': 'Hi'}]
    >>> responses.with_history(request, [{"role": "user", "content": "Before"}])["input"]
    [{'role': 'user', 'content': 'Before'}, {'role': 'user', 'content': 'Hi'}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(_input(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        instructions, new = _partition(_input(request))
        if _server_has_history(request):
            return request

        _check_each(history, "history")
        is_stored = field(request, "store") is not False
        is_cut = isinstance(history, History) and history.is_cut
        has_refused = has_refused_reasoning(history, new, is_stored=is_stored, is_cut=is_cut)

        conversation = [*history, *new]
        if has_refused or not is_valid(conversation, _RULES):
            past = without_refused_items(history, new, is_stored=is_stored, is_cut=is_cut)
            conversation = [*past, *new]
            if not is_valid(conversation, _RULES):
                past = apply_rules(RULES, past, new, _RULES, now=0)
                conversation = repair(past, new, _RULES)
        if not history:
            return request
        return replace_messages(request, "input", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            text = streamed_text(response)
            return assemble_output(response) if text is None else self.reply_items(request, text)

        if isinstance(response, str):
            return [{"role": "assistant", "content": str(response)}]

        if isinstance(response, (list, tuple)):
            items = _items(_check_items(response, "response"))
            return list(new_in_response(self.new_items(request), items, self.links))

        if (output := field(response, "output")) is not MISSING:
            check_status(response)
            return [to_builtins(item) for item in _check_items(output, "response.output", least=0)]

        if isinstance(field(response, "type"), str):
            return [to_builtins(response)]

        msg = (
            "response must have output, or be an item, a list of items or a string, "
            f"got {describe_shape(response)}; {OTHER_DIALECTS}"
        )
        raise TypeError(msg)

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        return _RULES.links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, conversation = _partition(_input(request))
        newest = conversation[len(conversation) - count :]
        return replace_messages(request, "input", [*instructions, *newest])


_RULES: Final = ResponsesRules()


def _input(request: Any) -> list[Any]:
    """Return the input items of *request*; none if the request has a field instead of input."""
    items = request if isinstance(request, (list, tuple)) else field(request, "input")
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    if items in (MISSING, None, []) and any(map(partial(_has, request), _INPUT_SUBSTITUTES)):
        return []
    if items is MISSING:
        msg = f"request must be a list of items or have input, got {describe_shape(request)}"
        raise TypeError(msg)
    return _check_items(items, "request.input")


_HISTORY_ON_SERVER: Final = ("previous_response_id", "conversation")
"""Fields of a request that tell the server to use the history that it has stored."""

_INPUT_SUBSTITUTES: Final = (*_HISTORY_ON_SERVER, "prompt")
"""Fields of a request that may stand for its input."""


def _server_has_history(request: Any) -> bool:
    return any(map(partial(_has, request), _HISTORY_ON_SERVER))


def _has(request: Any, name: str) -> bool:
    value = field(request, name)
    return value is not MISSING and bool(value)


def _check_items(items: Any, where: str, *, least: int = 1) -> list[Any]:
    """Return *items* as a list; refuse a value that is no list of at least *least* items."""
    if not isinstance(items, (list, tuple)):
        msg = f"{where} must be a list of items or a string, got {describe_shape(items)}"
        raise TypeError(msg)
    if len(items) < least:
        msg = f"{where} must have at least one item, got none"
        raise ValueError(msg)
    _check_each(items, where)
    return list(items)


def _check_each(items: Sequence[Any], where: str) -> None:
    """Refuse an element of *items* without a role, a type or an id."""
    for index, item in enumerate(items):
        if not any(isinstance(field(item, name), str) for name in ("role", "type", "id")):
            got = describe_shape(item)
            msg = f"{where}[{index}] must be an item with a type or a role, got {got}"
            raise TypeError(msg)


def _partition(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the instructions among *items*, and all other items."""
    return partition(items, _is_instruction)


def _is_instruction(item: Any) -> bool:
    """Return True if *item* is a message of the role system or developer."""
    return is_instruction(item) and field(item, "type") in (MISSING, "message")


def _items(items: Sequence[Any]) -> list[Any]:
    """Return *items* as they are stored, without instructions."""
    _, conversation = _partition(items)
    return [to_builtins(item) for item in conversation]
