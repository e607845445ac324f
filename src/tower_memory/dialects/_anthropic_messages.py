"""Anthropic's messages: turns of a user and an assistant, each of content blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile, takewhile
from typing import Any, Final, final

from tower_memory._conversations import after
from tower_memory._history import History
from tower_memory._shapes import MISSING, field, is_result, opens, parts_of
from tower_memory.dialects._anthropic_events import content_of
from tower_memory.dialects._carried import (
    OTHERS,
    carrying,
    chat_messages,
    is_instruction,
    messages_of,
    parted,
    shape_of,
    with_roles,
)
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._mending import INTERRUPTED, is_no_result, mended
from tower_memory.dialects._plain import plain
from tower_memory.dialects._text import text_of

_NO_RESULT: Final = {"content": INTERRUPTED, "is_error": True}


@final
@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The dialect of Anthropic's ``messages.create``, plain and streamed.

    A request is a mapping or an object that has ``messages`` (``system`` and all else stay as they
    are), or a list of messages. A response is a message, a string, or has ``messages``: the
    reply's alone, or the whole conversation, whose new ones are taken. A stream is one of events.

    1. A reply is stored as it goes back: its role and its content, block by block, thinking with
       its signatures and blocks of unknown types included. A reply without content is not stored,
       as it would be refused.
    2. ``cache_control`` belongs to a request and is not stored.
    3. System messages before all others stay at the front of the request and are not stored; one
       further on is part of the conversation.
    4. The history is mended where it was cut or broken off: it begins with a user, a result
       without its call is left out, a call without its result is answered as interrupted, a call
       of the provider's own tools without its result is left out, and so is text that is empty.
    5. Thinking is bound to all that was before it. Where the history is cut, that of exchanges
       that are over is left out, as the provider advises
       (https://platform.claude.com/docs/build-with-claude/preserved-thinking).

    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    >>> response = {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}], "id": "1"}
    >>> AnthropicMessages().reply_items(request, response)
    [{'role': 'assistant', 'content': [{'type': 'text', 'text': 'Hello!'}]}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(messages_of(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        instructions, new = _parted(messages_of(request))
        past = list(dropwhile(_has_no_user, with_roles(history, "history")))
        if isinstance(history, History) and history.is_cut:
            past = _without_old_thinking(past, new)
        conversation = mended(
            _without_broken_blocks(past, new),
            new,
            breaks=is_no_result,
            answered=_answered,
            without=_without,
            at_once=True,
        )
        return carrying(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        content: Any
        if isinstance(response, Streamed):
            text = text_of(response)
            content = content_of(response) if text is None else text
        elif isinstance(response, str):
            content = str(response)
        elif (messages := field(response, "messages")) is not MISSING:
            got = _items(chat_messages(messages, "response.messages"))
            return list(after(self.new_items(request), got))
        elif field(response, "role") == "assistant":
            content = plain(field(response, "content"))
        else:
            msg = (
                "response must be a message of the assistant, a string or have messages, "
                f"got {shape_of(response)}; {OTHERS}"
            )
            raise TypeError(msg)
        if not isinstance(content, (list, str)):
            msg = f"response.content must be a list of blocks or text, got {type(content).__name__}"
            raise TypeError(msg)
        return [{"role": "assistant", "content": content}] if content else []

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, said = _parted(messages_of(request))
        return carrying(request, "messages", [*instructions, *said[-count:]])


def _parted(messages: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The instructions that *messages* begin with, and the conversation."""
    front = list(takewhile(is_instruction, messages))
    return front, list(messages[len(front) :])


def _items(messages: Sequence[Any]) -> list[Any]:
    _, said = _parted(messages)
    return [_item(message) for message in said]


def _item(message: Any) -> dict[str, Any]:
    return {"role": field(message, "role"), "content": _uncached(plain(field(message, "content")))}


def _uncached(content: Any) -> Any:
    """*content* without ``cache_control`` on its blocks, and on those that are in them."""
    if isinstance(content, list):
        return [_uncached(block) for block in content]
    if not isinstance(content, dict):
        return content
    return {
        key: _uncached(value) if key in ("content", "source") else value
        for key, value in content.items()
        if key != "cache_control"
    }


def _without_old_thinking(past: list[Any], new: list[Any]) -> list[Any]:
    """*past* without the thinking of exchanges that are over."""
    openings = [number for number, message in enumerate([*past, *new]) if opens(message)]
    last = max(openings, default=0)
    old = [_with_blocks(message, _is_no_thought) for message in past[:last]]
    return [message for message in [*old, *past[last:]] if message is not None]


def _is_no_thought(block: Any) -> bool:
    return bool(field(block, "type") not in ("thinking", "redacted_thinking"))


def _without_broken_blocks(past: list[Any], new: list[Any]) -> list[Any]:
    """*past* without what a provider would not take back: text that is empty, and calls of its own
    tools that it did not answer, and will not, as more follows than results of other tools.
    """
    said = [*past, *new]
    goes_on = bool(new) and all(map(_has_no_user, new))
    kept: list[Any] = []
    for number, message in enumerate(past):
        nearby = said[number : number + 3]  # its answer may come after others' results
        blocks = (block for each in nearby for block in parts_of(each, "content"))
        answered = {field(block, "tool_use_id") for block in blocks}
        may_wait = goes_on and message is past[-1]
        kept.append(_with_blocks(message, partial(_is_sound, answered=answered, may_wait=may_wait)))
    return [message for message in kept if message is not None]


def _is_sound(block: Any, answered: set[Any], *, may_wait: bool) -> bool:
    if str(field(block, "type")).endswith("_tool_use"):  # of the provider's own tools
        return may_wait or field(block, "id") in answered
    return bool(field(block, "type") != "text" or field(block, "text") != "")


def _with_blocks(message: Any, keep: Callable[[Any], bool]) -> Any | None:
    """*message* with those of its blocks, if it has any, that are to be kept; or None."""
    content = field(message, "content")
    if not isinstance(content, list) or all(map(keep, content)):
        return message
    kept = list(filter(keep, content))
    return {**message, "content": kept} if kept else None


def _has_no_user(message: Any) -> bool:
    """Whether *message* is not a user's, or has nothing of theirs but results."""
    content = field(message, "content")
    results = [is_result(block) for block in parts_of(message, "content")]
    return field(message, "role") != "user" or (isinstance(content, list) and all(results))


def _answered(run: list[Any], calls: list[str]) -> list[Any]:
    """All results follow the calls in one message, before whatever else the user says."""
    calling, *answers = run
    if len(answers) <= 1 and not calls:
        return run
    missing = [{"type": "tool_result", "tool_use_id": call, **_NO_RESULT} for call in calls]
    blocks = (block for answer in answers for block in parts_of(answer, "content"))
    results, said = parted(blocks, is_result)
    return [calling, {"role": "user", "content": [*missing, *results, *said]}]


def _without(message: Any, calls: set[str]) -> Any | None:
    return _with_blocks(
        message, lambda block: not is_result(block) or field(block, "tool_use_id") not in calls
    )
