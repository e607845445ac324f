"""OpenAI's responses: items in, items out."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from typing import Any, Final, final

from tower_memory._conversations import after
from tower_memory._history import History
from tower_memory._shapes import MISSING, calls_of, field, opens
from tower_memory.dialects._carried import OTHERS, carrying, is_instruction, parted, shape_of
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._mending import INTERRUPTED, mended, nothing_left
from tower_memory.dialects._plain import plain
from tower_memory.dialects._response_events import check_status, output_of
from tower_memory.dialects._text import text_of

_SHELL: Final = {"stdout": "", "stderr": INTERRUPTED, "outcome": {"type": "exit", "exit_code": 1}}

_NO_RESULT: Final[dict[str, dict[str, Any]]] = {
    "apply_patch_call": {"status": "failed", "output": INTERRUPTED},
    "custom_tool_call": {"output": INTERRUPTED},
    "function_call": {"output": INTERRUPTED},
    "local_shell_call": {"output": f'"{INTERRUPTED}"'},
    "mcp_approval_request": {"approve": False, "reason": INTERRUPTED},
    "shell_call": {"output": [_SHELL]},
}
"""What says of a call that it has no result. Of others nothing can, such as a screenshot."""

_LEFT_OUT: Final = object()
"""Stands for a call that is left out."""


@final
@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The dialect of OpenAI's ``responses.create``, plain and streamed.

    A request is a mapping or an object with ``input`` (a string or a list of items), or a list of
    items. A response is one with ``output``, an item, a string, or a list of items: the reply's
    alone, or the whole conversation, whose new ones are taken. A stream is one of events.

    1. Items are stored as they came and go back as they are, ``encrypted_content``, ids and items
       of unknown types included. Input that is a string is a user's message.
    2. Where the request has ``previous_response_id`` or ``conversation``, the server holds the
       history: the request is left as it is. What it adds is stored all the same.
    3. ``instructions`` stay as they are; items of the roles system and developer stay at the front
       of the input and are not stored.
    4. The history is mended where it was cut or broken off: it begins where an exchange begins, a
       result without its call is left out, a call without its result is answered as interrupted
       or, where a result cannot be text, left out; so is reasoning of which nothing came.

    >>> responses = OpenAIResponses()
    >>> responses.new_items({"model": "m", "input": "Hi"})
    [{'role': 'user', 'content': 'Hi'}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(_input(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        instructions, new = _parted(_input(request))
        if _is_held_by_the_server(request):
            return request
        _check(history, "history")
        conversation = mended(
            _from_beginning(history), new, breaks=opens, answered=_answered, without=nothing_left
        )
        if not history:
            return request
        return carrying(request, "input", [*instructions, *_followed(conversation, new)])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        if isinstance(response, Streamed):
            text = text_of(response)
            return output_of(response) if text is None else self.reply_items(request, text)
        if isinstance(response, str):
            return [{"role": "assistant", "content": str(response)}]
        if isinstance(response, (list, tuple)):
            got = _items(_listed(response, "response"))
            return list(after(self.new_items(request), got))
        if (output := field(response, "output")) is not MISSING:
            check_status(response)
            return [plain(item) for item in _listed(output, "response.output", least=0)]
        if isinstance(field(response, "type"), str):
            return [plain(response)]
        msg = (
            "response must have output, or be an item, a list of items or a string, "
            f"got {shape_of(response)}; {OTHERS}"
        )
        raise TypeError(msg)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, said = _parted(_input(request))
        return carrying(request, "input", [*instructions, *said[-count:]])


def _input(request: Any) -> list[Any]:
    given = request if isinstance(request, (list, tuple)) else field(request, "input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if given in (MISSING, None, []) and any(map(partial(_has, request), _HAVE_INPUT)):
        return []
    if given is MISSING:
        msg = f"request must be a list of items or have input, got {shape_of(request)}"
        raise TypeError(msg)
    return _listed(given, "request.input")


_SERVER_HOLDS_IT: Final = ("previous_response_id", "conversation")

_HAVE_INPUT: Final = (*_SERVER_HOLDS_IT, "prompt")
"""What may stand in a request for its input."""


def _is_held_by_the_server(request: Any) -> bool:
    """Whether the history that belongs to *request* is with the server."""
    return any(map(partial(_has, request), _SERVER_HOLDS_IT))


def _has(request: Any, name: str) -> bool:
    value = field(request, name)
    return value is not MISSING and bool(value)


def _listed(items: Any, where: str, *, least: int = 1) -> list[Any]:
    if not isinstance(items, (list, tuple)):
        msg = f"{where} must be a list of items or a string, got {reprlib.repr(items)}"
        raise TypeError(msg)
    if len(items) < least:
        msg = f"{where} must have at least one item, got none"
        raise ValueError(msg)
    _check(items, where)
    return list(items)


def _check(items: Sequence[Any], where: str) -> None:
    for index, item in enumerate(items):
        if not any(isinstance(field(item, name), str) for name in ("role", "type", "id")):
            got = reprlib.repr(item)
            msg = f"{where}[{index}] must be an item with a type or a role, got {got}"
            raise TypeError(msg)


def _parted(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The messages of *items* that are instructions, and all else."""
    return parted(items, _is_instruction)


def _is_instruction(item: Any) -> bool:
    return is_instruction(item) and field(item, "type") in (MISSING, "message")


def _items(items: Sequence[Any]) -> list[Any]:
    """*items* as they are stored: all but the instructions."""
    _, said = _parted(items)
    return [plain(item) for item in said]


def _from_beginning(history: Sequence[Any]) -> Sequence[Any]:
    """*history* without the rest of a turn whose beginning was cut off.

    An item of a response may not be sent without the reasoning that it came of.
    """
    if not isinstance(history, History) or not history.is_cut:
        return history
    start = history.turns[0].position if history.turns else len(history)
    return [*dropwhile(_is_no_beginning, history[:start]), *history[start:]]


def _is_no_beginning(item: Any) -> bool:
    return not opens(item)


def _answered(run: list[Any], calls: list[str]) -> list[Any]:
    """The run with results that say that there are none, and without calls that can have none."""
    answered: list[Any] = []
    missing: list[Any] = []
    for item in run:
        unanswered = [call for call in calls_of(item) if call in calls]
        if not unanswered or field(item, "async") is True:  # which may be answered at any time
            answered.append(item)
        elif (kind := field(item, "type")) in _NO_RESULT:
            answered.append(item)
            missing.append(_no_result(item, kind, unanswered[0]))
        else:
            answered.append(_LEFT_OUT)
    return [*answered, *missing]


def _no_result(item: Any, kind: str, call: str) -> dict[str, Any]:
    caller = {} if (found := field(item, "caller")) in (MISSING, None) else {"caller": found}
    if kind == "mcp_approval_request":
        head = {"type": "mcp_approval_response", "approval_request_id": call}
    else:
        key = "id" if kind == "local_shell_call" else "call_id"
        head = {"type": f"{kind}_output", key: call}
    return {**head, **_NO_RESULT[kind], **caller}


def _followed(conversation: list[Any], new: list[Any]) -> list[Any]:
    """*conversation* without what is left out, and without old reasoning of which nothing came."""
    kept: list[Any] = []
    nothing_came = True
    for item in reversed(conversation):
        is_thought = field(item, "type") == "reasoning" and item not in new
        if item is not _LEFT_OUT and not (is_thought and nothing_came):
            kept.append(item)
        if not is_thought:
            nothing_came = item is _LEFT_OUT or opens(item)
    return kept[::-1]
