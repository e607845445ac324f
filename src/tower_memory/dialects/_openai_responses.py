"""OpenAI's responses: items in, items out."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any, Final, final

from tower_memory._conversations import after
from tower_memory._sessions import History
from tower_memory._shapes import MISSING, calls_of, field, opens
from tower_memory.dialects._carried import carrying, parted
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._mending import INTERRUPTED, mended
from tower_memory.dialects._plain import plain
from tower_memory.dialects._response_events import check_status, output_of
from tower_memory.dialects._text import text_of

_ANSWERABLE: Final = frozenset({"function_call", "custom_tool_call"})
"""The calls whose result is text, so that it can say that there is none."""


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
        instructions, new = parted(_input(request))
        if not history or _is_held_by_the_server(request):
            return request
        conversation = mended(
            _from_beginning(history),
            new,
            breaks=opens,
            answered=_answered,
            without=_nothing_left,
        )
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
            return _items(_listed(output, "response.output"))
        if isinstance(field(response, "type"), str):
            return [plain(response)]
        msg = (
            "response must have output, or be an item, a list of items or a string, "
            f"got {type(response).__name__}; write a dialect for it"
        )
        raise TypeError(msg)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, said = parted(_input(request))
        return carrying(request, "input", [*instructions, *said[-count:]])


def _input(request: Any) -> list[Any]:
    given = request if isinstance(request, (list, tuple)) else field(request, "input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not given and _is_held_by_the_server(request):  # which may have all it needs
        return []
    return _listed(given, "request.input")


def _is_held_by_the_server(request: Any) -> bool:
    """Whether the history that belongs to *request* is with the server."""
    names = ("previous_response_id", "conversation")
    return any(
        field(request, name) not in (MISSING, None) and field(request, name) for name in names
    )


def _listed(items: Any, where: str) -> list[Any]:
    if not isinstance(items, (list, tuple)):
        msg = f"{where} must be a list of items or a string, got {reprlib.repr(items)}"
        raise TypeError(msg)
    if not items:
        msg = f"{where} must have at least one item, got none"
        raise ValueError(msg)
    for index, item in enumerate(items):
        if not any(isinstance(field(item, name), str) for name in ("role", "type")):
            msg = (
                f"{where}[{index}] must be an item with a type or a role, got {reprlib.repr(item)}"
            )
            raise TypeError(msg)
    return list(items)


def _items(items: Sequence[Any]) -> list[Any]:
    """*items* as they are stored: all but the instructions."""
    _, said = parted(items)
    return [plain(item) for item in said]


def _from_beginning(history: Sequence[Any]) -> Sequence[Any]:
    """*history* without the rest of a turn whose beginning a limit cut off.

    An item of a response may not be sent without the reasoning that it came of.
    """
    if isinstance(history, History) and not any(turn.position == 0 for turn in history.turns):
        start = history.turns[0].position if history.turns else len(history)
        return [*dropwhile(_is_no_beginning, history[:start]), *history[start:]]
    return history


def _is_no_beginning(item: Any) -> bool:
    return not opens(item)


def _answered(run: list[Any], calls: list[str]) -> list[Any]:
    unanswered = [item for item in run if any(call in calls for call in calls_of(item))]
    answers = [
        {"type": f"{kind}_output", "call_id": field(item, "call_id"), "output": INTERRUPTED}
        for item in unanswered
        if (kind := field(item, "type")) in _ANSWERABLE
    ]
    answered = [answer["call_id"] for answer in answers]
    dropped = [item for item in unanswered if field(item, "call_id") not in answered]
    return [*(item for item in run if item not in dropped), *answers]


def _nothing_left(_item: Any, _calls: set[str]) -> None:
    """An item that is a result is nothing else."""


def _followed(conversation: list[Any], new: list[Any]) -> list[Any]:
    """*conversation* without old reasoning of which nothing came."""
    kept: list[Any] = []
    for item in reversed(conversation):
        is_thought = field(item, "type") == "reasoning"
        if is_thought and item not in new and (not kept or opens(kept[-1])):
            continue
        kept.append(item)
    return kept[::-1]
