"""Anthropic's messages: turns of a user and an assistant, each of content blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any, Final, final

from tower_memory._conversations import after
from tower_memory._shapes import MISSING, field, is_result, parts_of, results_of
from tower_memory.dialects._anthropic_events import content_of
from tower_memory.dialects._carried import carried, carrying, listed, parted, with_roles
from tower_memory.dialects._dialect import Streamed
from tower_memory.dialects._mending import INTERRUPTED, mended
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
    3. Messages of the role system stay at the front of the request and are not stored.
    4. The history is mended where it was cut or broken off: it begins with a user, a result
       without its call is left out, a call without its result is answered as interrupted.

    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    >>> response = {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}], "id": "1"}
    >>> AnthropicMessages().reply_items(request, response)
    [{'role': 'assistant', 'content': [{'type': 'text', 'text': 'Hello!'}]}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(_messages(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        instructions, new = parted(_messages(request))
        conversation = mended(
            list(dropwhile(_has_no_user, history)),
            new,
            breaks=_is_no_result,
            answered=_answered,
            without=_without,
        )
        return carrying(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        content: Any
        if isinstance(response, Streamed):
            content = text_of(response) or content_of(response)
        elif isinstance(response, str):
            content = str(response)
        elif (messages := field(response, "messages")) is not MISSING:
            where = "response.messages"
            got = _items(with_roles(listed(messages, where), where))
            return list(after(self.new_items(request), got))
        elif field(response, "role") == "assistant":
            content = plain(field(response, "content"))
        else:
            msg = (
                "response must be a message of the assistant, a string or have messages, "
                f"got {type(response).__name__}; write a dialect for it"
            )
            raise TypeError(msg)
        if not isinstance(content, (list, str)):
            msg = f"response.content must be a list of blocks or text, got {type(content).__name__}"
            raise TypeError(msg)
        return [{"role": "assistant", "content": content}] if content else []

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, said = parted(_messages(request))
        return carrying(request, "messages", [*instructions, *said[-count:]])


def _messages(request: Any) -> Sequence[Any]:
    return with_roles(carried(request, "messages"), "request.messages")


def _items(messages: Iterable[Any]) -> list[Any]:
    _, said = parted(messages)
    return [_item(message) for message in said]


def _item(message: Any) -> dict[str, Any]:
    return {"role": field(message, "role"), "content": _uncached(plain(field(message, "content")))}


def _uncached(content: Any) -> Any:
    """*content* without ``cache_control``, on its blocks and on those in its results."""
    if not isinstance(content, list):
        return content
    return [
        {
            key: _uncached(value) if key == "content" else value
            for key, value in block.items()
            if key != "cache_control"
        }
        if isinstance(block, dict)
        else block
        for block in content
    ]


def _has_no_user(message: Any) -> bool:
    """Whether *message* is not a user's, or has nothing of theirs but results."""
    content = field(message, "content")
    results = [is_result(block) for block in parts_of(message, "content")]
    return field(message, "role") != "user" or (isinstance(content, list) and all(results))


def _is_no_result(message: Any) -> bool:
    return not results_of(message)


def _answered(run: list[Any], calls: list[str]) -> list[Any]:
    """All results follow the calls in one message, before whatever else the user says."""
    calling, *answers = run
    if len(answers) == 1 and not calls:
        return run
    blocks = [block for answer in answers for block in parts_of(answer, "content")]
    content = [
        *({"type": "tool_result", "tool_use_id": call, **_NO_RESULT} for call in calls),
        *(block for block in blocks if is_result(block)),
        *(block for block in blocks if not is_result(block)),
    ]
    return [calling, {"role": "user", "content": content}] if content else run


def _without(message: Any, calls: set[str]) -> Any | None:
    blocks = [
        block
        for block in parts_of(message, "content")
        if not is_result(block) or field(block, "tool_use_id") not in calls
    ]
    return {"role": "user", "content": blocks} if blocks else None
