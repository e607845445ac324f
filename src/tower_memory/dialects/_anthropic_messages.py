"""The dialect of Anthropic's messages: messages of a user and an assistant, made of blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile, takewhile
from typing import Any, Final, final

from tower_memory._fields import MISSING, field, list_field
from tower_memory._history import History
from tower_memory._reconcile import new_in_response
from tower_memory._tool_links import ItemLinks, is_plain, item_links, plain_links
from tower_memory.dialects._anthropic_stream import assemble_content
from tower_memory.dialects._builtins import to_builtins
from tower_memory.dialects._messages import (
    OTHER_DIALECTS,
    check_chat_messages,
    check_roles,
    describe_shape,
    is_instruction,
    partition,
    replace_messages,
    request_messages,
)
from tower_memory.dialects._protocol import Streamed
from tower_memory.dialects._repair import INTERRUPTED, holds_no_result, repair
from tower_memory.dialects._text import streamed_text

_INTERRUPTED_FIELDS: Final = {"content": INTERRUPTED, "is_error": True}


@final
@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The dialect of Anthropic's ``messages.create``, plain and streamed.

    - **Request**: a mapping or an object with ``messages``, or a list of messages. All other
      fields, such as ``system``, stay as they are.
    - **Response**: a message of the assistant, a string, or a mapping or an object with
      ``messages``, which are those of the reply alone or of the whole conversation. Only new
      messages are stored.
    - **Stream**: the events of a message, or strings.

    1. A reply is stored as it is sent back: its role and its content blocks, including thinking
       with its signatures and blocks of unknown types. A reply without content is not stored,
       because the provider would refuse it.
    2. ``cache_control`` belongs to one request and is not stored.
    3. System messages at the front of the request stay there and are not stored. A system message
       after other messages is part of the conversation.
    4. A history that was cut or interrupted is repaired. It starts with a message of the user. A
       tool result without its tool call is left out, and a call without its result gets a result
       that says it was interrupted. Calls of the provider's own tools without their results are
       left out, and so are empty texts.
    5. Thinking is bound to all items before it. If the history is cut, the thinking of completed
       exchanges is left out, as the provider advises
       (https://platform.claude.com/docs/build-with-claude/preserved-thinking).
    6. A stream without ``message_stop``, or with an unknown kind of delta, is refused with
       `ValueError`. Of an interrupted stream, the text and the complete blocks are stored, and a
       text block that says it was interrupted.

    >>> from tower_memory.dialects import AnthropicMessages
    >>> claude = AnthropicMessages()
    >>> request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    >>> response = {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}], "id": "1"}
    >>> claude.new_items(request)
    [{'role': 'user', 'content': 'Hi'}]
    >>> claude.reply_items(request, response)
    [{'role': 'assistant', 'content': [{'type': 'text', 'text': 'Hello!'}]}]
    """

    def new_items(self, request: Any, /) -> list[Any]:
        """See `Dialect.new_items`."""
        return _items(request_messages(request))

    def with_history(self, request: Any, history: Sequence[Any], /) -> Any:
        """See `Dialect.with_history`."""
        instructions, new = _partition(request_messages(request))

        past = list(dropwhile(_has_no_user_content, check_roles(history, "history")))
        if isinstance(history, History) and history.is_cut:
            past = _without_old_thinking(past, new)

        conversation = repair(
            _without_refused_blocks(past, new),
            new,
            links=self.links,
            separates=holds_no_result,
            add_results=_add_results,
            drop_results=_drop_results,
            results_together=True,
        )
        return replace_messages(request, "messages", [*instructions, *conversation])

    def reply_items(self, request: Any, response: Any, /) -> list[Any]:
        """See `Dialect.reply_items`."""
        content: Any
        if isinstance(response, Streamed):
            text = streamed_text(response)
            content = assemble_content(response) if text is None else text
        elif isinstance(response, str):
            content = str(response)
        elif (messages := field(response, "messages")) is not MISSING:
            items = _items(check_chat_messages(messages, "response.messages"))
            return list(new_in_response(self.new_items(request), items, self.links))
        elif field(response, "role") == "assistant":
            content = to_builtins(field(response, "content"))
        else:
            msg = (
                "response must be a message of the assistant, a string or have messages, "
                f"got {describe_shape(response)}; {OTHER_DIALECTS}"
            )
            raise TypeError(msg)

        if not isinstance(content, (list, str)):
            msg = f"response.content must be a list of blocks or text, got {type(content).__name__}"
            raise TypeError(msg)
        return [{"role": "assistant", "content": content}] if content else []

    def links(self, item: Any, /) -> ItemLinks:
        """See `LinkedDialect.links`."""
        return _links(item)

    def newest(self, request: Any, count: int, /) -> Any:
        """See `WholeRequests.newest`."""
        instructions, conversation = _partition(request_messages(request))
        return replace_messages(request, "messages", [*instructions, *conversation[-count:]])


def _links(message: Any) -> ItemLinks:
    if is_plain(message):
        return plain_links(message)

    blocks = list_field(message, "content")
    return item_links(
        [field(block, "id") for block in blocks if field(block, "type") == "tool_use"],
        [field(block, "tool_use_id") for block in blocks if _is_result(block)],
        starts_exchange=field(message, "role") == "user",
    )


def _is_result(block: Any) -> bool:
    return bool(field(block, "type") == "tool_result")


def _partition(messages: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return the instructions at the front of *messages*, and the rest."""
    instructions = list(takewhile(is_instruction, messages))
    return instructions, list(messages[len(instructions) :])


def _items(messages: Sequence[Any]) -> list[Any]:
    """Return *messages* as items, without the instructions at the front."""
    _, conversation = _partition(messages)
    return [_item(message) for message in conversation]


def _item(message: Any) -> dict[str, Any]:
    return {
        "role": field(message, "role"),
        "content": _without_cache_control(to_builtins(field(message, "content"))),
    }


def _without_cache_control(content: Any) -> Any:
    """Return *content* without the ``cache_control`` of its blocks and of blocks inside them."""
    if isinstance(content, list):
        return [_without_cache_control(block) for block in content]
    if not isinstance(content, dict):
        return content
    return {
        key: _without_cache_control(value) if key in ("content", "source") else value
        for key, value in content.items()
        if key != "cache_control"
    }


def _without_old_thinking(past: list[Any], new: list[Any]) -> list[Any]:
    """Return *past* without the thinking of completed exchanges."""
    starts = [
        number for number, message in enumerate([*past, *new]) if _links(message).starts_exchange
    ]
    last = max(starts, default=0)

    old = [_with_blocks(message, _is_not_thinking) for message in past[:last]]
    return [message for message in [*old, *past[last:]] if message is not None]


def _is_not_thinking(block: Any) -> bool:
    return bool(field(block, "type") not in ("thinking", "redacted_thinking"))


def _without_refused_blocks(past: list[Any], new: list[Any]) -> list[Any]:
    """Return *past* without the blocks that the provider would refuse.

    These are empty texts, and calls of the provider's own tools without a result. Such a call stays
    if its result may still come: it is in the last message of *past*, and *new* holds only results
    of other tools.
    """
    conversation = [*past, *new]
    brings_results_only = bool(new) and all(map(_has_no_user_content, new))

    messages: list[Any] = []
    for number, message in enumerate(past):
        nearby = conversation[number : number + 3]  # results of other tools may come first
        blocks = (block for each in nearby for block in list_field(each, "content"))
        answered = {field(block, "tool_use_id") for block in blocks}
        may_wait = brings_results_only and message is past[-1]
        is_accepted = partial(_is_accepted, answered=answered, may_wait=may_wait)
        messages.append(_with_blocks(message, is_accepted))

    return [message for message in messages if message is not None]


def _is_accepted(block: Any, answered: set[Any], *, may_wait: bool) -> bool:
    if str(field(block, "type")).endswith("_tool_use"):  # a tool that the provider runs itself
        return may_wait or field(block, "id") in answered
    return bool(field(block, "type") != "text" or field(block, "text") != "")


def _with_blocks(message: Any, select: Callable[[Any], bool]) -> Any | None:
    """Return *message* with the blocks for which *select* returns True; None if none remains.

    A message whose content is no list stays as it is.
    """
    content = field(message, "content")
    if not isinstance(content, list) or all(map(select, content)):
        return message

    blocks = list(filter(select, content))
    return {**message, "content": blocks} if blocks else None


def _has_no_user_content(message: Any) -> bool:
    """Return True if *message* is not from the user, or holds only tool results."""
    content = field(message, "content")
    results = [_is_result(block) for block in list_field(message, "content")]
    return field(message, "role") != "user" or (isinstance(content, list) and all(results))


def _add_results(run: list[Any], calls: list[str]) -> list[Any]:
    """Return *run* with all results in one message after the calls, before the user's other blocks.

    Each call of *calls* gets a result that says it was interrupted.
    """
    calling, *answers = run
    if len(answers) <= 1 and not calls:
        return run

    missing = [
        {"type": "tool_result", "tool_use_id": call, **_INTERRUPTED_FIELDS} for call in calls
    ]
    blocks = (block for answer in answers for block in list_field(answer, "content"))
    results, others = partition(blocks, _is_result)
    return [calling, {"role": "user", "content": [*missing, *results, *others]}]


def _drop_results(message: Any, calls: set[str]) -> Any | None:
    return _with_blocks(
        message, lambda block: not _is_result(block) or field(block, "tool_use_id") not in calls
    )
