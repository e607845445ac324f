"""The dialect of OpenAI's responses: the request and the response are lists of items."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from typing import Any, Final, final

from tower_memory._fields import MISSING, field
from tower_memory._history import History
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import ItemLinks, is_plain, item_links, plain_links
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import (
    OTHER_DIALECTS,
    describe_shape,
    is_instruction,
    partition,
    replace_messages,
)
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._repair import INTERRUPTED, nothing_left, repair, starts_exchange
from tower_memory.dialects._responses_stream import assemble_output, check_status
from tower_memory.dialects._text import streamed_text

_SHELL_OUTPUT: Final = {
    "stdout": "",
    "stderr": INTERRUPTED,
    "outcome": {"type": "exit", "exit_code": 1},
}

_INTERRUPTED_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "apply_patch_call": {"status": "failed", "output": INTERRUPTED},
    "custom_tool_call": {"output": INTERRUPTED},
    "function_call": {"output": INTERRUPTED},
    "local_shell_call": {"output": f'"{INTERRUPTED}"'},
    "mcp_approval_request": {"approve": False, "reason": INTERRUPTED},
    "shell_call": {"output": [_SHELL_OUTPUT]},
}
"""Fields of an interrupted result, by the type of the call.

Calls of other types, such as one that asks for a screenshot, cannot have such a result.
"""

_RESULT_TYPES: Final = {
    "apply_patch_call": "apply_patch_call_output",
    "computer_call": "computer_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "function_call": "function_call_output",
    "local_shell_call": "local_shell_call_output",
    "shell_call": "shell_call_output",
    "tool_search_call": "tool_search_output",
}
"""Type of the tool result for each type of tool call; both name the call in ``call_id``."""

_CALL_ID_FIELDS: Final = {
    **dict.fromkeys(_RESULT_TYPES, "call_id"),
    "mcp_approval_request": "id",
}
"""Name of the field that holds the id of a call, by the type of the item."""

_RESULT_ID_FIELDS: Final = {
    **dict.fromkeys(_RESULT_TYPES.values(), "call_id"),
    "mcp_approval_response": "approval_request_id",
}
"""Name of the field that holds the id of the answered call, by the type of the item."""

_DROPPED: Final = object()
"""Stands for a call that is left out, until `_without_unused_reasoning` removes it."""


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
       items of unknown types. An input that is a string is a message of the user.
    2. If the request has ``previous_response_id`` or ``conversation``, the server has the history.
       The request then stays as it is, and its new items and the reply are stored all the same.
    3. Items of the roles system and developer go in front of the history and are not stored.
    4. A history that was cut or interrupted is repaired. It starts where an exchange starts. A tool
       result without its tool call is left out. A call without its result gets a result that says
       it was interrupted, or is left out if its result cannot be text. A call with
       ``async`` stays as it is, because its result may still come. Reasoning without an item that
       followed from it is left out.
    5. A response that failed, was cancelled or has not ended is refused with `ValueError`, and so
       is a stream that ended before its response was complete. Of an interrupted stream, the
       complete items are stored, and a message with the rest of the text, marked as interrupted.

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
        conversation = repair(
            _from_exchange_start(history),
            new,
            links=self.links,
            separates=starts_exchange,
            add_results=_add_results,
            drop_results=nothing_left,
        )
        if not history:
            return request

        conversation = _without_unused_reasoning(conversation, new)
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
        return _links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, conversation = _partition(_input(request))
        return replace_messages(request, "input", [*instructions, *conversation[-count:]])


def _links(item: Any) -> ItemLinks:
    if is_plain(item):
        return plain_links(item)

    calls: list[Any] = []
    results: list[Any] = []
    kind = field(item, "type")
    if isinstance(kind, str) and field(item, "role") is MISSING:
        if kind in _CALL_ID_FIELDS and not _is_server_search(item):
            calls.append(field(item, _CALL_ID_FIELDS[kind]))
        if kind in _RESULT_ID_FIELDS:
            result = field(item, _RESULT_ID_FIELDS[kind])
            # The result of a local shell names its call in the field id.
            results.append(field(item, "id") if result is MISSING else result)

    return item_links(calls, results, starts_exchange=field(item, "role") == "user")


def _is_server_search(item: Any) -> bool:
    """Return True if *item* is a tool search that the server answers itself."""
    return bool(field(item, "type") == "tool_search_call" and field(item, "execution") != "client")


def _input(request: Any) -> list[Any]:
    """Return the input items of *request*; none if another field stands for the input."""
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
        msg = f"{where} must be a list of items or a string, got {reprlib.repr(items)}"
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
            got = reprlib.repr(item)
            msg = f"{where}[{index}] must be an item with a type or a role, got {got}"
            raise TypeError(msg)


def _partition(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the instructions among *items*, and all other items."""
    return partition(items, _is_instruction)


def _is_instruction(item: Any) -> bool:
    return is_instruction(item) and field(item, "type") in (MISSING, "message")


def _items(items: Sequence[Any]) -> list[Any]:
    """Return *items* as they are stored, without instructions."""
    _, conversation = _partition(items)
    return [to_builtins(item) for item in conversation]


def _from_exchange_start(history: Sequence[Any]) -> Sequence[Any]:
    """Return *history* without the rest of a turn whose start was cut off.

    The provider refuses an item of a response without the reasoning that led to it.
    """
    if not isinstance(history, History) or not history.is_cut:
        return history

    start = history.turns[0].position if history.turns else len(history)
    return [*dropwhile(_starts_no_exchange, history[:start]), *history[start:]]


def _starts_no_exchange(item: Any) -> bool:
    return not _links(item).starts_exchange


def _add_results(run: list[Any], calls: list[str]) -> list[Any]:
    """Return *run* with an interrupted result for each call of *calls*.

    A call that cannot have such a result is replaced by `_DROPPED`.
    """
    items: list[Any] = []
    results: list[Any] = []

    for item in run:
        unanswered = [call for call in _links(item).calls if call in calls]
        if not unanswered or field(item, "async") is True:  # its result may come at any time
            items.append(item)
        elif (kind := field(item, "type")) in _INTERRUPTED_FIELDS:
            items.append(item)
            results.append(_interrupted_result(item, kind, unanswered[0]))
        else:
            items.append(_DROPPED)

    return [*items, *results]


def _interrupted_result(item: Any, kind: str, call: str) -> dict[str, Any]:
    value = field(item, "caller")
    caller = {} if value in (MISSING, None) else {"caller": value}

    if kind == "mcp_approval_request":
        head = {"type": "mcp_approval_response", "approval_request_id": call}
    else:
        key = "id" if kind == "local_shell_call" else "call_id"
        head = {"type": f"{kind}_output", key: call}
    return {**head, **_INTERRUPTED_FIELDS[kind], **caller}


def _without_unused_reasoning(conversation: list[Any], new: list[Any]) -> list[Any]:
    """Return *conversation* without dropped calls, and without old reasoning that led to no item.

    The provider refuses reasoning without the item that followed from it.
    """
    items: list[Any] = []
    led_to_nothing = True
    for item in reversed(conversation):
        is_old_reasoning = field(item, "type") == "reasoning" and item not in new
        if item is not _DROPPED and not (is_old_reasoning and led_to_nothing):
            items.append(item)
        if not is_old_reasoning:
            led_to_nothing = item is _DROPPED or _links(item).starts_exchange
    return items[::-1]
